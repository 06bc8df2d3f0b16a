"""What a baseline is, and the few lines that several share."""

from typing import Protocol

import numpy as np

from recllm.evaluation.features import Counter, FeatureTable
from recllm.schema import Outcome

STRENGTH = 10.0  # a rate's prior weighs as much as so many rows


class Baseline(Protocol):
    """Fitted on train alone; validation decides when to stop and nothing else. Rows with an unknown label are masked per outcome."""

    name: str
    reads_counters: bool

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        """Same tables and seed: the same predictions."""

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        """Outcome -> (n,) float64: probabilities for every binary outcome; seconds in [0, clip] for a duration, where it can be predicted.

        Reads the table's frame, never its labels.
        """


def prior(labels: np.ndarray) -> float:
    """Rate of a binary outcome over rows with a known label, half a row of each class added so that it is never 0 or 1."""
    known = labels[~np.isnan(labels)]
    return float((known.sum() + 0.5) / (len(known) + 1))


def one_class(labels: np.ndarray) -> bool:
    """No known label, or all the same: nothing to learn but the prior."""
    known = labels[~np.isnan(labels)]
    return len(known) == 0 or bool(known.min() == known.max())


def seconds(labels: np.ndarray, outcome: Outcome) -> np.ndarray:
    """Durations clipped as the task says; NaN stays."""
    return np.minimum(labels, outcome.clip)


def fit_priors(train: FeatureTable, outcomes: dict[str, Outcome]) -> dict[str, float]:
    """Of each outcome: the smoothed rate, or the mean of the clipped seconds. A duration without a known label has none."""
    priors = {}
    for name, outcome in outcomes.items():
        labels = train.labels[name]
        if outcome.kind == "binary":
            priors[name] = prior(labels)
        elif not np.isnan(labels).all():
            priors[name] = float(np.nanmean(seconds(labels, outcome)))
    return priors


def smoothed(table: FeatureTable, counter: Counter, start: float) -> np.ndarray:
    """(n,) running rate or mean: (sum + STRENGTH x start) / (n + STRENGTH); a missing count is 0."""
    n, total = (np.nan_to_num(table.frame[column].to_numpy(dtype=np.float64)) for column in (counter.n, counter.total))
    return (total + STRENGTH * start) / (n + STRENGTH)
