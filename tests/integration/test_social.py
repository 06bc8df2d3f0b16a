"""Lists of people and groups: by two hops, without the user and without those who are friends already."""

import numpy as np
import pytest

from recllm.feed.raw import RawRequests
from recllm.model.errors_recllm import RequestError
from recllm.model.processor_recllm import RecllmProcessor
from recllm.model.relations_recllm import NEVER
from recllm.recommend.build import recommender_of


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


@pytest.fixture(scope="module")
def request_of(made):
    """A request of the user with the most relations, long after all of them."""
    raw = RawRequests(made.log, made.processor)
    user = max(range(len(made.log.users)), key=lambda u: len(raw.relations.own(u)[0]))
    return {"context": {"time": "2024-06-01T12:00:00Z"}, **raw.social(user)}


def test_friends_and_the_user_are_left_out_and_two_hops_come_first(recommender, request_of):
    # given a request with relations, and what a plain loop finds two steps away
    relations, ids = recommender.processor.rows.relations, recommender.processor.rows.items.ids
    friends = {entry["item_id"] for entry in request_of["relations"]}
    people = {ids[row] for row in np.flatnonzero(relations.person < NEVER)}
    two = {ids[r] for friend in friends & people for r in relations.near(ids.index(friend))[0]} - friends - {request_of["self"]}
    assert two
    # when a list of the whole catalogue is asked for that two hops can fill
    found = {entry["item_id"] for entry in recommender.recommend(request_of, top_k=len(two))}
    # then it is those
    assert found == two
    # and a longer one goes on with the rest, still without friends and the user
    longer = {entry["item_id"] for entry in recommender.recommend(request_of, top_k=100)}
    assert longer > two and not longer & (friends | {request_of["self"]})


def test_nearness_is_a_weight_like_any_other(recommender, request_of):
    # given candidates that are named, one of which came with the request
    candidates = ["i1", "i2", "u2", {"item_id": "new", "title": "Film 99"}]
    asked = {**request_of, "candidates": candidates}
    # when they are ranked by nearness alone, and by it and the click
    near = recommender.recommend(asked, top_k=4, weights={"nearness": 1.0})
    both = recommender.recommend(asked, top_k=4, weights={"nearness": 2.0, "click": 1.0})
    # then the score is the cosine of query and content, and the sum of both
    cosine = {e["item_id"]: e["score"] for e in near}
    vectors = dict(zip(recommender.processor.rows.items.ids, recommender.item_vectors(), strict=True))
    query = recommender.query_vector(asked)
    for item in ("i1", "i2", "u2"):
        assert cosine[item] == pytest.approx(float(vectors[item] @ query), abs=1e-5)
    for entry in both:
        assert entry["score"] == pytest.approx(2 * cosine[entry["item_id"]] + entry["click"], abs=1e-5)


def test_the_prefix_of_a_request_is_made_once(recommender, request_of, monkeypatch):
    # given a list that goes by retrieval, scores, nearness and diversity
    made, calls = recommender.engine.made[1].open, []
    monkeypatch.setattr(recommender.engine.made[1], "open", lambda batch: calls.append(1) or made(batch))
    recommender.recommend({**request_of, "relations": []}, top_k=3, retrieve=5, diversity=0.2, weights={"click": 1.0, "nearness": 1.0})
    # then the model ran over its profile and events once
    assert len(calls) == 1


def test_candidates_that_are_named_are_ranked_as_they_are(recommender, request_of):
    friend = request_of["relations"][0]["item_id"]
    assert recommender.recommend({**request_of, "candidates": [friend, "i1"]}, top_k=5)[0]["item_id"] in (friend, "i1")


def test_relations_may_be_plain_ids_and_strangers_are_ignored(recommender, request_of):
    # given the same relations without their moments, and somebody from elsewhere
    plain = {**request_of, "relations": [*(e["item_id"] for e in request_of["relations"]), "nobody-here"], "candidates": ["i1", "u2"]}
    dated = {**request_of, "candidates": ["i1", "u2"]}
    first, second = recommender.predict([plain, dated])
    assert np.allclose(first["click"], second["click"], atol=1e-6)


def test_a_relation_that_is_told_twice_is_one_and_nobody_is_their_own_friend(recommender, request_of):
    # given what a table of both directions would send
    twice = {**request_of, "relations": [*request_of["relations"] * 2, {"item_id": request_of["self"], "since": "2020-01-01"}]}
    found = [recommender.predict([{**r, "candidates": ["i1", "u2"]}])[0]["click"] for r in (request_of, twice)]
    assert (found[0] == found[1]).all()


def test_a_relation_that_is_younger_than_the_request_does_not_count(recommender, request_of):
    later = {**request_of, "relations": [{**entry, "since": "2024-07-01T00:00:00Z"} for entry in request_of["relations"]]}
    none = {**request_of, "relations": []}
    found = [recommender.predict([{**r, "candidates": ["i1", "u2"]}])[0]["click"] for r in (later, none, request_of)]
    assert np.allclose(found[0], found[1], atol=1e-6) and not np.allclose(found[1], found[2], atol=1e-6)


@pytest.mark.parametrize("change, expected", [
    ({"relations": "u1"}, "relations: expected a list, found str"),
    ({"relations": [{"id": "u1"}]}, 'relations\\[0\\]: undeclared field "id"'),
    ({"relations": [{"item_id": "u1", "since": "yesterday"}]}, "relations\\[0\\].since: expected a time"),
])
def test_bad_relations_are_named(recommender, change, expected):
    with pytest.raises(RequestError, match=expected):
        recommender.recommend({"context": {}, **change})


def test_relations_travel_in_the_release_as_rows(recommender, tmp_path):
    # given a saved release
    folder = recommender.save_pretrained(tmp_path / "release")
    loaded = RecllmProcessor.from_pretrained(folder).rows.relations
    # then they are the same
    for name in ("start", "other", "since", "person"):
        assert (getattr(loaded, name) == getattr(recommender.processor.rows.relations, name)).all()
