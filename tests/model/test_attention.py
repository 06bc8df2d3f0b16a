"""Every fast path against the plain one of `dense`: packed, prefix and candidates, a prefix that grows, blocks, merged adapters."""

import copy
import threading

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.model.packing_recllm import padded, parts_of
from recllm.model.processing_recllm import CANDIDATE, EVENT, QUERY
from recllm.model.rows_recllm import Example
from recllm.model.timeline_recllm import visible
from recllm.training.guards import accelerator_for
from tests.model.dense import dense_mask, dense_states

CLOSE = {"atol": 1e-5, "rtol": 0.0}
MANY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def timeline(made, rng: np.random.Generator, events: int, candidates: int, whole: bool = False) -> Example:
    """A made-up window: bursts of ties, outcomes known late, candidates of several moments (of the last one where `whole`), a query."""
    processor, size = made.processor, events + candidates + 1
    time = np.sort(rng.integers(0, max(events // 2, 1) * 10, events)) * 1000
    known = time + rng.integers(0, 30_000, events) * (rng.random(events) < 0.3)
    asked = np.full(candidates + 1, 10**9) if whole else rng.integers(0, 10 * max(events, 1), candidates + 1) * 1000
    n = visible(time, known, np.concatenate([time, asked]))
    slots = [*processor.by_group["context"], *processor.by_group["time"], *processor.by_group["outcome"]]
    columns = [rng.integers(s.offset, s.offset + s.size, (size, s.width)) for s in slots]
    kind = np.repeat(np.array([EVENT, CANDIDATE, QUERY], dtype=np.int8), [events, candidates, 1])
    item = np.where(kind == QUERY, -1, rng.integers(0, len(processor.items), size))
    cat = np.concatenate(columns, axis=1).astype(np.int32)
    num = rng.normal(size=(size, len(processor.number_names()))).astype(np.float32)
    return Example(profile=rng.integers(5, 40, rng.integers(1, 9)).tolist(), events=events, item=item, kind=kind, n=n, cat=cat,
                   weight=rng.random(cat.shape).astype(np.float32), num=num,
                   text=rng.integers(0, len(processor.text_vectors), (size, len(processor.texts))))  # fmt: skip


SIZES = st.lists(st.tuples(st.integers(0, 24), st.integers(0, 12)), min_size=1, max_size=7)


@MANY
@given(sizes=SIZES, seed=st.integers(0, 10**6))
@torch.inference_mode()
def test_packed_timelines_equal_dense_ones(made, sizes, seed):
    # given users with and without a history, ties and late outcomes, any number of candidates
    rng = np.random.default_rng(seed)
    examples = [timeline(made, rng, events, candidates) for events, candidates in sizes]
    batch = made.processor.collate(examples)
    # when all go through one call
    found, _ = made.model.states(batch)
    # then each has the states that it has alone under a dense mask
    parts = [p.split(size) for p, size in zip(found.split(batch["sizes"].sum(0).tolist()), batch["sizes"].T.tolist(), strict=True)]
    for example, mine in zip(examples, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(mine), dense_states(made.model, made.processor, example), **CLOSE)


@MANY
@given(events=st.integers(0, 24), candidates=st.sampled_from([1, 2, 40]), cut=st.integers(0, 24), seed=st.integers(0, 10**6),
       whole=st.booleans())  # fmt: skip
@torch.inference_mode()
def test_a_prefix_and_what_comes_after_it_equal_dense_ones(made, events, candidates, cut, seed, whole):
    example = timeline(made, np.random.default_rng(seed), events, candidates, whole)
    expected = dense_states(made.model, made.processor, example)[len(example.profile) + events :]
    model, cut = made.model.for_inference(), min(cut, events)

    def part(begin: int, end: int, own: int) -> dict[str, torch.Tensor]:
        return made.processor.collate([example.part(np.arange(begin, end), own)])

    after = part(events, example.size, 0)
    # given the whole prefix at once; one that grew by a run of events; one that grew event by event, out of which another grew before
    at_once = model.prefix(part(0, events, events))
    begun = model.prefix(part(0, cut, cut))
    run = model.extend(begun, part(cut, events, events - cut)) if cut < events else begun
    single = begun
    for k in range(cut, events):
        single = model.extend(single, part(k, k + 1, 1))
    # then the candidates' states are those of the dense mask, and the first prefix still is what it was
    for prefix in (at_once, run, single):
        assert (prefix.profile, prefix.events) == (len(example.profile), events)
        torch.testing.assert_close(model.after(prefix, after), expected, **CLOSE)
    if whole:  # candidates of now may come along with their prefix
        opened, states = model.open(part(0, example.size, events))
        torch.testing.assert_close(states, expected, **CLOSE)
        torch.testing.assert_close(opened.read(1, torch.float32), at_once.read(1, torch.float32), **CLOSE)
    if cut < events:
        again = model.extend(begun, part(cut, events, events - cut))
        torch.testing.assert_close(again.read(1, torch.float32), run.read(1, torch.float32))


@torch.inference_mode()
def test_a_thousand_candidates_in_blocks_equal_dense_ones(made):
    example = timeline(made, np.random.default_rng(3), 20, 1000, whole=True)
    expected = dense_states(made.model, made.processor, example)[-1001:]
    model = made.model.for_inference()
    prefix = model.prefix(made.processor.collate([example.part(np.arange(20), 20)]))
    found = [model.after(prefix, made.processor.collate([example.part(block, 0)])) for block in np.array_split(np.arange(20, 1021), 7)]
    torch.testing.assert_close(torch.cat(found), expected, **CLOSE)


@torch.inference_mode()
def test_the_dense_mask_is_the_drawing():
    """What the docstring of attention_recllm shows: four events, the third and fourth of one second, requests before and after."""
    n = np.array([0, 1, 2, 2, 1, 4])
    kind = np.array([0, 0, 0, 0, 1, 1], dtype=np.int8)
    example = Example(profile=[1], events=4, item=np.zeros(6), kind=kind, n=n, cat=n, weight=n, num=n, text=n)
    drawn = ["x....", "xx...", "xxx..", "xxxx.", "xxx.x", "xx...", "xxxxx"]
    assert ["".join(".x"[int(v)] for v in row[:5]) for row in dense_mask(1, example)] == drawn


def test_gradients_of_packed_timelines_equal_dense_ones(made):
    rng = np.random.default_rng(5)
    examples = [timeline(made, rng, *size) for size in ((0, 3), (9, 4), (17, 1), (8, 4))]
    weights = {n: p for n, p in made.model.named_parameters() if p.requires_grad and n.startswith(("body", "tokens"))}
    batch = made.processor.collate(examples)
    states, _ = made.model.states(batch)
    candidates = states[int(batch["sizes"][:, :2].sum()) :]
    found = torch.autograd.grad(candidates.square().sum(), list(weights.values()), allow_unused=True)
    dense = torch.cat([dense_states(made.model, made.processor, x)[len(x.profile) + x.events :] for x in examples])
    expected = torch.autograd.grad(dense.square().sum(), list(weights.values()), allow_unused=True)
    used = 0
    for name, one, other in zip(weights, found, expected, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            used += 1
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    assert used > 20


@given(sizes=st.lists(st.tuples(st.integers(1, 32), st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=40),
       device=st.sampled_from(["cpu", "cuda"]))  # fmt: skip
def test_every_token_asks_once_and_its_keys_are_those_of_its_example(sizes, device):
    sizes = np.array(sizes)
    parts, back = parts_of(sizes, device)
    queries = np.concatenate([p.query for p in parts])
    # then each token is found where `back` says
    assert (queries[back] == np.arange(sizes.sum())).all() and len(np.unique(back)) == sizes.sum()
    assert sum(p.rows for p in parts) == len(sizes)
    if device == "cpu":
        real = (sizes.sum(1) * sizes[:, :2].sum(1)).sum()
        assert padded(sizes, device) * real <= real + 1_000 * len(sizes)  # padding is dearer than a call nowhere


@torch.inference_mode()
def test_the_fused_body_computes_what_is_read_and_no_more(made, monkeypatch):
    # given a timeline of 6 events and 5 candidates, and the sizes of all products of the body
    example = timeline(made, np.random.default_rng(1), 6, 5)
    batch, model, rows = made.processor.collate([example]), made.model.for_inference(), []
    own, product = len(example.profile) + 6, torch.addmm
    total = own + example.size - example.events
    monkeypatch.setattr(torch, "addmm", lambda bias, x, weight: rows.append(len(x)) or product(bias, x, weight))
    model(**batch)
    # then keys and values are those of profile and events, and above the last layer's attention there are candidates only
    assert rows == [own, total, total] * (model.config.layers - 1) + [own, total, total - own]  # keys and values, queries, feed-forward


@torch.inference_mode()
def test_the_fused_body_is_a_copy_in_the_weights_precision(made):
    example = timeline(made, np.random.default_rng(2), 6, 5)
    batch, source = made.processor.collate([example]), copy.deepcopy(made.model)
    model = source.for_inference()
    expected = model(**batch)["click"]
    # whatever autocast its caller is in
    with torch.autocast("cpu", torch.bfloat16):
        assert model.states(batch)[0].dtype == torch.float32
    # and whatever Accelerate made of the model's own forward
    wrapped = copy.deepcopy(made.model)
    accelerator_for("bf16").prepare_model(wrapped, evaluation_mode=True)
    assert "forward" in vars(wrapped)
    torch.testing.assert_close(wrapped.for_inference()(**batch)["click"], expected, **CLOSE)
    # it stays what it was when the encoder's layers change
    for parameter in source.body.encoder.parameters():
        parameter.mul_(1.5)
    assert torch.equal(model(**batch)["click"], expected)


@torch.inference_mode()
def test_candidates_keys_and_values_are_not_computed_in_training(made):
    example = timeline(made, np.random.default_rng(1), 6, 5)
    seen, hooks = [], []
    for name, module in made.model.body.named_modules():
        if name.endswith(("key.base_layer", "value.base_layer")):
            hooks.append(module.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1])))
    made.model.states(made.processor.collate([example]))
    for hook in hooks:
        hook.remove()
    assert set(seen) == {len(example.profile) + 6} and len(seen) == 2 * made.model.config.layers


def test_two_threads_with_one_model_do_not_meet(made):
    """Layouts travel with the call: threads that score different users at once get what each gets alone."""
    examples = [timeline(made, np.random.default_rng(k), 4 + 3 * k, 3) for k in range(4)]
    with torch.inference_mode():
        expected = [dense_states(made.model, made.processor, x) for x in examples]
    wrong: list[float] = []

    def work(k: int) -> None:
        with torch.inference_mode():
            for _ in range(15):
                found, _ = made.model.states(made.processor.collate([examples[k]]))
                wrong.append(float((found - expected[k]).abs().max()))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 60 and max(wrong) < 1e-5


def test_gradient_checkpointing_changes_no_gradient(made):
    batch = made.processor.collate([timeline(made, np.random.default_rng(2), 12, 6)])
    weights = [p for n, p in made.model.named_parameters() if p.requires_grad and "lora_" in n]

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(made.model.states(batch)[0].square().sum(), weights)

    plain = gradients()
    made.model.body.activation_checkpointing_enable({"use_reentrant": False})
    made.model.body.train()
    for module in made.model.body.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    try:
        again = gradients()
    finally:
        made.model.body.activation_checkpointing_disable()
        made.model.eval()
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
