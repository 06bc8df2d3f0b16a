"""Which items are nearest: the same as by sorting the whole catalogue in double precision, ties included."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from recllm.model.catalogue_recllm import ItemTable
from recllm.model.lists_recllm import best
from recllm.model.retrieval_recllm import Contents
from recllm.recommend.build import recommender_of

EXAMPLES = settings(max_examples=100)
SCORES = st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, np.inf, -np.inf, np.nan]), max_size=30)
REQUEST = {"context": {"time": 1700090000}, "history": [{"item_id": "i1", "time": 1700000000, "click": 1}]}


def items_of(vector: np.ndarray) -> ItemTable:
    count = len(vector)
    none = np.zeros((count, 0))
    return ItemTable([f"i{k}" for k in range(count)], [{}] * count, none, none, none, none, np.full(count, -1), np.arange(count), vector)


def contents_of(vector: np.ndarray) -> Contents:
    return Contents(items_of(vector), lambda v, _: normalize(torch.from_numpy(v), dim=-1), lambda: 0)


def drawn(seed: int, count: int) -> tuple[np.ndarray, torch.Tensor]:
    """Vectors of which some are equal and some nearly, and a query."""
    rng = np.random.default_rng(seed)
    few = rng.normal(size=(4, 8))
    vector = few[rng.integers(0, 4, count)] + rng.choice([0.0, 0.0, 1e-8, 1e-3], (count, 1)) * rng.normal(size=(count, 8))
    return vector.astype(np.float32), normalize(torch.from_numpy(rng.normal(size=8).astype(np.float32)), dim=-1)


@EXAMPLES
@given(SCORES, st.integers(0, 32))
def test_the_best_are_those_of_a_stable_sort(score, count):
    score = np.array(score, dtype=float)
    assert best(score, count).tolist() == sorted(np.argsort(-score, kind="stable")[:count].tolist())


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(0, 20), st.booleans())
def test_the_nearest_are_those_of_a_sort_in_double_precision(seed, size, count, few):
    # given a catalogue, and all of it or a small part that may be listed
    vector, query = drawn(seed, size)
    contents = contents_of(vector)
    rows = np.arange(size) if not few else np.flatnonzero(np.random.default_rng(seed).random(size) < 0.3)
    # when
    places, cosine = contents.nearest(contents.items, rows, query, count)
    # then
    exact = contents.cosines(contents.items, rows, query)
    product = contents.whole()[torch.from_numpy(rows)].double().numpy() @ query.double().numpy()
    np.testing.assert_allclose(exact, product, atol=1e-12)
    assert places.tolist() == sorted(np.argsort(-exact, kind="stable")[:count].tolist())
    assert (cosine == exact[places]).all()


def test_the_rounding_of_the_rough_product_hides_nobody():
    """Rows that float32 cannot tell apart: which is nearest is told in double precision."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        base, query = rng.normal(size=384), rng.normal(size=384)
        vector = (base + 3e-7 * rng.normal(size=(400, 384))).astype(np.float32)
        contents, query = contents_of(vector), normalize(torch.from_numpy(query.astype(np.float32)), dim=-1)
        places, _ = contents.nearest(contents.items, np.arange(400), query, 10)
        exact = contents.cosines(contents.items, np.arange(400), query)
        assert places.tolist() == sorted(np.argsort(-exact, kind="stable")[:10].tolist())


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_a_cosine_depends_on_no_other_item_and_equal_items_tie(seed, size):
    vector, query = drawn(seed, size)
    contents = contents_of(vector)
    together = contents.cosines(contents.items, np.arange(size), query)
    order = np.random.default_rng(seed).permutation(size)[: size // 2]
    assert (contents.cosines(contents.items, order, query) == together[order]).all()
    _, same = np.unique(contents.whole().numpy(), axis=0, return_inverse=True)
    assert len(np.unique(together)) <= same.max() + 1


def test_contents_of_many_items_are_made_part_by_part_and_those_of_new_ones_for_the_request(monkeypatch):
    from recllm.model import retrieval_recllm

    vector, query = drawn(5, 50)
    whole = contents_of(vector)
    monkeypatch.setattr(retrieval_recllm, "AT_ONCE", 7)
    parts = contents_of(vector)
    assert torch.equal(whole.whole(), parts.whole())
    # given new items behind the catalogue
    more, _ = drawn(6, 3)
    both, rows = parts.items.extended(items_of(more)), np.array([51, 3, 50, 52, 3, 49])
    expected = normalize(torch.from_numpy(np.concatenate([vector, more])), dim=-1)
    # then
    assert torch.equal(parts.of(both, rows), expected[torch.from_numpy(rows)])
    np.testing.assert_allclose(parts.cosines(both, rows, query), (expected[torch.from_numpy(rows)] @ query).numpy(), atol=1e-6)
    places, _ = parts.nearest(both, rows, query, 2)
    assert places.tolist() == sorted(np.argsort(-parts.cosines(both, rows, query), kind="stable")[:2].tolist())


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


@pytest.mark.parametrize("related", [[], ["u1", "u2", "i0"]])
@pytest.mark.parametrize("top_k", [1, 10])
def test_a_pool_is_what_sorting_the_whole_catalogue_gives(recommender, related, top_k):
    """Before all others stands what is within two hops, where that does not fill the list; then the nearest to the query."""
    for retrieve in range(1, 16):
        request = {**REQUEST, "self": "u0", "relations": related}
        pool = recommender.pool(request, exclude_seen=True, retrieve=retrieve, top_k=top_k)
        # when everything that may be listed is put in order
        prepared, eligible = recommender.eligible(request, exclude_seen=True)
        first = prepared.paths.between(prepared.rows[eligible], np.full(len(eligible), prepared.time)) > 0
        if first.sum() >= top_k:
            eligible, first = eligible[first], np.zeros(int(first.sum()), dtype=bool)
        near = recommender.nearness(prepared, eligible)
        order = np.lexsort((-near, ~first))
        chosen = np.sort(order[: max(retrieve, int(first.sum()))]) if len(eligible) > retrieve else np.arange(len(eligible))
        # then
        assert pool.places.tolist() == eligible[chosen].tolist()
        assert pool.near is None or np.abs(pool.near - near[chosen]).max(initial=0) < 1e-12


def test_what_retrieval_reads_cannot_be_written(recommender):
    vectors = recommender.item_vectors()
    with pytest.raises(ValueError, match="read-only"):
        vectors *= -1


def test_contents_are_made_anew_when_a_weight_changes(made):
    # given a recommender that has answered, whose model goes on training
    recommender = recommender_of(replace(made, model=copy.deepcopy(made.model)))
    before = recommender.contents.whole()
    assert recommender.contents.whole() is before
    with torch.no_grad():
        recommender.model.tokens.project.weight.mul_(-1)
    # then its catalogue is that of the new weights
    fresh = recommender_of(replace(made, model=recommender.model))
    assert torch.equal(recommender.contents.whole(), fresh.contents.whole()) and not torch.allclose(fresh.contents.whole(), before)


def test_what_was_seen_is_left_out_by_its_row(recommender):
    ids = recommender.processor.rows.items.ids
    prepared, eligible = recommender.eligible(REQUEST, exclude_seen=True)
    with_seen = recommender.eligible(REQUEST, exclude_seen=False)[1]
    assert {prepared.ids[k] for k in set(with_seen) - set(eligible)} == {"i1"} and prepared.ids == ids
    twice = recommender.eligible({**REQUEST, "candidates": ["i2", "i1", "i2", {"item_id": "n", "title": "N"}, "n"]}, exclude_seen=True)[1]
    assert twice.tolist() == [0, 1, 3]
