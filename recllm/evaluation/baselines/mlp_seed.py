"""The network this project began with, kept as it was: user and context to three outputs, no item, no counters."""

import copy
import math

import numpy as np
import pandas as pd
import torch
from torch import nn

from recllm.evaluation.baselines.base import fit_priors, one_class, seconds
from recllm.evaluation.features import FeatureTable
from recllm.schema import Outcome

WIDTH, BATCH, EPOCHS, PATIENCE, RATE = 64, 1024, 50, 3, 1e-3
WITHOUT_VALIDATION = 10  # epochs


class Encoder:
    """Columns to a float32 matrix: numbers standardised by train's mean and scale (missing: 0), categories one-hot (missing: all 0)."""

    def __init__(self, frame: pd.DataFrame, columns: list[str]) -> None:
        self.categories = [column for column in columns if isinstance(frame[column].dtype, pd.CategoricalDtype)]
        self.numbers = [column for column in columns if column not in self.categories]
        sizes = [len(frame[column].cat.categories) for column in self.categories]
        self.starts = len(self.numbers) + np.cumsum([0, *sizes])
        values = np.ma.masked_invalid(frame[self.numbers].to_numpy(dtype=np.float64))
        self.mean = np.ma.filled(values.mean(axis=0), 0.0)
        scale = np.ma.filled(values.std(axis=0), 0.0)
        self.scale = np.where(scale > 1e-6, scale, 1.0)
        self.width = max(1, int(self.starts[-1]))  # without columns one of zeros, so that the layer on top keeps its bias

    def read(self, frame: pd.DataFrame) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, categories) int64 column of each value in the matrix, `width` if missing; (n, numbers) float32."""
        columns = np.full((len(frame), len(self.categories)), self.width)
        for index, (name, start) in enumerate(zip(self.categories, self.starts, strict=False)):
            codes = frame[name].cat.codes.to_numpy(dtype=np.int64)
            columns[:, index] = np.where(codes >= 0, start + codes, self.width)
        numbers = np.nan_to_num((frame[self.numbers].to_numpy(dtype=np.float64) - self.mean) / self.scale)
        return torch.from_numpy(columns), torch.from_numpy(numbers.astype(np.float32))

    def matrix(self, columns: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """(n, width), made batch by batch: one-hot rows of a whole log can take a gigabyte."""
        x = torch.zeros(len(columns), self.width + 1)
        x.scatter_(1, columns, 1.0)
        x[:, : numbers.shape[1]] = numbers
        return x[:, : self.width]


class Network(nn.Module):
    """Dense 64 (relu) on the user, joined by the context, Dense 64 (relu), one output per outcome."""

    def __init__(self, user: int, context: int, outputs: int) -> None:
        super().__init__()
        self.user = nn.Linear(user, WIDTH)
        self.joint = nn.Linear(WIDTH + context, WIDTH)
        self.out = nn.Linear(WIDTH, outputs)

    def forward(self, user: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(n, user), (n, context) -> (n, outputs): logits, and duration / clip."""
        hidden = torch.relu(self.user(user))
        return self.out(torch.relu(self.joint(torch.cat([hidden, context], dim=1))))


class MLPSeed:
    """Adam on BCE where the label is known, plus MSE of duration / clip; stopped on validation loss."""

    name = "mlp-seed"
    reads_counters = False

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        self.outcomes = outcomes
        self.priors = fit_priors(train, outcomes)
        self.constant = [name for name in outcomes if one_class(train.labels[name])]
        self.user, self.context = (Encoder(train.frame, train.columns(group)) for group in ("profile", "context"))
        with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
            torch.manual_seed(seed)
            self.network = Network(self.user.width, self.context.width, len(outcomes))
            self._train([*self._inputs(train), self._labels(train)], [*self._inputs(validation), self._labels(validation)])

    def _train(self, train: list[torch.Tensor], validation: list[torch.Tensor]) -> None:
        optimiser = torch.optim.Adam(self.network.parameters(), lr=RATE)
        measured = bool(torch.isfinite(validation[-1]).any())
        best, best_state, since = math.inf, copy.deepcopy(self.network.state_dict()), 0
        for _ in range(EPOCHS if measured else WITHOUT_VALIDATION):
            for rows in torch.randperm(len(train[0])).split(BATCH):
                optimiser.zero_grad()
                self._loss([tensor[rows] for tensor in train]).backward()
                optimiser.step()
            if not measured:
                continue
            with torch.no_grad():
                loss = float(self._loss(validation))
            since = 0 if loss < best else since + 1
            if since == 0:
                best, best_state = loss, copy.deepcopy(self.network.state_dict())
            if since == PATIENCE:
                break
        if measured:
            self.network.load_state_dict(best_state)

    def _loss(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """Sum over outcomes of the mean loss over rows with a known label; an outcome without any adds 0."""
        *inputs, labels = tensors
        known = torch.isfinite(labels)
        target = torch.where(known, labels, 0.0)
        out = self._outputs(inputs)
        total = out.sum() * 0.0
        for index, outcome in enumerate(self.outcomes.values()):
            error = nn.functional.binary_cross_entropy_with_logits if outcome.kind == "binary" else nn.functional.mse_loss
            losses = error(out[:, index], target[:, index], reduction="none") * known[:, index]
            total = total + losses.sum() / known[:, index].sum().clamp(min=1)
        return total

    def _inputs(self, table: FeatureTable) -> list[torch.Tensor]:
        return [*self.user.read(table.frame), *self.context.read(table.frame)]

    def _labels(self, table: FeatureTable) -> torch.Tensor:
        """(n, outcomes) float32, duration / clip, NaN unknown."""
        columns = [
            table.labels[name] if outcome.kind == "binary" else seconds(table.labels[name], outcome) / outcome.clip
            for name, outcome in self.outcomes.items()
        ]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def _outputs(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """(n, outcomes): logits, and duration / clip."""
        batches = [
            self.network(self.user.matrix(*part[:2]), self.context.matrix(*part[2:]))
            for part in zip(*(tensor.split(BATCH) for tensor in inputs), strict=True)
        ]
        return torch.cat(batches)

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        with torch.no_grad():
            out = self._outputs(self._inputs(table)).double()
        predicted = {}
        for index, (name, outcome) in enumerate(self.outcomes.items()):
            if name not in self.priors:
                continue
            if name in self.constant:
                predicted[name] = np.full(len(table.frame), self.priors[name])
            elif outcome.kind == "binary":
                predicted[name] = torch.sigmoid(out[:, index]).numpy()
            else:
                predicted[name] = (out[:, index] * outcome.clip).clamp(0, outcome.clip).numpy()
        return predicted
