"""DIN (Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018): target attention over the ids of past events."""

import numpy as np
import torch
from torch import nn

from recllm.evaluation.baselines.base import fit_priors, one_class
from recllm.evaluation.baselines.networks import ids, seeded, train
from recllm.evaluation.features import FeatureTable, Sequences
from recllm.schema import Outcome

WIDTH, ATTENTION, HIDDEN, DROPOUT = 16, 16, (64, 32), 0.3
LENGTH = 50  # a row reads its last 50 visible events
BATCH, PREDICTED, RATE = 512, 4096, 1e-3  # rows
BINARY_EDGES, SECONDS_EDGES = (0.5,), (0.0, 3.0, 10.0, 30.0, 100.0, 300.0)  # an outcome as a code: 0 unknown, then the part it falls in


class Inputs:
    """Rows as tensors, batch by batch: 50 events of each row would take gigabytes for a whole log."""

    def __init__(self, sequences: Sequences, outcomes: dict[str, Outcome]) -> None:
        self.sequences = sequences
        self.item, self.event_item = ids(sequences, sequences.item), ids(sequences, sequences.event_item)
        self.codes = np.zeros((len(self.event_item), len(outcomes)), dtype=np.int64)
        for column, (name, outcome) in enumerate(outcomes.items()):
            y = sequences.event_outcomes.get(name, np.full(len(self.event_item), np.nan))
            code = np.searchsorted(BINARY_EDGES if outcome.kind == "binary" else SECONDS_EDGES, y, side="left")
            self.codes[:, column] = np.where(np.isnan(y), 0, 1 + code) + column * (2 + len(SECONDS_EDGES))

    def load(self, rows: np.ndarray) -> list[torch.Tensor]:
        """[item (r,), event items (r, e), event outcome codes (r, e, o), whether there is an event (r, e)], the latest event first;
        e is that of the row with most events, LENGTH at most."""
        start, stop = self.sequences.start[rows], self.sequences.stop[rows]
        longest = min(int((stop - start).max()), LENGTH)
        at = stop[:, None] - 1 - np.arange(longest)
        inside = at >= start[:, None]
        at = np.where(inside, at, 0)
        return [torch.from_numpy(array) for array in (self.item[rows], self.event_item[at], self.codes[at], inside)]


class Network(nn.Module):
    """Event = id + outcomes. Its weight comes from an MLP on [event, candidate, event x candidate], without a softmax, so that the
    interest says how much there is of it, as in the paper. MLP on [candidate, interest, candidate x interest]."""

    def __init__(self, items: int, outcomes: int, level: torch.Tensor) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, WIDTH, padding_idx=0)
        self.outcomes = nn.Embedding(outcomes * (2 + len(SECONDS_EDGES)), WIDTH)
        self.attention = nn.Sequential(nn.Linear(3 * WIDTH, ATTENTION), nn.PReLU(), nn.Linear(ATTENTION, 1))
        first, second = HIDDEN
        self.mlp = nn.Sequential(nn.Linear(3 * WIDTH, first), nn.PReLU(), nn.Dropout(DROPOUT), nn.Linear(first, second), nn.PReLU(),
                                 nn.Dropout(DROPOUT))
        self.out = nn.Linear(second, len(level))
        with torch.no_grad():
            self.items.weight.normal_(std=0.05)
            self.items.weight[0] = 0
            self.outcomes.weight.normal_(std=0.05)
            self.out.bias.copy_(level)

    def forward(self, item: torch.Tensor, event: torch.Tensor, codes: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Logits (r, outputs)."""
        candidate = self.items(item)
        past = self.items(event) + self.outcomes(codes).sum(2)
        beside = candidate[:, None].expand_as(past)
        weight = self.attention(torch.cat([past, beside, past * beside], dim=2)) * inside[:, :, None]
        interest = (weight * past).sum(1) / LENGTH
        return self.out(self.mlp(torch.cat([candidate, interest, candidate * interest], dim=1)))


class DIN:
    """One network with an output per binary outcome, binary log loss where the label is known. A duration is not predicted, but those of
    past events are read where they are measured."""

    name = "din"
    reads_counters = False

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        self.outcomes = outcomes
        self.priors = fit_priors(train, {name: outcome for name, outcome in outcomes.items() if outcome.kind == "binary"})
        self.learned = [name for name in self.priors if not one_class(train.labels[name])]
        self.network: Network | None = None
        if train.sequences is not None and self.learned:
            with seeded(seed):
                self.network = self._fit(train, validation, train.sequences)

    def _fit(self, table: FeatureTable, validation: FeatureTable, sequences: Sequences) -> Network:
        level = torch.tensor([self.priors[name] for name in self.learned]).logit()
        network = Network(sequences.items, len(self.outcomes), level)
        inputs, y, held_out = Inputs(sequences, self.outcomes), self._labels(table), self._labels(validation)
        optimiser = torch.optim.Adam(network.parameters(), lr=RATE)

        def epoch() -> None:
            for rows in torch.randperm(len(y)).split(BATCH):
                optimiser.zero_grad()
                _loss(network(*inputs.load(rows.numpy())), y[rows]).backward()
                optimiser.step()

        measured = validation.sequences is not None and bool(torch.isfinite(held_out).any())
        train(network, epoch, (lambda: float(_loss(self._logits(network, validation), held_out))) if measured else None)
        return network

    def _labels(self, table: FeatureTable) -> torch.Tensor:
        """(n, outputs) float32, NaN unknown."""
        return torch.from_numpy(np.stack([table.labels[name] for name in self.learned], axis=1)).float()

    def _logits(self, network: Network, table: FeatureTable) -> torch.Tensor:
        assert table.sequences is not None
        inputs = Inputs(table.sequences, self.outcomes)
        with torch.no_grad():
            return torch.cat([network(*inputs.load(rows.numpy())) for rows in torch.arange(len(table.frame)).split(PREDICTED)])

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        predicted = {name: np.full(len(table.frame), start) for name, start in self.priors.items()}
        if self.network is not None and table.sequences is not None and len(table.frame):
            logits = self._logits(self.network, table).double()
            predicted |= {name: torch.sigmoid(logits[:, column]).numpy() for column, name in enumerate(self.learned)}
        return predicted


def _loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum over outputs of the mean loss over rows with a known label; an output without any adds 0."""
    known = torch.isfinite(labels)
    losses = nn.functional.binary_cross_entropy_with_logits(logits, torch.where(known, labels, 0.0), reduction="none") * known
    return (losses.sum(0) / known.sum(0).clamp(min=1)).sum()
