"""Reading a request: the same numbers as row by row, however many candidates there are and wherever they come from."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.model.errors_recllm import RequestError
from recllm.model.processing_recllm import TOKEN_PARTS
from recllm.model.timeline_recllm import log_odds
from recllm.recommend.build import recommender_of

START = 1_700_000_000
REQUEST = {"context": {"time": 1700090000}, "history": [{"item_id": "i1", "time": 1700000000, "click": 1}]}
EXAMPLES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


def drawn(seed: int, ids: list[str]) -> dict:
    """A request with some history and candidates: known, twice, new, new ones twice, as dicts and as plain ids."""
    rng = np.random.default_rng(seed)

    def moment() -> dict:
        given = {"device": rng.choice(["tv", "mobile", "fridge"]), "place": rng.choice(["Oslo", "Rome"]),
                 "mood": ["calm", "odd"][: rng.integers(3)], "temperature": float(rng.integers(-3, 9)),
                 "query": rng.choice(["a film", "war: the old one", "never seen"])}  # fmt: skip
        return {name: value for name, value in given.items() if rng.random() < 0.7}

    history = [{"item_id": str(rng.choice([*ids, "gone"])), "time": START + int(rng.integers(0, 50_000)), "click": int(rng.integers(2)),
                **moment()} for _ in range(rng.integers(0, 14))]  # fmt: skip
    new = [{"item_id": f"new-{k}", "title": f"Film {k}", "genres": ["war"][: k % 2], "price": k} for k in range(3)]
    candidates = [str(rng.choice(ids)) for _ in range(rng.integers(0, 6))] + [{"item_id": str(rng.choice(ids)), "value": 2.5}]
    candidates += [new[0], new[int(rng.integers(3))], "new-0"][: rng.integers(0, 4)]
    related = [{"item_id": "u1"}, {"item_id": "i0", "since": START + 10}][: rng.integers(3)]
    return {"profile": {"age": 30}, "history": history, "candidates": candidates, "self": "u0", "relations": related,
            "context": {"time": START + 60_000, **moment()}}  # fmt: skip


def row_by_row(reader, request: dict, prepared):
    """The example as it is built when every candidate's context is repeated and encoded."""
    processor, size = reader.processor, len(prepared.rows) + 1
    moment, offset, context = reader._context(request["context"])
    texts, _ = reader._texts([context, *request["history"]])
    places = {**reader.index, **{prepared.ids[k]: int(row) for k, row in enumerate(prepared.rows)}}
    places.setdefault("gone", next((k for k in range(len(prepared.items)) if prepared.items.ids[k] == "gone"), -1))
    events = reader._events(request["history"], places, texts)
    start = reader._start(len(events.item), None)
    repeated = {n: [v] * size for n, v in context.items()}
    asked = processor.rows(np.append(prepared.rows, -1), np.full(size, moment), np.full(size, offset), repeated, texts)
    window = events.take(slice(start, len(events.item)))
    tokens = reader.tokenize("age: 30", int(processor.spec["profile_tokens"]))
    return processor.build(tokens, window, asked, np.full(size, len(window.item)), prepared.items, reader._paths(request)), window


def assert_same(found, expected):
    assert (found.profile, found.events) == (expected.profile, expected.events)
    for name in TOKEN_PARTS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_no_candidates_give_the_same_columns_with_nothing_in_them(recommender):
    some, none = recommender.predict([{**REQUEST, "candidates": ["i1"]}, {**REQUEST, "candidates": []}])
    assert none.keys() == some.keys() and all(len(values) == 0 for values in none.values())


@pytest.mark.parametrize("dtype, near", [(torch.bfloat16, 0.05), (torch.float64, 1e-5)])
def test_a_recommender_answers_in_the_precision_of_its_model(made, recommender, dtype, near):
    other = recommender_of(replace(made, model=copy.deepcopy(made.model).to(dtype)))
    request = {**REQUEST, "candidates": ["i1", "i2", {"item_id": "new", "title": "A film that no catalogue holds"}]}
    for name, expected in recommender.predict([request])[0].items():
        if name in made.model.config.binary:
            np.testing.assert_allclose(other.predict([request])[0][name], expected, atol=near)
    assert len(other.recommend({**REQUEST, "candidates": None}, top_k=3)) == 3


