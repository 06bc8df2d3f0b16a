"""Kept prefixes: what they cost, whom they serve, and that none of them is ever stale."""

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from recllm.feed.raw import RawRequests
from recllm.model.prefix_recllm import Kept, Prefix, PrefixCache
from recllm.recommend.build import recommender_of
from recllm.recommend.moments import scored_rows
from recllm.training.setup import TEST


def entry(events: int, name: int = 0) -> Kept:
    """A prefix of no meaning: 2 layers, 1 head of 4, 1 profile token."""
    prefix = Prefix.empty(2, 1, 4, 1, events, torch.zeros(1))
    prefix.buffer.made.fill_(float(name))
    return Kept(prefix, {"item": np.arange(events)})


def test_the_least_recently_used_is_forgotten_and_bytes_stay_in_bounds():
    # given room for three
    one = entry(9)
    cache = PrefixCache(most=3 * (one.prefix.bytes + one.bytes))
    for key in "abc":
        cache.put(key, entry(9))
    # when one is read and a fourth comes
    cache.get("a")
    cache.put("d", entry(9))
    # then the one that nobody read for longest is gone
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.bytes == cache.most
    # and what would fill all of it alone is not kept, nor does it drive the others out
    cache.put("e", entry(900))
    assert len(cache) == 3 and cache.get("e") is None
    for key in "acd":
        cache.evict(key)
    assert cache.bytes == 0 and len(cache) == 0


def test_forks_share_their_bytes_until_they_part():
    # given a prefix with room behind it
    cache, begun = PrefixCache(), Kept(entry(4).prefix.grown(1), {"item": np.arange(5)})
    assert begun.prefix.buffer.made.shape[4] > begun.prefix.length == 6
    cache.put("a", begun)
    before = cache.bytes
    cache.fork("a", "b")
    assert cache.bytes == before + begun.bytes and len(cache) == 2
    # when both go on by an event
    first, second = begun.prefix.grown(1), begun.prefix.grown(1)
    for prefix, value in ((first, 1.0), (second, 2.0)):
        prefix.write(0, 6, torch.full((1, 1, 1, 4), value), torch.full((1, 1, 1, 4), value))
    # then neither sees what the other appended, and a third append to the first needs no copy
    assert [float(p.read(0, torch.float32)[0][0, 0, -1, 0]) for p in (first, second)] == [1.0, 2.0]
    assert first.buffer is begun.prefix.buffer and second.buffer is not first.buffer and second.grown(1).buffer is second.buffer
    with pytest.raises(KeyError):
        cache.fork("nobody", "c")


def test_threads_may_share_a_cache():
    cache, wrong = PrefixCache(most=20 * (entry(9).prefix.bytes + entry(9).bytes)), []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(400):
            key = int(rng.integers(30))
            rows = {"item": np.arange(int(rng.integers(1, 10)))}
            found = cache.extend(key, rows, lambda before, key=key, rows=rows: entry(len(rows["item"]), key).prefix)
            if found.events != len(rows["item"]) or float(found.buffer.made[0, 0, 0, 0, 0, 0]) != key:
                wrong.append(key)
            if rng.random() < 0.1:
                cache.evict(int(rng.integers(30)))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and 0 < cache.bytes <= cache.most
    assert cache.bytes == sum(k.prefix.bytes + k.bytes for k in cache.kept.values())


@pytest.fixture
def asked(made):
    """(a recommender with room of its own, a request of a user in the middle of a window, with `user` set)."""
    fresh = copy.copy(made)
    fresh.model = copy.deepcopy(made.model)
    raw, log = RawRequests(made.log, made.processor), made.log
    n = log.frame["n_before"].to_numpy()
    row = next(int(r) for r in scored_rows(log, TEST) if n[r] % 8 >= 4 and n[r] > 16)
    return recommender_of(fresh), {**raw.request([row], start=0, end=int(n[row])), "user": "somebody"}


def click(recommender, request):
    return recommender.predict([request])[0]["click"]


def without_user(request):
    return {k: v for k, v in request.items() if k != "user"}


def counted(recommender, monkeypatch) -> dict[str, int]:
    """How often a prefix is made and lengthened from here on."""
    counts, kind = {"open": 0, "extend": 0}, type(recommender.engine.made[1])
    for name in counts:
        plain = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda *args, name=name, plain=plain: (counts.update({name: counts[name] + 1}), plain(*args))[1])
    return counts


def test_a_user_who_comes_again_is_not_read_again(asked, monkeypatch):
    recommender, request = asked
    counts = counted(recommender, monkeypatch)
    first = click(recommender, request)
    # when they come again, in another context, with other candidates
    other = {**request, "context": {**request["context"], "device": "mobile"}, "candidates": [*request["candidates"], "i1", "i2"]}
    np.testing.assert_allclose(click(recommender, request), first, atol=1e-6)
    found = click(recommender, other)
    assert counts == {"open": 1, "extend": 0}
    np.testing.assert_allclose(found, click(recommender, without_user(other)), atol=1e-6)


def test_new_events_lengthen_the_prefix(asked, monkeypatch):
    recommender, request = asked
    counts = counted(recommender, monkeypatch)
    shorter = {**request, "history": request["history"][:-2]}
    click(recommender, shorter)
    found = click(recommender, request)
    assert counts == {"open": 1, "extend": 1}
    np.testing.assert_allclose(found, click(recommender, without_user(request)), atol=1e-6)


