"""One prepared log and one model with no zero weight in it, made once for all tests of the model."""

import pytest
import torch

from recllm.data.prepare import prepare
from recllm.feed.log import load_log
from recllm.training.setup import Setup, setup
from tests.worlds import rich_config


def stir(model: torch.nn.Module) -> None:
    """Random values everywhere a fresh model has zeros (LoRA, ids, calibration): a forgotten part would show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.tokens.ids.weight[0] = 0
        model.heads.scale.add_(0.3)
        model.heads.bias.add_(0.1)


@pytest.fixture(scope="session")
def made(tiny_encoder, tmp_path_factory) -> Setup:
    folder = tmp_path_factory.mktemp("rich")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        config = rich_config(folder, tiny_encoder)
        prepare(config)
        ready = setup(config, load_log(config))
    stir(ready.model)
    ready.model.eval()
    return ready
