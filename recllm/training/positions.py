"""Position bias: what is shown first is clicked more, whatever it is. Known in training alone; no released model holds any of it.

A shallow tower beside the model, as in Zhao et al. 2019, "Recommending what video to watch next": an additive bias of the click logit
by show position. In training it takes what the place explains off the model, which is then evaluated, calibrated and served without it.
"""

import torch
from torch import nn

BUCKETS = 24  # log-spaced: places 1, 2, 3 and 4 are apart, from 4 on two to each doubling
DROPOUT = 0.1  # share of positions that are taken for unknown, so that the model alone, as it is served, is trained as well
SPEED = 10.0  # Adam moves a weight by its rate a step: a bias of one logit would need five hundred


class PositionBias(nn.Module):
    """Bias (B, C) of show positions (B, C) int64, from 1, 0 for unknown: an unknown one has none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(BUCKETS))

    def bucket(self, position: torch.Tensor) -> torch.Tensor:
        """Bucket from 0 of each known position."""
        return (2 * torch.log2(position.clamp(min=1).double()) + 1e-9).floor().long().clamp(max=BUCKETS - 1)

    def forward(self, position: torch.Tensor) -> torch.Tensor:
        known = position > 0
        if self.training:
            known = known & (torch.rand(position.shape, device=position.device) >= DROPOUT)
        return torch.where(known, SPEED * self.weight[self.bucket(position)], 0.0)
