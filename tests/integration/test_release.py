"""A release as a stranger uses it: loaded by transformers alone, in a process without recllm."""

import json

import numpy as np
import pytest
import torch

from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.model.errors_recllm import ReleaseError, RequestError
from recllm.model.processor_recllm import RecllmProcessor
from recllm.model.timeline_recllm import window_start
from recllm.recommend.build import recommender_of
from recllm.release import portable
from recllm.training.setup import TEST
from tests.strangers import run_stranger


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


@pytest.fixture(scope="module")
def folder(recommender, made, tmp_path_factory):
    return recommender.save_pretrained(tmp_path_factory.mktemp("release") / "full", "# card\n", portable(made.config))


@pytest.fixture(scope="module")
def replay(made):
    """(raw requests, expected logits of click and purchase, expected seconds) of test rows."""
    examples, raw = made.examples(TEST), RawRequests(made.log, made.processor)
    scores = score(made.model, examples, 4_000, torch.device("cpu"))
    with torch.inference_mode():
        expected = made.model.heads.predictions(scores.raw, "duration")
    requests = []
    for row in scores.row:
        n = int(made.log.frame["n_before"][row])
        start = int(window_start(n, made.processor.spec["stride"], made.processor.spec["overlap"]))
        requests.append(raw.request([int(row)], start=start, end=n))
    return requests, {k: v.numpy() for k, v in expected.items()}


def test_the_pipeline_replays_evaluates_scores_in_a_process_without_recllm(folder, replay, tmp_path):
    requests, expected = replay
    chosen = np.random.default_rng(0).permutation(len(requests))[:150]
    (tmp_path / "requests.json").write_text(json.dumps([requests[i] for i in chosen]), encoding="utf-8")
    out = run_stranger(f"""
        import json, transformers
        pipe = transformers.pipeline("recommendation", model={str(folder)!r}, trust_remote_code=True)
        requests = json.load(open("requests.json"))
        lists = pipe(requests, top_k=3)
        assert lists[0] == pipe(requests[0], top_k=3)
        print(json.dumps([found[0] for found in lists]))
    """, tmp_path)
    found = json.loads(out.splitlines()[-1])
    for name in ("click", "purchase"):
        logit = [np.log(f[name] / (1 - f[name])) for f in found]
        want = expected[name][chosen].astype(float)
        assert np.abs(logit - np.log(want / (1 - want))).max() < 1e-5 * 5  # probabilities are float32: 1e-5 on logits within rounding
    np.testing.assert_allclose([f["duration"] for f in found], expected["duration"][chosen], rtol=2e-5, atol=1e-5)


def test_auto_classes_load_the_folder_and_give_equal_weights(folder, made, tmp_path):
    out = run_stranger(f"""
        from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor
        model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True)
        for auto in (AutoProcessor, AutoFeatureExtractor):
            print(auto.from_pretrained({str(folder)!r}, trust_remote_code=True))
        print(sum(float(v.double().sum()) for v in model.state_dict().values()))
        same = model.body.embeddings.word_embeddings.weight.data_ptr() == model.tower.embeddings.word_embeddings.weight.data_ptr()
        print(same)
    """, tmp_path)
    *_, total, tied = out.split()
    assert float(total) == pytest.approx(sum(float(v.double().sum()) for v in made.model.state_dict().values()), rel=1e-6)
    assert tied == "True"


def test_two_releases_with_different_code_live_in_one_process(folder, tmp_path, recommender):
    """The registry of attention functions is global: the last release imported must not change the first one's results."""
    import shutil

    other = tmp_path / "other"
    shutil.copytree(folder, other)
    attention = other / "attention_recllm.py"
    attention.write_text(attention.read_text().replace("self.calls += 1", "self.calls += 1\n        key = key * 1.0"), encoding="utf-8")
    out = run_stranger(f"""
        import transformers
        request = {{"profile": {{"age": 30}}, "context": {{"time": 1700090000}}, "candidates": ["i1", "i2"]}}
        first = transformers.pipeline("recommendation", model={str(folder)!r}, trust_remote_code=True)
        before = first(request)
        second = transformers.pipeline("recommendation", model={str(other)!r}, trust_remote_code=True)
        assert second(request) == before and first(request) == before
        print("equal", type(first.model) is type(second.model))
    """, tmp_path)
    assert out.split()[-2:] == ["equal", "False"]