@EXAMPLES
@given(st.integers(0, 10_000))
def test_candidates_that_share_a_moment_are_what_they_are_when_each_is_encoded(recommender, seed):
    request = drawn(seed, recommender.processor.rows.items.ids)
    prepared = recommender.reader.read(request)
    expected, _ = row_by_row(recommender.reader, request, prepared)
    assert_same(prepared.example, expected)
    # and each candidate is who was asked for, with what was said of it
    asked = [c["item_id"] if isinstance(c, dict) else c for c in request["candidates"]]
    assert prepared.ids == asked == [prepared.items.ids[row] for row in prepared.rows]
    assert prepared.values == {c["item_id"]: 2.5 for c in request["candidates"] if isinstance(c, dict) and "value" in c}
    new = [row for row, item in zip(prepared.rows, asked, strict=True) if item.startswith("new")]
    assert all(prepared.items.fields[row]["title"].startswith("Film") for row in new)


@EXAMPLES
@given(st.integers(0, 10_000))
def test_parts_of_the_whole_catalogue_are_those_of_all_of_it_built(recommender, seed):
    # given a request for the catalogue, and one that names all of it
    items = recommender.processor.rows.items
    request = drawn(seed, items.ids)
    whole, named = (recommender.reader.read({**request, "candidates": c}) for c in (None, list(items.ids)))
    e, rng = named.example.events, np.random.default_rng(seed)
    assert (whole.ids, whole.rows.tolist(), whole.example.size) == (named.ids, named.rows.tolist(), named.example.size)
    # then any part is the same: events, the query, some candidates, all, none
    some = rng.permutation(len(items))[: rng.integers(0, len(items))]
    for tokens, events in ((np.arange(e), e), (np.array([e + len(items)]), 0), (e + some, 0), (np.arange(named.example.size), e),
                           (np.arange(0), 0), (np.append(np.arange(e), e + some), e), (np.array([e + len(items), e]), 0)):  # fmt: skip
        assert_same(whole.example.part(tokens, events), named.example.part(tokens, events))


@EXAMPLES
@given(st.integers(0, 10_000))
def test_category_counters_equal_a_loop_over_events(recommender, seed):
    # given rows that see different numbers of events
    request = drawn(seed, recommender.processor.rows.items.ids)
    prepared, processor = recommender.reader.read(request), recommender.processor.rows
    _, window = row_by_row(recommender.reader, request, prepared)
    rng, size = np.random.default_rng(seed), len(prepared.rows)
    asked = recommender.reader._rows(prepared.rows, np.full(size, prepared.time), np.zeros(size), {}, {})
    booked = processor.counters.booked({name: window.outcomes[:, i] for i, name in enumerate(processor.counters.outcomes)})
    for count in (rng.integers(0, len(window.item) + 1, size), np.full(size, len(window.item))):
        # when
        found = processor._category_counters(asked, window, count, prepared.items, booked)
        # then
        for k, row in enumerate(prepared.rows):
            sums = np.zeros(booked.shape[1])
            for event in range(count[k]):
                has = prepared.items.share[window.item[event : event + 1]][0] > 0
                sums += booked[event] * (has * prepared.items.share[np.array([row])][0]).sum()
            priors = [processor.counters.priors[name] for name in processor.counters.binary]
            odds = [log_odds(sums[2 + 2 * i], sums[1 + 2 * i], prior) for i, prior in enumerate(priors)]
            np.testing.assert_allclose(found[k], [np.log1p(sums[0]), *odds], atol=1e-12)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([3.5, ["i1"]], r"candidates: expected an item id, or a dict with item_id and the item's fields, found \['i1'\]"),
        (["i1", None], "expected an item id.*found None"),
        (["i1", "nobody"], 'nothing is known of item "nobody": it is not in the catalogue'),
        ([{"item_id": "i1", "colour": 1}], 'candidate "i1": undeclared field "colour"'),
        ([{"item_id": "i1", "value": "dear"}], 'candidate "i1": value: expected a number'),
        ([{"item_id": "x", "value": 2}], 'nothing is known of item "x"'),
    ],
)
def test_a_wrong_candidate_is_named(recommender, candidates, expected):
    with pytest.raises(RequestError, match=expected):
        recommender.predict([{"context": {"time": START}, "candidates": [{"item_id": "3.5", "title": "A"}, *candidates]}])
