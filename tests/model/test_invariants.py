"""The invariants of DESIGN 5: what a score may depend on, and what it may not."""

import copy

import numpy as np
import pytest
import torch

from recllm.feed.batches import load, plan
from recllm.feed.examples import Examples
from recllm.feed.raw import RawRequests
from recllm.feed.score import score
from recllm.model.processing_recllm import TOKEN_PARTS
from recllm.model.requests_recllm import RequestReader
from recllm.model.timeline_recllm import visible, window_start
from recllm.training.setup import TEST, TRAIN

CPU = torch.device("cpu")
LOGIT = {"atol": 1e-5, "rtol": 0.0}


def raw_of(made, examples: Examples, index: int):
    """Logits of one example's candidates, scored alone."""
    out = made.model(**load(examples, np.array([index])).inputs)
    return {n: out[n][: len(examples.groups[index].row)] for n in ("click", "purchase", "duration_logits")}


def assert_close(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **LOGIT, msg=lambda m, name=name: f"{name}: {m}")


@pytest.fixture(scope="module")
def examples(made):
    return made.examples(TEST)


@pytest.fixture(scope="module")
def rich(examples):
    """The index of an example with many events, rows that see different numbers of them, and several requests."""
    return int(np.argmax([len(np.unique(examples.visible(g))) for g in examples.groups]))


@torch.inference_mode()
def test_a_score_is_the_same_packed_in_a_batch_or_single(made, examples):
    packed = score(made.model, examples, 10_000, CPU)
    alone = [raw_of(made, examples, i) for i in range(len(examples))]
    assert_close(packed.raw, {n: torch.cat([a[n] for a in alone]) for n in alone[0]})


@torch.inference_mode()
def test_a_score_is_the_same_alone_and_reordered(made, examples, rich):
    expected, example = raw_of(made, examples, rich), examples[rich]
    tokens = np.arange(example.size)
    candidates = tokens[example.events :]
    for chosen in (candidates[::-1], candidates[1:2], candidates[[2, 0]]):
        order = np.concatenate([tokens[: example.events], chosen])
        part = copy.copy(example)
        for name in TOKEN_PARTS:
            setattr(part, name, getattr(example, name)[order])
        out = made.model(**made.processor.collate([part]))
        for name, value in expected.items():
            for place, token in enumerate(chosen - example.events):
                if token < len(value):
                    torch.testing.assert_close(out[name][place], value[token], **LOGIT)


@torch.inference_mode()
def test_a_score_is_the_same_with_a_cached_prefix_and_with_events_appended_to_it(made, examples, rich):
    example, expected = examples[rich], raw_of(made, examples, rich)
    e = example.events
    assert e >= 4

    def cut(begin, end, events):
        part = copy.copy(example)
        part.events = events
        for name in TOKEN_PARTS:
            setattr(part, name, getattr(example, name)[begin:end])
        return made.processor.collate([part])

    whole = made.model.prefix(cut(0, e, e))
    states = made.model.after(whole, cut(e, example.size, 0))
    assert_close({n: v[: len(expected["click"])] for n, v in made.model.heads(states).items()}, expected)
    # when the prefix of all but the last three events is extended by those three
    grown = made.model.extend(made.model.prefix(cut(0, e - 3, e - 3)), cut(e - 3, e, 3))
    assert grown.length == whole.length == len(example.profile) + e
    for layer in range(whole.layers):
        for one, other in zip(whole.read(layer, torch.float32), grown.read(layer, torch.float32), strict=True):
            torch.testing.assert_close(one, other, **LOGIT)


