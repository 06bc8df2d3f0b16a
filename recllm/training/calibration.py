"""Calibration on validation: temperature and bias of each binary outcome's logit, one temperature for the duration.

Platt 1999, "Probabilistic outputs for support vector machines"; Guo et al. 2017, "On calibration of modern neural networks".
A `given` outcome's conditional is fitted on the product's loss, after its condition.
"""

import math

import torch
from torch.nn.functional import cross_entropy

from recllm.config import Config
from recllm.feed.score import Scores
from recllm.model.heads_recllm import Heads

FEWEST = 200  # known labels below which the raw logits are kept


def _minimise(parameters: list[torch.Tensor], loss: object) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()  # type: ignore[operator]
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def calibrate(heads: Heads, scores: Scores, config: Config, names: list[str]) -> dict[str, float]:
    """Set the heads' calibration from validation scores. Returns what was set, for the record.

    An outcome with too few known labels keeps what it has: none in a fresh run, the release's in one that goes on from it.
    """
    heads.shift.zero_()
    found: dict[str, float] = {}
    device = heads.scale.device
    raw = {n: v.to(device) for n, v in scores.raw.items()}
    for index, name in enumerate(heads.binary):
        y = scores.labels[:, names.index(name)].to(device)
        known = ~y.isnan()
        if int(known.sum()) < FEWEST or y[known].unique().numel() < 2:
            continue
        heads.scale[index], heads.bias[index] = 1.0, 0.0  # the loss below applies them on top of what it fits
        rows = {n: v[known] for n, v in raw.items()}
        scale, bias = torch.ones((), device=device, requires_grad=True), torch.zeros((), device=device, requires_grad=True)

        def loss(name: str = name, rows: dict = rows, y: torch.Tensor = y[known], scale: torch.Tensor = scale,
                 bias: torch.Tensor = bias) -> torch.Tensor:
            log_p, log_not = heads.log_probability({**rows, name: rows[name] * scale + bias}, name)
            return -(y * log_p + (1 - y) * log_not).mean()

        _minimise([scale, bias], loss)
        heads.scale[index], heads.bias[index] = scale.detach(), bias.detach()
        found |= {f"{name}_scale": float(scale.detach()), f"{name}_bias": float(bias.detach())}
    if "duration_logits" in raw:
        found |= _calibrate_duration(heads, raw["duration_logits"], scores.labels[:, names.index(str(config.columns.duration))].to(device))
    negatives = config.data.negatives
    if negatives and negatives.base_rate:
        y = scores.labels[:, names.index(heads.binary[0])]
        sampled = float(y[~y.isnan()].mean())
        heads.shift[0] = math.log(negatives.base_rate / (1 - negatives.base_rate)) - math.log(sampled / (1 - sampled))
        found["base_rate_shift"] = float(heads.shift[0])
    return found


def _calibrate_duration(heads: Heads, logits: torch.Tensor, seconds: torch.Tensor) -> dict[str, float]:
    known = ~seconds.isnan()
    if int(known.sum()) < FEWEST:
        return {}
    target = heads.bin_of(seconds[known])
    log_temperature = torch.zeros((), device=logits.device, requires_grad=True)
    _minimise([log_temperature], lambda: cross_entropy(logits[known] / log_temperature.exp(), target))
    heads.temperature.copy_(log_temperature.detach().exp())
    return {"duration_temperature": float(heads.temperature)}
