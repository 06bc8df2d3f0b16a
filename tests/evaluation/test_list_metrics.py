"""List metrics against loops that are too slow to use but too plain to be wrong."""

from itertools import combinations, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.evaluation.metrics import lists

EXAMPLES = settings(max_examples=60)
SEEDS = st.integers(0, 10_000)
ITEMS, K = 9, 4


def drawn(seed):
    """Lists of up to K of ITEMS items, padded with -1; gains of all items per list; vectors, one of them zero; counts with zeros."""
    rng = np.random.default_rng(seed)
    items = np.full((6, K), -1)
    for row in items:
        size = rng.integers(0, K + 1)
        row[:size] = rng.permutation(ITEMS)[:size]
    gains = rng.random((6, ITEMS)) if seed % 2 else (rng.random((6, ITEMS)) < 0.3).astype(float)
    vectors = rng.normal(size=(ITEMS, 3))
    vectors[0] = 0
    return items, gains, vectors, rng.integers(0, 5, ITEMS)


def loop(items, value):
    """`value` of each list's items, NaN where it gives None."""
    found = [value(row, [i for i in places if i >= 0]) for row, places in enumerate(items.tolist())]
    return np.array([np.nan if v is None else v for v in found])


def gained(items, gains):
    return np.where(items >= 0, np.take_along_axis(gains, np.maximum(items, 0), axis=1), 0.0)


def same(left, right):
    np.testing.assert_allclose(left, right, atol=1e-12)


@EXAMPLES
@given(SEEDS)
def test_ndcg_equals_the_loop_over_positions(seed):
    items, gains, *_ = drawn(seed)

    def dcg(values):
        return sum(g / log2(p + 1) for p, g in enumerate(values, start=1))

    def plain(row, places):
        best = dcg(sorted(gains[row], reverse=True)[:K])
        return dcg(gains[row][places]) / best if best else None

    ideal = -np.sort(-gains, axis=1)[:, :K]
    found = lists.per_list_ndcg(gained(items, gains), ideal[:, ::-1])
    same(found, loop(items, plain))
    assert np.nanmax(found, initial=0) <= 1 + 1e-12


@EXAMPLES
@given(SEEDS)
def test_a_hit_is_a_hit_and_a_probability_of_one(seed):
    items, gains, *_ = drawn(seed)

    def plain(row, places):
        missed = 1.0
        for i in places:
            missed *= 1 - gains[row, i]
        return 1 - missed

    found = lists.per_list_hit(gained(items, gains))
    same(found, loop(items, plain))
    if seed % 2 == 0:
        same(found, loop(items, lambda row, places: float(any(gains[row, i] for i in places))))


@EXAMPLES
@given(SEEDS)
def test_diversity_equals_the_loop_over_pairs(seed):
    items, _, vectors, _ = drawn(seed)

    def apart(i, j):
        length = np.linalg.norm(vectors[i]) * np.linalg.norm(vectors[j])
        return 1 - (vectors[i] @ vectors[j] / length if length else 0)

    same(lists.per_list_diversity(items, vectors),
         loop(items, lambda _, places: np.mean([apart(i, j) for i, j in combinations(places, 2)]) if len(places) > 1 else None))


@EXAMPLES
@given(SEEDS)
def test_novelty_and_popularity_equal_loops_over_items(seed):
    items, _, _, counts = drawn(seed)
    total = sum(int(c) + 1 for c in counts)
    same(lists.per_list_novelty(items, counts),
         loop(items, lambda _, places: np.mean([-log2((counts[i] + 1) / total) for i in places]) if places else None))
    mean = sum(counts) / ITEMS
    same(lists.per_list_popularity(items, counts),
         loop(items, lambda _, places: sum(counts[i] for i in places) / len(places) / mean if places and mean else None))


@EXAMPLES
@given(SEEDS)
def test_coverage_counts_each_item_once_for_the_whole_and_for_a_resample(seed):
    items, *_ = drawn(seed)
    users = np.random.default_rng(seed).integers(0, 3, len(items))
    statistic = lists.Coverage.of(users, items, 3, ITEMS)
    weights = np.array([[1.0, 1, 1], [0, 2, 1], [0, 0, 3]])
    for row, value in zip(weights, statistic.resample(weights), strict=True):
        drawn_lists = items[row[users] > 0]
        assert value == pytest.approx(len({i for i in drawn_lists.ravel().tolist() if i >= 0}) / ITEMS)
    assert lists.coverage(items, ITEMS) == pytest.approx(statistic.resample(weights)[0])


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 3))
def test_one_target_among_ties_counts_as_the_mean_over_all_ways_to_break_them(seed, k):
    # given rankings of five items with ties, one of them not ranked
    rng = np.random.default_rng(seed)
    score = rng.integers(0, 3, (4, 5)).astype(float)
    score[0, 0] = -np.inf
    target = rng.integers(0, 5, 4)
    target[1] = 0
    hit, ndcg = lists.per_target(score, target, k)
    for row in range(4):
        # when every order that agrees with the scores is looked at
        orders = [o for o in permutations(range(5)) if all(score[row, a] >= score[row, b] for a, b in zip(o, o[1:], strict=False))]
        places = [o.index(target[row]) + 1 if np.isfinite(score[row, target[row]]) else k + 1 for o in orders]
        # then
        same(hit[row], np.mean([p <= k for p in places]))
        same(ndcg[row], np.mean([1 / log2(p + 1) if p <= k else 0 for p in places]))


def test_a_target_that_is_not_ranked_is_a_miss():
    hit, ndcg = lists.per_target(np.array([[-np.inf, 1.0, -np.inf]]), np.array([0]))
    assert hit.tolist() == ndcg.tolist() == [0.0]
