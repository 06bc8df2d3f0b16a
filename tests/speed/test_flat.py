"""The opponent is what it says: the encoder itself, LoRA merged without a change of what it computes, nothing else trained."""

import pytest
import torch

from tests.speed.encoder import bare
from tests.speed.flat import FlatEncoder, FlatScoring, FlatTraining, best_size
from tests.speed.tiny import SHAPE

CPU = torch.device("cpu")


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return bare(SHAPE).eval()


@pytest.fixture
def ids():
    return torch.randint(5, 200, (3, 24), generator=torch.Generator().manual_seed(0))


def stirred(encoder):
    """A flat encoder whose LoRA says something."""
    model = FlatEncoder(encoder).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model


@torch.inference_mode()
def test_merged_equals_unmerged(encoder, ids):
    model, fresh = stirred(encoder), FlatEncoder(encoder, lora=False).eval()
    fresh.head.load_state_dict(model.head.state_dict())
    before = model(ids)
    assert (before - fresh(ids)).abs().max() > 1e-3  # the adapters matter
    merged = model.merged()
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    torch.testing.assert_close(merged(ids), before, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_fresh_adapters_leave_the_encoder_as_it_was(encoder, ids):
    model = FlatEncoder(encoder).eval()
    torch.testing.assert_close(model.body(input_ids=ids).last_hidden_state, encoder(input_ids=ids).last_hidden_state)


def test_a_step_trains_adapters_and_head_and_nothing_else(encoder, ids):
    side = FlatTraining(encoder, ids, torch.tensor([1.0, 0.0, 1.0]), CPU)
    before = {name: value.clone() for name, value in side.model.state_dict().items()}
    seconds, items = side.round(4, repeats=2)
    moved = {name for name, value in side.model.state_dict().items() if not torch.equal(value, before[name])}
    assert seconds > 0 and items == 8
    assert moved == {name for name in before if "lora_" in name or name.startswith("head.")}


def test_scoring_counts_candidates_and_finds_its_best_batch(encoder, ids):
    side = FlatScoring(encoder, ids, CPU)
    assert side.round(5, repeats=2)[1] == 10
    size, rates = best_size(side, (1, 2), 2)
    assert size == max(rates, key=rates.get)
    assert set(rates) == {1, 2}
