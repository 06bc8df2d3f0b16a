"""SASRec (Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018): a transformer over the ids of past positives."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from recllm.evaluation.baselines.base import fit_priors, one_class
from recllm.evaluation.baselines.networks import ids, seeded, train
from recllm.evaluation.features import FeatureTable, Sequences
from recllm.model.timeline_recllm import window_start
from recllm.schema import Outcome

WIDTH, LAYERS, DROPOUT = 48, 2, 0.5
HALF = 50  # a row reads at least its last 50 positives where it has them, and fewer than 100
BATCH, RATE, DECAY = 1024, 1e-3, 1.0  # rows a step, about (whole windows); decay of the item vectors alone
BIAS_RATE = 1e-2  # an item's bias has far to go: at RATE the vectors overfit before it is there
ROWS_TRAINED, ROWS_PREDICTED = 256, 8192  # of one window at a time


@dataclass
class Windows:
    """Rows gathered by the run of positives that they read: each run is encoded once, a row takes the state after its own last one."""

    order: np.ndarray  # (n,) rows, those of one window together
    bounds: np.ndarray  # (w + 1,) window k has the rows order[bounds[k] : bounds[k + 1]]
    begin: np.ndarray  # (w,) first of its positives
    length: np.ndarray  # (w,) how many the window's latest row sees
    seen: np.ndarray  # (n,) how many of them each row sees
    item: np.ndarray  # (n,) embedding row of each row's item
    positives: np.ndarray  # (p,) embedding rows of all positives, in order

    @classmethod
    def of(cls, sequences: Sequences, outcome: str, most: int) -> "Windows":
        """Windows of at most `most` rows. An outcome that is not measured has no positives."""
        y = sequences.event_outcomes.get(outcome, np.zeros(len(sequences.event_item)))
        before = np.append(0, np.cumsum(y == 1))
        visible = before[sequences.stop] - before[sequences.start]
        skipped = window_start(visible, HALF, HALF)
        begin = before[sequences.start] + skipped
        order = np.argsort(begin, kind="stable")
        first = np.flatnonzero(np.diff(begin[order], prepend=-1))
        rank = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
        bounds = np.append(np.flatnonzero(rank % most == 0), len(order))
        seen = visible - skipped
        length = np.maximum.reduceat(seen[order], bounds[:-1]) if len(order) else np.zeros(0, dtype=np.int64)
        return cls(order, bounds, begin[order][bounds[:-1]], length, seen, ids(sequences, sequences.item),
                   ids(sequences, sequences.event_item[y == 1]))

    def load(self, windows: np.ndarray) -> tuple[np.ndarray, list[torch.Tensor]]:
        """(rows (r,), [positives (b, longest) with 0 behind a window's last, window in the batch, positives seen, item (r,)])."""
        at = np.arange(int(self.length[windows].max()))
        inside = at < self.length[windows, None]
        runs = np.zeros(inside.shape, dtype=np.int64)
        runs[inside] = self.positives[(self.begin[windows, None] + at)[inside]]
        parts = [self.order[self.bounds[w] : self.bounds[w + 1]] for w in windows]
        rows = np.concatenate(parts)
        where = np.repeat(np.arange(len(windows)), [len(part) for part in parts])
        return rows, [torch.from_numpy(array) for array in (runs, where, self.seen[rows], self.item[rows])]


class Network(nn.Module):
    """Layers of one head with pre-norm under a causal mask. A learned start token stands before the first positive: its state is that of
    a row without history (the paper pads with zeros there)."""

    def __init__(self, items: int, level: float) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(2 * HALF, WIDTH)
        self.bias = nn.Embedding(items + 1, 1, padding_idx=0)
        self.start = nn.Parameter(torch.randn(WIDTH) * 0.02)
        self.level = nn.Parameter(torch.tensor(level))
        layers = [nn.TransformerEncoderLayer(WIDTH, 1, WIDTH, DROPOUT, batch_first=True, norm_first=True) for _ in range(LAYERS)]
        self.layers, self.norm, self.dropout = nn.ModuleList(layers), nn.LayerNorm(WIDTH), nn.Dropout(DROPOUT)
        with torch.no_grad():
            for table in (self.items, self.positions):
                table.weight.normal_(std=0.02)
            self.items.weight[0] = 0
            self.bias.weight.zero_()

    def rates(self) -> list[dict[str, Any]]:
        """Parameters for the optimiser: item vectors, item biases, the rest."""
        apart = {id(self.items.weight), id(self.bias.weight)}
        return [{"params": [self.items.weight], "weight_decay": DECAY}, {"params": [self.bias.weight], "lr": BIAS_RATE},
                {"params": [p for p in self.parameters() if id(p) not in apart]}]

    def states(self, runs: torch.Tensor) -> torch.Tensor:
        """(b, s) embedding rows of positives -> (b, 1 + s, WIDTH): state k has read the first k of them."""
        x = torch.cat([self.start.expand(len(runs), 1, WIDTH), self.items(runs) * WIDTH**0.5], dim=1)
        x = self.dropout(x + self.positions.weight[: x.shape[1]])
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.norm(x)

    def forward(self, runs: torch.Tensor, where: torch.Tensor, seen: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Logits (r,) of rows: state . item + item's bias + level."""
        state = self.states(runs)[where, seen]
        return (state * self.items(item)).sum(-1) + self.bias(item)[:, 0] + self.level


class SASRec:
    """One network per binary outcome, over the positives of that outcome; binary log loss on the rows themselves, seen items and not
    sampled ones as in the paper, so that its figures are of the same task as recllm's. A duration is not predicted."""

    name = "sasrec"
    reads_counters = False

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        binary = {name: outcome for name, outcome in outcomes.items() if outcome.kind == "binary"}
        self.priors = fit_priors(train, binary)
        self.networks: dict[str, Network] = {}
        for name in binary:
            if train.sequences is not None and not one_class(train.labels[name]):
                with seeded(seed):
                    self.networks[name] = self._fit_one(train, validation, name)

    def _fit_one(self, table: FeatureTable, validation: FeatureTable, name: str) -> Network:
        known, held_out = (t.take(~np.isnan(t.labels[name])) for t in (table, validation))
        assert known.sequences is not None
        level = self.priors[name]
        network = Network(known.sequences.items, float(np.log(level / (1 - level))))
        windows = Windows.of(known.sequences, name, ROWS_TRAINED)
        y = torch.from_numpy(known.labels[name]).float()
        optimiser = torch.optim.AdamW(network.rates(), lr=RATE, weight_decay=0.0)
        size = max(1, round(BATCH * len(windows.begin) / len(y)))

        def epoch() -> None:
            for part in torch.randperm(len(windows.begin)).split(size):
                rows, inputs = windows.load(part.numpy())
                optimiser.zero_grad()
                nn.functional.binary_cross_entropy_with_logits(network(*inputs), y[rows]).backward()
                optimiser.step()

        def loss() -> float:
            target = torch.from_numpy(held_out.labels[name])
            return float(nn.functional.binary_cross_entropy_with_logits(_logits(network, held_out, name), target))

        train(network, epoch, loss if len(held_out.frame) and held_out.sequences is not None else None)
        return network

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        predicted = {name: np.full(len(table.frame), start) for name, start in self.priors.items()}
        for name, network in self.networks.items() if table.sequences is not None else ():
            predicted[name] = torch.sigmoid(_logits(network, table, name)).numpy()
        return predicted


def _logits(network: Network, table: FeatureTable, name: str) -> torch.Tensor:
    """(n,) float64, batch by batch."""
    assert table.sequences is not None
    windows = Windows.of(table.sequences, name, ROWS_PREDICTED)
    out = torch.zeros(len(table.frame), dtype=torch.float64)
    size = max(1, round(ROWS_PREDICTED * len(windows.begin) / max(len(out), 1)))
    with torch.no_grad():
        for part in np.split(np.arange(len(windows.begin)), range(size, len(windows.begin), size)):
            if len(part):
                rows, inputs = windows.load(part)
                out[rows] = network(*inputs).double()
    return out
