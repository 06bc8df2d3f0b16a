"""Global batches within a token budget, the same on every process, and the tensors that one process makes of its share."""

from dataclasses import dataclass

import numpy as np
import torch

from recllm.feed.examples import Examples
from recllm.feed.split import shares
from recllm.model.packing_recllm import plan

__all__ = ["Batch", "load", "plan"]


@dataclass
class Batch:
    """Tensors of one process's share of a global batch: C candidates and queries, one example behind the other. Labels are NaN for unknown
    and for queries."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor  # (C, o)
    weight: torch.Tensor  # (C,)
    example: torch.Tensor  # (C,) place of the example in the share
    request: torch.Tensor  # (C,) request code, of candidates and queries
    time: torch.Tensor  # (C,) int64 ms of each row
    position: torch.Tensor  # (C,) int64 show position from 1; 0 for unknown, queries
    total: torch.Tensor  # (o,) known labels in the whole global batch, weighted
    scored: torch.Tensor  # (U,) bool, which of the inputs' distinct items are scored anywhere in the global batch
    clicks: torch.Tensor  # () positives of the first binary outcome in the whole global batch

    def to(self, device: torch.device) -> "Batch":
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        # sizes decide shapes: on the CPU they cost no wait for the device
        inputs = {k: v if k == "sizes" else v.to(device, non_blocking=True) for k, v in self.inputs.items()}
        return Batch(inputs=inputs, **moved)


def load(examples: Examples, batch: np.ndarray, rank: int = 0, ranks: int = 1) -> Batch:
    """The share of one process, even in tokens. A process without an example of its own repeats one with every label unknown."""
    mine = batch[shares(examples.sizes[batch].sum(1), ranks)[rank]]
    empty = len(mine) == 0
    mine = batch[:1] if empty else mine
    everywhere = examples.scored(batch)
    inputs = examples.processor.collate([examples[int(i)] for i in mine], also=everywhere)
    told = {int(index): examples.targets(int(index)) for index in batch}
    parts = [_targets(examples, int(index), told[int(index)], empty) for index in mine]
    labels, weight, request, time, position = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    total, clicks = np.zeros(len(examples.names)), 0.0
    for y, w, _ in told.values():
        total += (~np.isnan(y) * w[:, None]).sum(0)
        clicks += float((y[:, examples.click] == 1).sum())
    return Batch(inputs, torch.from_numpy(labels).float(), torch.from_numpy(weight).float(),
                 torch.repeat_interleave(torch.arange(len(mine)), inputs["sizes"][:, 2]), torch.from_numpy(request),
                 torch.from_numpy(time), torch.from_numpy(position), torch.from_numpy(total).float(),
                 torch.from_numpy(np.isin(inputs["item_row"].numpy(), everywhere)), torch.tensor(clicks))


def _targets(examples: Examples, index: int, told: tuple[np.ndarray, ...], empty: bool) -> tuple[np.ndarray, ...]:
    """(labels, weight, request, time, position) of an example's candidates, then of its queries; nothing is known of an `empty` one.
    `told` is what `Examples.targets` says."""
    group = examples.groups[index]
    y, w, asked = told
    codes, first = np.unique(asked, return_index=True)
    moments, more = examples.timeline.time[group.row], len(codes)
    labels = np.concatenate([np.full_like(y, np.nan) if empty else y, np.full((more, y.shape[1]), np.nan)])
    weight = np.concatenate([np.zeros_like(w) if empty else w, np.zeros(more)])
    return (labels, weight, np.concatenate([asked, codes]), np.concatenate([moments, moments[first]]),
            np.concatenate([examples.positions(index), np.zeros(more, dtype=np.int64)]))
