"""Heads on the candidate state: binary outcomes in the entire space, duration as a distribution, and their calibration."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softmax

from .configuration_recllm import RecllmConfig


def mlp(width: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, out))


class Heads(nn.Module):
    """One small MLP per declared outcome. `given` outcomes are conditional logits, multiplied in log space
    (entire space: Ma et al. 2018, "Entire Space Multi-Task Model")."""

    scale: torch.Tensor
    bias: torch.Tensor
    shift: torch.Tensor
    temperature: torch.Tensor
    edges: torch.Tensor
    values: torch.Tensor

    def __init__(self, config: RecllmConfig, width: int) -> None:
        super().__init__()
        self.binary: list[str] = list(config.binary)
        self.given: dict[str, str] = dict(config.given)
        self.norm = nn.LayerNorm(width)
        self.logits = nn.ModuleDict({name: mlp(width, config.head_width, 1, config.dropout) for name in self.binary})
        self.duration = mlp(width, config.head_width, config.duration_bins, config.dropout) if config.duration else None
        # persistent: non-persistent buffers come back as uninitialised memory from from_pretrained
        self.register_buffer("scale", torch.ones(len(self.binary)))
        self.register_buffer("bias", torch.zeros(len(self.binary)))
        self.register_buffer("shift", torch.zeros(len(self.binary)))  # logit(base rate) - logit(sampled rate), see data.negatives
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("edges", torch.linspace(0.0, 1.0, config.duration_bins + 1))  # seconds; bin k is (edges[k], edges[k + 1]]
        self.register_buffer("values", torch.zeros(config.duration_bins))  # mean train seconds of each bin

    def forward(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """State (..., W) -> raw logits (...,) of each binary outcome, conditional where given, and `duration` logits (..., K)."""
        state = self.norm(state)
        out = {name: head(state).squeeze(-1) for name, head in self.logits.items()}
        if self.duration is not None:
            out["duration_logits"] = self.duration(state)
        return out

    def log_probability(self, raw: dict[str, torch.Tensor], name: str, calibrated: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """(log p, log (1 - p)) of an outcome over all impressions: log p = log p(condition) + logsigmoid(conditional logit)."""
        logit = raw[name]
        if calibrated:
            index = self.binary.index(name)
            logit = logit * self.scale[index] + self.bias[index] + self.shift[index]
        if name not in self.given:
            return logsigmoid(logit), logsigmoid(-logit)
        log_p = self.log_probability(raw, self.given[name], calibrated)[0] + logsigmoid(logit)
        return log_p, torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))

    def seconds(self, raw: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Mean, median and the 80% interval of the duration, seconds (...,). Inside a bin time is spread evenly in log(1 + t)."""
        p = softmax(raw["duration_logits"] / self.temperature, dim=-1)
        low, middle, high = (self._quantile(p, q) for q in (0.1, 0.5, 0.9))
        return {"mean": (p * self.values).sum(-1), "median": middle, "low": low, "high": high}

    def bin_of(self, seconds: torch.Tensor) -> torch.Tensor:
        """Bin (int64) of each duration in seconds: 0 is exactly 0 s, the last is `clip` or more; NaN falls in bin 0."""
        clip = self.edges[-1]
        inner = torch.bucketize(seconds.nan_to_num(0.0).clamp(min=0), self.edges[1:-1])
        return torch.where(seconds >= clip, len(self.values) - 1, inner.clamp(max=len(self.values) - 2))

    def _quantile(self, p: torch.Tensor, q: float) -> torch.Tensor:
        below = p.cumsum(-1)
        bin_ = (below < q).sum(-1, keepdim=True).clamp(max=p.shape[-1] - 1)
        inside = p.gather(-1, bin_).clamp(min=1e-9)
        part = ((q - (below.gather(-1, bin_) - inside)) / inside).clamp(0, 1)
        start, end = torch.log1p(self.edges[bin_].clamp(min=0)), torch.log1p(self.edges[bin_ + 1])
        return torch.expm1(start + part * (end - start)).squeeze(-1)

    def predictions(self, raw: dict[str, torch.Tensor], duration: str | None) -> dict[str, Any]:
        """Calibrated predictions: outcome -> probability, duration -> seconds, `<duration>_low` and `_high` its 80% interval."""
        out: dict[str, Any] = {name: self.log_probability(raw, name)[0].exp() for name in self.binary}
        if duration:
            seconds = self.seconds(raw)
            out |= {duration: seconds["mean"], f"{duration}_median": seconds["median"],
                    f"{duration}_low": seconds["low"], f"{duration}_high": seconds["high"]}
        return out