def last(request, **changes):
    """A request whose last event is another one."""
    return {**request, "history": [*request["history"][:-1], {**request["history"][-1], **changes}]}


CHANGES = {
    "an older outcome": lambda r: last(r, click=1 - (r["history"][-1].get("click") or 0), purchase=0),
    "the profile": lambda r: {**r, "profile": {**r["profile"], "age": 77}},
    "an event taken out": lambda r: {**r, "history": r["history"][1:]},
    "an event's free text": lambda r: last(r, query="something new"),
    "an event's item": lambda r: last(r, item_id="i3"),
    "what an unknown item is": lambda r: {**last(r, item_id="new"), "candidates": [{"item_id": "new", "title": "Film of another kind"}]},
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_a_miss_and_never_a_stale_answer(asked, what):
    recommender, request = asked
    click(recommender, request)
    # when one thing is changed, then changed back
    changed = CHANGES[what](request)
    found = click(recommender, changed)
    # then each answer is the one that a stranger with these rows gets
    np.testing.assert_allclose(found, click(recommender, without_user(changed)), atol=1e-6)
    np.testing.assert_allclose(click(recommender, request), click(recommender, without_user(request)), atol=1e-6)


def test_an_unknown_item_that_is_something_else_now_is_a_miss(asked):
    recommender, request = asked
    answers = []
    for genre in ("war", "noir"):
        asks = {**last(request, item_id="new"), "candidates": [{"item_id": "new", "genres": [genre]}, "i1"]}
        answers.append(click(recommender, asks))
        np.testing.assert_allclose(answers[-1], click(recommender, without_user(asks)), atol=1e-6)
    assert abs(answers[0] - answers[1]).max() > 1e-6


def test_other_weights_are_a_miss(asked, monkeypatch):
    recommender, request = asked
    before = click(recommender, request)
    counts = counted(recommender, monkeypatch)
    # when the model goes on training
    with torch.no_grad():
        for name, weight in recommender.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.2)
    after = click(recommender, request)
    assert counts["open"] == 1 and abs(after - before).max() > 1e-4
    np.testing.assert_allclose(after, click(recommender, without_user(request)), atol=1e-6)


def test_weights_that_a_fused_step_or_a_loaded_state_wrote_are_a_miss(made, asked):
    recommender, request = asked
    model = recommender.model

    def fused_step() -> None:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05, fused=True)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.ones_like(weight)
        optimizer.step()
        torch.autograd.graph.increment_version(optimizer.param_groups[0]["params"])  # as training does

    def assigned() -> None:
        model.load_state_dict({name: value * 1.1 for name, value in model.state_dict().items()}, assign=True)

    for change in (fused_step, assigned):
        before = click(recommender, request)
        change()
        after = click(recommender, request)
        assert abs(after - before).max() > 1e-4
        fresh = recommender_of(replace(made, model=copy.deepcopy(model)))
        np.testing.assert_allclose(after, click(fresh, without_user(request)), atol=1e-6)


def test_answers_are_given_in_evaluation_mode(asked):
    # given a model whose training goes on
    recommender, request = asked
    expected, contents = click(recommender, without_user(request)), recommender.contents.whole()
    recommender.model.train()
    # then nothing is dropped out, neither in an answer nor in what is kept
    np.testing.assert_allclose(click(recommender, request), expected, atol=1e-6)
    recommender.model.train()
    assert torch.equal(recommender.engine.content(recommender.contents.items.vector, recommender.contents.items.id_row), contents)


def test_weights_that_change_during_a_request_do_not_spoil_the_next_one(asked, monkeypatch):
    # given a request that has its model, when another one finds new weights before the first has its prefix
    recommender, request = asked
    engine, kept = recommender.engine, recommender.engine._kept

    def between(*args):
        monkeypatch.setattr(engine, "_kept", kept)
        with torch.no_grad():
            recommender.model.tokens.norm.bias.add_(0.1)
        click(recommender, without_user(request))
        return kept(*args)

    monkeypatch.setattr(engine, "_kept", between)
    click(recommender, request)
    # then the old prefix is nobody's
    np.testing.assert_allclose(click(recommender, request), click(recommender, without_user(request)), atol=1e-6)


def test_another_free_text_of_the_moment_is_no_miss(asked, monkeypatch):
    recommender, request = asked
    counts = counted(recommender, monkeypatch)
    queries = ["a film", "something much longer that nobody ever asked for", "noir", None, "a film"]
    for query in queries:
        click(recommender, {**request, "context": {**request["context"], "query": query}})
    assert any(event.get("query") for event in request["history"]) and counts["open"] == 1


def test_two_models_may_share_a_cache(asked, monkeypatch):
    # given two models whose weights were changed as often
    from recllm.model.recommender_recllm import Recommender

    recommender, request = asked
    second = Recommender(copy.deepcopy(recommender.model), recommender.processor, recommender.engine.cache)
    with torch.no_grad():
        for each, factor in ((recommender, 1.1), (second, 0.9)):
            for weight in each.model.tokens.parameters():
                weight.mul_(factor)
    for each in (recommender, second):  # and say so
        each.engine.made = ("a version", each.model.for_inference())
        monkeypatch.setattr(each.model, "version", lambda: "a version")
    click(recommender, request)
    np.testing.assert_allclose(click(second, request), click(second, without_user(request)), atol=1e-6)
    assert len(recommender.engine.cache) == 2
