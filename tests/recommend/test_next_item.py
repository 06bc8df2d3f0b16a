"""The next item in the whole catalogue: which requests, the same scores by rows and by requests, hits as a reader would count them."""

import numpy as np
import pytest
import torch

from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.recommend.build import recommender_of
from recllm.recommend.moments import raw_request, scored_rows
from recllm.recommend.next_item import asked_rows, baseline_hits, next_item, open_items, recllm_hits, whole_catalogue
from recllm.recommend.strategies import Ready
from recllm.training.setup import TEST

DAY = 86_400_000


@pytest.fixture(scope="module")
def ready(made):
    return Ready(made, recommender_of(made), {})


@pytest.fixture(scope="module")
def rows(made):
    return asked_rows(made.log, "click")


def test_the_whole_catalogue_by_requests_and_by_rows_gives_the_same_scores(made, ready):
    # given a few test rows, every item scored against each the way that baselines are, by the model
    some = scored_rows(made.log, TEST)[::40][:5]
    by_rows = score(made.model, whole_catalogue(made, some), 20_000, torch.device("cpu"), progress=False)
    logits = by_rows.raw["click"].reshape(len(some), -1)
    raw = RawRequests(made.log, made.processor)
    for k, row in enumerate(some):
        # when a raw request asks for all of them
        prepared, _ = ready.recommender.eligible(raw_request(raw, int(row)), exclude_seen=False)
        found = ready.recommender.engine.raw(prepared, np.arange(len(made.log.items)))["click"]
        # then
        torch.testing.assert_close(found, logits[k], atol=1e-5, rtol=0.0)


def test_asked_rows_are_clicks_on_items_that_may_be_ranked(made, rows):
    log, n = made.log, made.log.frame["n_before"].to_numpy()
    assert len(rows) > 0
    for row in rows:
        start = log.first[log.user[row]]
        assert log.frame["click"][row] == 1 and log.item[row] not in log.item[start : start + n[row]]
        assert log.published[log.item[row]] <= log.time()[row]
    assert len({(log.user[row], log.time()[row] // DAY) for row in rows}) == len(rows)
    ranked = open_items(log, rows, np.tile(np.arange(len(log.items)), (len(rows), 1)))
    assert ranked[np.arange(len(rows)), log.item[rows]].all() and not ranked.all()


def test_recllm_hits_are_those_of_the_lists_that_recommend_makes(made, ready, rows, monkeypatch):
    # given retrieval that leaves out most of the catalogue, and requests that say nothing of relations
    monkeypatch.setattr(RawRequests, "social", lambda self, user: {})
    monkeypatch.setitem(ready.recommender.processor.recommend, "retrieve", 4)
    raw, hits = RawRequests(made.log, made.processor), recllm_hits(ready, rows)
    ways = {"recllm": {}, "recllm-click-retrieved": {"strategy": "weighted", "weights": {"click": 1.0}},
            "recllm-click-all": {"strategy": "weighted", "weights": {"click": 1.0}, "retrieve": 10_000}}  # fmt: skip
    for k, row in enumerate(rows):
        target = made.log.items[made.log.item[row]]
        for name, call in ways.items():
            ids = [e["item_id"] for e in ready.recommender.recommend(raw_request(raw, int(row)), exclude_seen=True, **call)]
            place = ids.index(target) + 1 if target in ids else None
            assert hits[name][0][k] == (place is not None), name
            assert hits[name][1][k] == pytest.approx(1 / np.log2(place + 1) if place else 0), name


def test_baselines_rank_in_chunks_as_they_do_at_once(made, rows, monkeypatch):
    monkeypatch.setattr("recllm.recommend.next_item.ROWS_AT_ONCE", 2 * len(made.log.items))
    parts = baseline_hits(made.config, made, ["item-rate"], [0], rows)["item-rate"][0]
    monkeypatch.setattr("recllm.recommend.next_item.ROWS_AT_ONCE", 10**9)
    whole = baseline_hits(made.config, made, ["item-rate"], [0], rows)["item-rate"][0]
    for part, one in zip(parts, whole, strict=True):
        assert part.shape == (len(rows),) and part.tolist() == one.tolist()
        assert 0 < one.mean() <= 1


def test_baselines_that_are_not_registered_are_left_out(made, ready, monkeypatch):
    monkeypatch.setattr("recllm.recommend.next_item.BASELINES", ("item-rate", "not-there-yet"))
    found = next_item(made.config, [0], [ready], lambda _: None)
    assert {row["model"] for row in found} == {"recllm", "recllm-click-retrieved", "recllm-click-all", "recllm-retrieval", "item-rate"}
    assert all(0 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in found)
