"""Timelines longer than any encoder's positions: the window rule of DESIGN 5, by the packed, the cached and the served way."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.feed.log import load_log
from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.model.timeline_recllm import window_start
from recllm.recommend.build import recommender_of
from recllm.training.setup import TEST, setup
from tests.conftest import SCHEMA, stir

LENGTHS = {"short": 40, "medium": 400, "long": 800, "endless": 5_000}


def encoder_of(kind: str, tiny: str, folder) -> str:
    """A random encoder of 512 positions over the tiny one's vocabulary. RoBERTa's positions start behind its padding id."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(0)
    model = BertModel(BertConfig(**shape, max_position_embeddings=512)) if kind == "bert" else \
        RobertaModel(RobertaConfig(**shape, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


def log_of_lengths() -> str:
    """Users of 40, 400, 800 and 5,000 events; ties, and outcomes that are known only after later events."""
    rng, rows = np.random.default_rng(0), []
    for user, length in LENGTHS.items():
        now = 1_700_000_000
        for _ in range(length):
            now += int(rng.choice([0, 1, 30, 600])) * 5_000 // length  # all are there to the end of the log
            click = int(rng.random() < 0.4)
            rows.append({"user_id": user, "item_id": f"i{rng.integers(30)}", "ts": now, "request_id": f"{user}-{now}",
                         "device": str(rng.choice(["tv", "mobile"])), "place": "Oslo", "temperature": float(rng.integers(9)),
                         "click": click, "purchase": int(click and rng.random() < 0.3), "duration": int(rng.integers(90)) * click})
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module", params=["bert", "roberta"])
def world(request, tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"long-{request.param}")
    (folder / "log.jsonl").write_text(log_of_lengths(), encoding="utf-8")
    config = Config.model_validate({
        "name": "long", "root": str(folder / "runs"), "schema": SCHEMA,
        "data": {"interactions": str(folder / "log.jsonl"), "workers": 1, "shards": 1, "split": {"validation": 0.1, "test": 0.2},
                 "rules": {"max_events_per_day": 10**6}},
        "model": {"encoder": encoder_of(request.param, tiny_encoder, folder / "encoder"), "layers": 2}})  # fmt: skip
    prepare(config)
    made = setup(config, load_log(config))
    stir(made.model)
    made.model.eval()
    return made


def test_packed_cached_and_served_scores_of_long_timelines_are_equal(world):
    # given the test rows of every user, scored in packed batches
    examples = world.examples(TEST)
    packed = score(world.model, examples, 4_000, torch.device("cpu"), progress=False)
    recommender, raw, spec = recommender_of(world), RawRequests(world.log, world.processor), world.processor.spec
    seen, windows = set(), set()
    order = np.argsort(packed.row)
    chosen = np.unique(np.concatenate([order[::7], order[-260:]]))  # a stretch without a gap crosses a window's end
    for index in chosen:
        row = int(packed.row[index])
        user, n = int(world.log.user[row]), int(examples.n_before[row])
        start = int(window_start(n, spec["stride"], spec["overlap"]))
        request = raw.request([row], start=start, end=n)
        # when each is asked for with its window alone, and once more by a user whose prefix is kept from the one before
        served, cached = recommender.predict([request, {**request, "user": f"{user}"}])
        logits = [float(torch.tensor(p["click"][0]).logit()) for p in (served, cached)]
        heads = world.model.heads
        expected = float(heads.log_probability({"click": packed.raw["click"][index]}, "click")[0].exp().double().logit())
        assert logits == pytest.approx([expected, expected], abs=2e-5)
        seen.add(str(world.log.users[user]))
        windows.add((user, start))
    # then that held in the windows of users of every length, far behind the encoder's last position
    assert seen >= {"medium", "long", "endless"} and len(windows) > 10 and max(start for _, start in windows) > 4_000
    assert len(recommender.engine.cache) == len(seen)


def test_a_prefix_that_crosses_into_the_next_window_is_made_anew(world, monkeypatch):
    examples = world.examples(TEST)
    recommender, raw = recommender_of(world), RawRequests(world.log, world.processor)
    endless = int(np.flatnonzero(np.array(world.log.users) == "endless")[0])
    first, made, grown = int(world.log.first[endless]), [], []
    model = recommender.engine.made[1]
    opened, extend = type(model).open, type(model).extend
    monkeypatch.setattr(type(model), "open", lambda self, batch: made.append(1) or opened(self, batch))
    monkeypatch.setattr(type(model), "extend", lambda self, before, batch: grown.append(1) or extend(self, before, batch))
    for n in range(4_095, 4_106):  # a window begins at every hundred
        start = int(window_start(n, 100, 100))
        request = raw.request([first + n], start=start, end=n)
        recommender.predict([{**request, "context": {**request["context"], "time": "2030-01-01T00:00:00Z"}, "user": "endless"}])
    assert (len(made), len(grown)) == (2, 9) and examples.n_before[first + 4_106] > 0
