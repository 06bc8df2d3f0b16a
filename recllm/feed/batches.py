"""Global batches within a token budget, the same on every process, and the tensors that one process makes of its share."""

from dataclasses import dataclass

import numpy as np
import torch

from recllm.feed.examples import Examples

CHUNK = 64  # batches' worth of examples that are sorted by length together: little padding, yet a new mix every epoch


@dataclass
class Batch:
    """Tensors of one process's share of a global batch. C candidate-stream tokens; labels are NaN for unknown, padding, queries."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor  # (B, C, o)
    weight: torch.Tensor  # (B, C)
    request: torch.Tensor  # (B, C) request code, of candidates and queries; -1 for padding
    time: torch.Tensor  # (B, C) int64 ms of each row; 0 for padding
    position: torch.Tensor  # (B, C) int64 show position from 1; 0 for unknown, padding, queries
    total: torch.Tensor  # (o,) known labels in the whole global batch, weighted
    scored: torch.Tensor  # (U,) bool, which of the inputs' distinct items are scored anywhere in the global batch
    clicks: torch.Tensor  # () positives of the first binary outcome in the whole global batch

    def to(self, device: torch.device) -> "Batch":
        moved = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return Batch(inputs={k: v if k == "events" else v.to(device) for k, v in self.inputs.items()}, **moved)


def plan(sizes: np.ndarray, profile: int, budget: int, key: list[int] | None) -> list[np.ndarray]:
    """Example indices of each global batch: `sizes` (n, 2) events and candidates, `budget` padded tokens a batch.

    With `key` (seed, epoch) the order is shuffled; without, examples come by length. Nothing depends on the number of processes.
    """
    total = sizes.sum(1) + profile
    rng = np.random.default_rng(key) if key is not None else None
    order = rng.permutation(len(sizes)) if rng is not None else np.arange(len(sizes))
    step = max(int(CHUNK * budget / max(total.mean(), 1)), 1) if len(sizes) else 1
    batches: list[np.ndarray] = []
    for begin in range(0, len(order), step):
        part = order[begin : begin + step]
        part = part[np.argsort(total[part], kind="stable")]
        current: list[int] = []
        widest = np.zeros(2, dtype=np.int64)
        for index in part:
            wider = np.maximum(widest, sizes[index])
            if current and (len(current) + 1) * (int(wider.sum()) + profile) > budget:
                batches.append(np.array(current))
                current, wider = [], sizes[index]
            current.append(int(index))
            widest = wider
        batches.append(np.array(current))
    return [batches[i] for i in rng.permutation(len(batches))] if rng is not None else batches


def load(examples: Examples, batch: np.ndarray, rank: int = 0, ranks: int = 1) -> Batch:
    """The share of one process. A process without an example of its own repeats one with every label unknown."""
    mine = batch[rank::ranks]
    empty = len(mine) == 0
    mine = batch[:1] if empty else mine
    built = [examples[int(i)] for i in mine]
    everywhere = examples.scored(batch)
    inputs = examples.processor.collate(built, also=everywhere)
    events, tokens = int(inputs["events"]), inputs["n"].shape[1]
    b, c, names = len(mine), tokens - events, examples.names
    labels, weight = np.full((b, c, len(names)), np.nan), np.zeros((b, c))
    request, time, position = (np.full((b, c), fill, dtype=np.int64) for fill in (-1, 0, 0))
    for k, index in enumerate(mine):
        group = examples.groups[int(index)]
        y, w, asked = examples.targets(int(index))
        n = len(group.row)
        codes, first = np.unique(asked, return_index=True)
        queries = slice(n, n + len(codes))
        request[k, :n], request[k, queries] = asked, codes
        position[k, :n] = examples.positions(int(index))
        moments = examples.timeline.time[group.row]
        time[k, :n], time[k, queries] = moments, moments[first]
        if not empty:
            labels[k, :n], weight[k, :n] = y, w
    total, clicks = np.zeros(len(names)), 0.0
    for index in batch:
        y, w, _ = examples.targets(int(index))
        total += (~np.isnan(y) * w[:, None]).sum(0)
        clicks += float((y[:, examples.click] == 1).sum())
    return Batch(inputs, torch.from_numpy(labels).float(), torch.from_numpy(weight).float(), torch.from_numpy(request),
                 torch.from_numpy(time), torch.from_numpy(position), torch.from_numpy(total).float(),
                 torch.from_numpy(np.isin(inputs["item_row"].numpy(), everywhere)), torch.tensor(clicks))