@torch.inference_mode()
def test_changing_any_invisible_row_leaves_scores_unchanged(made, examples):
    """Every field of every row that a group's rows do not see is replaced; a planted future column would move the scores."""
    chosen = [i for i, g in enumerate(examples.groups) if len(g.row) > 3][:6]
    for index in chosen:
        group, before = examples.groups[index], raw_of(made, examples, index)
        first = examples.log.first[group.user]
        for place in {0, len(group.row) // 2, len(group.row) - 1}:
            row, n = group.row[place], examples.n_before[group.row[place]]
            hidden = np.setdiff1d(np.arange(len(examples.log.item)), np.r_[first : first + n, row])
            changed = copy.copy(examples)
            changed.timeline = copy.deepcopy(examples.timeline)
            shuffled = np.random.default_rng(0).permutation(hidden)
            for name in ("item", "cat", "weight"):
                getattr(changed.timeline, name)[hidden] = getattr(examples.timeline, name)[shuffled]
            changed.timeline.num[hidden] += 7
            changed.timeline.known[hidden] += 10**9
            mine = np.append(hidden, row)  # a row's own outcome is its label
            changed.timeline.outcomes[mine] = np.abs(1 - np.nan_to_num(changed.timeline.outcomes[mine]))
            after = raw_of(made, changed, index)
            for name, value in before.items():
                torch.testing.assert_close(after[name][place], value[place], **LOGIT)


@torch.inference_mode()
def test_a_planted_future_column_is_caught_by_mutating_invisible_rows(made, examples):
    """The test above can fail: a number that holds the row's own later outcome moves when invisible outcomes change."""
    index = next(i for i, g in enumerate(examples.groups) if len(g.row) > 3)
    leaky = copy.copy(examples)
    leaky.timeline = copy.deepcopy(examples.timeline)
    leaky.timeline.num[:, 0] = np.nan_to_num(leaky.timeline.outcomes[:, 0])
    before = raw_of(made, leaky, index)["click"]
    group = leaky.groups[index]
    leaky.timeline.outcomes[group.row, 0] = 1 - np.nan_to_num(leaky.timeline.outcomes[group.row, 0])
    leaky.timeline.num[:, 0] = np.nan_to_num(leaky.timeline.outcomes[:, 0])
    assert (raw_of(made, leaky, index)["click"] - before).abs().max() > 1e-3


@torch.inference_mode()
def test_changing_events_leaves_profile_states_unchanged(made, examples, rich):
    batch = load(examples, np.array([rich])).inputs
    profile = slice(0, len(batch["profile"]))
    before = made.model.states(batch)[0]
    batch["num"] = batch["num"] + 3
    after = made.model.states(batch)[0]
    torch.testing.assert_close(after[profile], before[profile], **LOGIT)
    assert (after[profile.stop :] - before[profile.stop :]).abs().max() > 1e-2


@torch.inference_mode()
def test_the_tower_equals_the_pretrained_encoder_on_padded_text(made):
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(made.config.model.encoder).eval()
    batch = made.tokenizer(["a film", "a much longer title of another film"], padding=True, return_tensors="pt")
    states = plain(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(made.model.encode_text(batch["input_ids"], batch["attention_mask"]), expected, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_fresh_adapters_leave_the_body_equal_to_the_pretrained_encoder(made, tiny_encoder):
    from transformers import AutoModel

    from recllm.model.modeling_recllm import RecllmModel

    fresh, plain = RecllmModel(made.model.config), AutoModel.from_pretrained(tiny_encoder).eval()
    fresh.load_encoder(plain)
    batch = made.tokenizer(["a film", "a much longer title"], padding=True, return_tensors="pt")
    expected = plain(**batch).last_hidden_state
    mask = batch["attention_mask"].bool()
    for encoder in (fresh.eval().body, fresh.tower):
        found = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        torch.testing.assert_close(found[mask], expected[mask], atol=1e-6, rtol=0)


def test_a_dropped_layout_is_an_error(made, examples):
    model = copy.deepcopy(made.model)
    model.body.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="expected 2 attention calls"):
        model(**load(examples, np.array([0])).inputs)


def reader_of(made) -> RequestReader:
    from recllm.feed.vectors import encode

    def tokenize(text, length):
        return list(made.tokenizer(text, truncation=True, max_length=length)["input_ids"])

    return RequestReader(made.processor, tokenize, lambda texts: encode(made.model, made.tokenizer, texts, 16))


@torch.inference_mode()
def test_replay_of_every_test_request_through_processor_and_model(made, examples):
    """Raw dicts give evaluate's scores: ties, late outcomes, gone items, offsets and users of many windows among them."""
    scores, reader, raw = score(made.model, examples, 4_000, CPU), reader_of(made), RawRequests(made.log, made.processor)
    spec, windows, worst = made.processor.spec, 0, 0.0
    n_before = made.log.frame["n_before"].to_numpy()
    rng = np.random.default_rng(0)
    for index in rng.permutation(len(scores.row)):
        row = int(scores.row[index])
        n, length = int(n_before[row]), int(made.log.first[made.log.user[row] + 1] - made.log.first[made.log.user[row]])
        start = int(window_start(n, spec["stride"], spec["overlap"]))
        windows = max(windows, start // spec["stride"])
        # the history starts at the window or before it, holds events that are not visible, and comes in any order
        begin = int(rng.integers(0, start + 1))
        request = raw.request([row], start=begin, end=min(length, n + 3))
        request["history"] = [request["history"][i] for i in rng.permutation(len(request["history"]))]
        prepared = reader.read(request)
        out = made.model(**made.processor.collate([prepared.example], prepared.items, text_vectors=prepared.text_vectors))
        for name in ("click", "purchase"):
            worst = max(worst, float((out[name][0] - scores.raw[name][index]).abs()))
        seconds = made.model.heads.seconds({"duration_logits": out["duration_logits"][0]})
        expected = made.model.heads.seconds({"duration_logits": scores.raw["duration_logits"][index]})
        for part, value in expected.items():
            torch.testing.assert_close(seconds[part], value, rtol=1e-5, atol=1e-5)
    assert worst < 1e-5 and windows > 3 and len(scores.row) > 100


def test_user_counters_equal_a_brute_force_loop(made):
    """Counters of every train row, from its window's start on, recounted event by event."""
    examples, spec = made.examples(TRAIN), made.processor.spec
    names = made.processor.number_names()
    for group, example in ((g, examples[i]) for i, g in enumerate(examples.groups)):
        events = examples.timeline.take(slice(group.start, group.start + example.events))
        for place in range(len(group.row)):
            n = int(example.n[example.events + place])
            booked = [o for o in events.outcomes[:n] if not np.isnan(o).all()]
            clicks = [o[0] for o in events.outcomes[:n] if not np.isnan(o[0])]
            number = dict(zip(names, example.num[example.events + place] * made.processor.std + made.processor.mean, strict=True))
            assert number["user_log_events"] == pytest.approx(np.log1p(len(booked)), abs=1e-5)
            assert number["user_click_log_n"] == pytest.approx(np.log1p(len(clicks)), abs=1e-5)
            prior = spec["counters"]["priors"]["click"]
            rate = (sum(clicks) + 10 * prior) / (len(clicks) + 10)
            assert number["user_click_log_odds"] == pytest.approx(np.log(rate / (1 - rate) / (prior / (1 - prior))), abs=1e-4)


def test_plan_covers_every_example_once_within_the_budget(made):
    sizes = made.examples(TRAIN).sizes
    for key in (None, [0, 1], [0, 2]):
        batches = plan(sizes, 400, key)
        assert sorted(np.concatenate(batches)) == list(range(len(sizes)))
        for batch in batches:
            assert len(batch) == 1 or sizes[batch].sum() <= 400


def test_visible_is_a_leading_run():
    time, known = np.array([1, 1, 2, 5, 6]), np.array([9, 1, 2, 5, 6])
    assert visible(time, known, np.array([1, 2, 8, 9, 100])).tolist() == [0, 0, 0, 5, 5]
