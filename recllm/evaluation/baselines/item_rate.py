"""The item's own running rate, pulled towards the rate of the train split: what a popularity list knows."""

import numpy as np

from recllm.evaluation.baselines.base import fit_priors, smoothed
from recllm.evaluation.features import FeatureTable, counters
from recllm.schema import Outcome


class ItemRate:
    """(sum + k prior) / (n + k) with k = base.STRENGTH; the same with seconds for a duration that the item counters sum."""

    name = "item-rate"
    reads_counters = True

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        self.outcomes = outcomes
        self.priors = fit_priors(train, outcomes)

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        found = {counter.outcome: counter for counter in reversed(counters(table, list(self.outcomes), "item_counters"))}
        predicted = {}
        for name, start in self.priors.items():
            outcome = self.outcomes[name]
            if name in found:
                predicted[name] = np.clip(smoothed(table, found[name], start), 0, 1 if outcome.kind == "binary" else outcome.clip)
            elif outcome.kind == "binary":  # a duration that no counter sums (derived) would be a constant: left out
                predicted[name] = np.full(len(table.frame), start)
        return predicted
