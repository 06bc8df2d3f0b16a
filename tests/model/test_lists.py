"""Lists from scores: order, caps, diversity, thresholds and auction prices, on drawn candidates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.model.lists_recllm import arrange
from recllm.model.strategy_recllm import ranked

EXAMPLES = settings(max_examples=60)
SEEDS = st.integers(0, 10_000)
SIZES = st.integers(1, 12)
AUCTION = {"strategy": "expected_value", "outcome": "click", "value": "bid"}


def drawn(seed, count):
    """Candidates with distinct scores: predictions, values, two lists of category values each, unit vectors."""
    rng = np.random.default_rng(seed)
    contents = rng.normal(size=(count, 4))
    predictions = {"click": rng.random(count) * 0.9 + 0.05, "purchase": rng.random(count) * 0.5}
    groups = [list(rng.choice(list("abc"), rng.integers(0, 3), replace=False)) for _ in range(count)]
    return predictions, np.round(rng.random(count) * 3, 2), groups, contents / np.linalg.norm(contents, axis=1, keepdims=True)


def all_settings(seed):
    """A random mix of everything that composes."""
    rng = np.random.default_rng(seed + 1)
    auction = {"payment": rng.choice(["second", "first"]), "floor": float(rng.choice([0.0, 0.4]))}
    base = {**AUCTION, "auction": auction} if rng.random() < 0.5 else {"strategy": "weighted", "weights": {"click": 1.0, "purchase": 2.0}}
    return {**base, "thresholds": {"click": 0.3} if rng.random() < 0.5 else {}, "diversity": float(rng.choice([0.0, 0.3, 1.0])),
            "cap": {"field": "topic", "most": int(rng.integers(1, 3))} if rng.random() < 0.5 else None}  # fmt: skip


def listed(chosen, candidates, top_k):
    predictions, value, groups, contents = candidates
    return ranked(chosen, predictions, value, "click", top_k, groups, contents)


@EXAMPLES
@given(SEEDS, SIZES, st.integers(0, 14))
def test_a_list_is_never_longer_than_asked_and_names_nobody_twice(seed, count, top_k):
    found = listed(all_settings(seed), drawn(seed, count), top_k)
    assert len(found.places) <= min(top_k, count)
    assert len(set(found.places)) == len(found.places) == len(found.score)


@EXAMPLES
@given(SEEDS, SIZES)
def test_a_cap_is_never_exceeded_in_any_value_of_a_list_field(seed, count):
    # given random other settings and a cap
    candidates = drawn(seed, count)
    chosen = {**all_settings(seed), "cap": {"field": "topic", "most": 2}}
    found = listed(chosen, candidates, count)
    # then no value is there more than twice
    values = [v for place in found.places for v in candidates[2][place]]
    assert max((values.count(v) for v in values), default=0) <= 2
    # and whoever was left out would exceed it
    floor = (chosen.get("auction") or {"floor": -1})["floor"]
    for place in set(range(count)) - set(found.places.tolist()):
        full = any(values.count(v) == 2 for v in candidates[2][place])
        assert full or candidates[1][place] < floor


@EXAMPLES
@given(SEEDS, SIZES, st.integers(1, 12))
def test_diversity_0_is_the_plain_order(seed, count, top_k):
    candidates = drawn(seed, count)
    score = candidates[0]["click"]
    found = listed({"diversity": 0.0}, candidates, top_k)
    assert found.places.tolist() == np.argsort(-score, kind="stable")[:top_k].tolist()
    assert found.score.tolist() == sorted(score, reverse=True)[:top_k]


def test_equal_candidates_stay_in_the_order_given():
    assert arrange(np.array([1.0, 2.0, 2.0, 1.0]), 4).places.tolist() == [1, 2, 0, 3]


@EXAMPLES
@given(SEEDS, st.integers(0, 25), st.integers(0, 14), st.booleans(), st.booleans())
def test_an_order_by_score_is_what_taking_the_best_again_and_again_gives(seed, count, top_k, capped, tiers):
    # given candidates of few different scores
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 4, count) / 4
    keep, front = rng.random(count) < 0.8, rng.random(count) < 0.5 if tiers else np.ones(count, dtype=bool)
    groups = [list(rng.choice(list("abc"), rng.integers(0, 3), replace=False)) for _ in range(count)] if capped else None
    most = int(rng.integers(1, 4))
    # when one is taken at a time: of those that may still enter, the first tier's best, of equal ones the first
    left, places, needed = set(np.flatnonzero(keep).tolist()), [], []
    while left and len(places) < top_k:
        order = sorted(left, key=lambda k: (not front[k], -score[k], k))
        rest = [k for k in order[1:] if front[k] == front[order[0]]]
        places.append(order[0])
        needed.append(score[rest[0]] if rest else -np.inf)
        full = {v for v in "abc" if capped and sum(v in groups[k] for k in places) >= most}
        left = {k for k in left if k != order[0] and not (capped and full & set(groups[k]))}
    # then
    found = arrange(score, top_k, keep=keep, front=front if tiers else None, groups=groups, most=most)
    assert (found.places.tolist(), found.needed.tolist()) == (places, needed)


@EXAMPLES
@given(SEEDS, SIZES)
def test_a_list_does_not_depend_on_the_order_of_the_candidates(seed, count):
    # given candidates, and the same ones shuffled
    predictions, value, groups, contents = candidates = drawn(seed, count)
    order = np.random.default_rng(seed + 2).permutation(count)
    shuffled = ({n: p[order] for n, p in predictions.items()}, value[order], [groups[i] for i in order], contents[order])
    chosen = all_settings(seed)
    score = listed({**chosen, "diversity": 0.0, "cap": None}, candidates, count).score
    if len(np.unique(score)) < len(score):
        return  # equal scores are a matter of order by intention
    # then
    found, again = listed(chosen, candidates, count), listed(chosen, shuffled, count)
    assert found.places.tolist() == order[again.places].tolist()
    if found.price is not None:
        np.testing.assert_allclose(found.price, again.price, atol=1e-9)


@EXAMPLES
@given(SEEDS, SIZES, st.sampled_from([0.1, 0.5, 0.9]))
def test_diversity_takes_the_greatest_marginal_relevance_at_every_place(seed, count, diversity):
    # given the loop of Carbonell and Goldstein's formula over scores scaled to [0, 1]
    candidates = drawn(seed, count)
    score, contents = candidates[0]["click"], candidates[3]
    scaled = (score - score.min()) / (np.ptp(score) or 1.0)
    expected = []
    while len(expected) < count:
        merit = {i: (1 - diversity) * scaled[i] - diversity * max((contents[i] @ contents[j] for j in expected), default=0.0)
                 for i in range(count) if i not in expected}  # fmt: skip
        expected.append(max(merit, key=merit.get))
    assert listed({"diversity": diversity}, candidates, count).places.tolist() == expected


def test_diversity_1_starts_with_the_best_and_goes_on_with_the_most_different():
    contents = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert arrange(np.array([0.8, 0.9, 0.1]), 3, diversity=1.0, contents=contents).places.tolist() == [1, 2, 0]


@EXAMPLES
@given(SEEDS, SIZES)
def test_whoever_is_below_a_threshold_comes_behind_all_others(seed, count):
    candidates = drawn(seed, count)
    found = listed({"strategy": "expected_value", "outcome": "purchase", "thresholds": {"click": 0.4}}, candidates, count)
    below = candidates[0]["click"][found.places] < 0.4
    assert len(below) == count and (np.diff(below.astype(int)) >= 0).all()
    for part in (found.score[below], found.score[~below]):
        assert (np.diff(part) <= 0).all()


@EXAMPLES
@given(SEEDS, SIZES)
def test_a_price_lies_between_floor_and_bid(seed, count):
    candidates = drawn(seed, count)
    chosen = {**all_settings(seed), **AUCTION, "auction": {"payment": "second", "floor": 0.4}}
    found = listed(chosen, candidates, count)
    bid = candidates[1][found.places]
    assert (found.price >= 0.4).all() and (found.price <= bid).all()
    first = listed({**chosen, "auction": {"payment": "first", "floor": 0.4}}, candidates, count)
    assert first.places.tolist() == found.places.tolist() and (first.price == bid).all()


@EXAMPLES
@given(SEEDS, SIZES, st.integers(1, 5))
def test_the_second_price_is_the_next_score_over_the_own_probability(seed, count, top_k):
    # given an auction and nothing else
    predictions, value, *_ = candidates = drawn(seed, count)
    found = listed({**AUCTION, "auction": {"payment": "second", "floor": 0.2}}, candidates, top_k)
    # when everybody who bids enough is put in order by hand
    order = [i for i in np.argsort(-value * predictions["click"], kind="stable") if value[i] >= 0.2]
    score = value * predictions["click"]
    expected = [max(0.2, score[order[k + 1]] / predictions["click"][i]) if k + 1 < len(order) else 0.2 for k, i in enumerate(order)]
    # then the last listed one pays for the first who is not, and the last of all pays the floor
    assert found.places.tolist() == order[:top_k]
    np.testing.assert_allclose(found.price, expected[:top_k], rtol=1e-12)


@EXAMPLES
@given(SEEDS, st.integers(2, 8), st.sampled_from([0.0, 0.4]))
def test_a_second_price_is_the_least_bid_that_keeps_the_place(seed, count, diversity):
    # given any composition; the scale of diversity is that of the request, so its ends must not move: the best and worst stay as they are
    predictions, value, groups, contents = drawn(seed, count)
    chosen = {**AUCTION, "auction": {"floor": 0.0}, "diversity": diversity, "thresholds": {"purchase": 0.2},
              "cap": {"field": "topic", "most": 1}}  # fmt: skip
    found = ranked(chosen, predictions, value, "click", count, groups, contents)
    score = value * predictions["click"]
    for k, place in enumerate(found.places):
        if score[place] in (score.max(), score.min()) and diversity:
            continue
        for change, keeps in ((1.001, True), (0.999, False)):
            bid = found.price[k] * change
            if bid == 0 or bid > value[place] or found.price[k] * predictions["click"][place] < score.min() * 1.01:
                continue
            other = ranked(chosen, predictions, np.where(np.arange(count) == place, bid, value), "click", count, groups, contents)
            before = other.places[:k].tolist() == found.places[:k].tolist()
            assert not before or (other.places[k] == place) == keeps


def test_without_a_bid_nobody_takes_part():
    value = np.array([np.nan, 1.0, 0.1, -2.0])
    found = ranked({**AUCTION, "auction": {"floor": 0.5}}, {"click": np.full(4, 0.5)}, value, "click", 4)
    assert found.places.tolist() == [1] and found.price.tolist() == [0.5]
    nobody = ranked({**AUCTION, "auction": {"floor": 9.0}}, {"click": np.full(4, 0.5)}, value, "click", 4)
    assert len(nobody.places) == len(nobody.price) == 0


@pytest.mark.parametrize("old", [{}, {"strategy": "weighted", "weights": {}, "value": None, "outcome": None}])
def test_settings_of_an_earlier_release_rank_as_they_did(old):
    predictions = {"click": np.array([0.1, 0.3, 0.2]), "purchase": np.zeros(3)}
    found = ranked(old, predictions, np.ones(3), "click", 2)
    assert found.places.tolist() == [1, 2] and found.price is None