def test_the_folder_leaks_no_path_and_holds_only_safe_files(folder, made):
    names = {p.name for p in folder.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "item_counts.safetensors", "README.md"} <= names
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert all(p.suffix in (".json", ".jsonl", ".safetensors", ".py", ".md") for p in files)
    for path in folder.glob("*.json"):
        assert made.config.model.encoder not in path.read_text(), path.name


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"contxt": {}}, 'undeclared field "contxt".*Did you mean "context"'),
        ({"context": {"time": 1700090000, "devise": "tv"}}, 'undeclared field "devise".*Did you mean "device"'),
        ({"context": {"time": "yesterday"}}, "context.time: expected a time"),
        ({"context": {"temperature": "warm"}}, "temperature: expected a number"),
        ({"profile": ["x"]}, "profile: expected a dict"),
        ({"candidates": "i1"}, "candidates: expected a list"),
        ({"candidates": ["no-such-item"]}, 'nothing is known of item "no-such-item"'),
        ({"history": [{"time": 1700000000}]}, r"history\[0\]: expected an item_id"),
        ({"history": [{"item_id": "i1", "time": 1700000000, "click": 3}]}, "click: expected 0 or 1, found 3"),
        ({"history_before": -1}, "history_before: expected"),
        ({"history_before": 50}, "send more history"),
    ],
)
def test_a_bad_request_is_named(recommender, change, expected):
    with pytest.raises(RequestError, match=expected) as error:
        recommender.recommend({"context": {"time": 1700090000}} | change)
    assert "\n" not in str(error.value)


def test_odd_but_good_requests_work(recommender):
    moment = {"time": 1700090000}
    nobody = recommender.recommend({"context": moment, "candidates": ["i1", "i2", "i1"]})
    assert sorted(e["item_id"] for e in nobody) == ["i1", "i2"]  # a candidate twice is ranked once
    unseen = {"item_id": "🎬", "title": "A new film 🎬"}
    new = recommender.recommend({"context": moment | {"device": "fridge"}, "candidates": [unseen, "i1"]})
    assert {e["item_id"] for e in new} == {"🎬", "i1"} and all(0 < e["click"] < 1 for e in new)
    with pytest.warns(UserWarning, match="one second after the end of the prepared log"):
        recommender.reader.warned = False
        whole = recommender.recommend({}, top_k=4)
    assert len(whole) == 4 and [e["score"] for e in whole] == sorted((e["score"] for e in whole), reverse=True)
    low, high = whole[0]["duration_interval"]
    assert 0 <= low <= high <= 600


def test_the_whole_catalogue_leaves_out_what_was_seen_and_what_is_not_published(recommender):
    history = [{"item_id": "i1", "time": 1700080000, "click": 1}]
    request = {"history": history, "context": {"time": 1700090000}}
    assert "i1" not in {e["item_id"] for e in recommender.recommend(request, top_k=50)}
    assert "i1" in {e["item_id"] for e in recommender.recommend(request, top_k=50, exclude_seen=False)}
    early = {e["item_id"] for e in recommender.recommend({"context": {"time": 1600000000}}, top_k=50)}
    published = recommender.processor.rows.items.published
    assert early.isdisjoint({i for i, p in zip(recommender.processor.rows.items.ids, published, strict=True) if p > 0})


def test_retrieval_narrows_the_catalogue_and_strategies_rank(recommender):
    request = {"context": {"time": 1700090000}}
    assert len(recommender.recommend(request, top_k=50, retrieve=5)) == 5
    value = recommender.recommend(request, top_k=3, strategy="expected_value", outcome="click", value="price")
    assert value[0]["score"] >= value[1]["score"] >= value[2]["score"]
    weighted = recommender.recommend(request, top_k=1, weights={"click": 2.0, "purchase": 1.0})[0]
    assert weighted["score"] == pytest.approx(2 * weighted["click"] + weighted["purchase"])
    with pytest.raises(RequestError, match='found "clik".*Did you mean "click"'):
        recommender.recommend(request, weights={"clik": 1.0})


def test_a_folder_that_is_no_release_is_named(tmp_path):
    with pytest.raises(ReleaseError, match="expected processor_spec.json of a release"):
        RecllmProcessor.from_pretrained(tmp_path)
