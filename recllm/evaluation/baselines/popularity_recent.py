"""What is popular lately: the item's positives of the last days and nothing else."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from recllm.evaluation.baselines.base import fit_priors, one_class, smoothed
from recllm.evaluation.features import Counter, FeatureTable, counters
from recllm.schema import Outcome


class PopularityRecent:
    """Per binary outcome a logistic regression on log1p of the item's recent positives: one score, so its order is that of a list of
    what is popular. A duration is the smoothed mean of the recent seconds, where the item counters sum it.

    The span is tables.RECENT. L2 with scikit-learn's default strength 1; no validation: there is nothing to stop.
    """

    name = "popularity-recent"
    reads_counters = True

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        self.outcomes = outcomes
        self.priors = fit_priors(train, outcomes)
        self.models: dict[str, LogisticRegression] = {}
        for name, counter in self._found(train).items():
            labels = train.labels[name]
            known = ~np.isnan(labels)
            if outcomes[name].kind == "binary" and not one_class(labels):
                y = labels[known].astype(np.int64)
                self.models[name] = LogisticRegression(random_state=seed).fit(_positives(train, counter)[known], y)

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        found, predicted = self._found(table), {}
        for name, start in self.priors.items():
            if name in self.models:
                predicted[name] = self.models[name].predict_proba(_positives(table, found[name]))[:, 1]
            elif self.outcomes[name].kind == "binary":
                predicted[name] = np.full(len(table.frame), start)
            elif name in found:  # a duration that no counter sums (derived) would be a constant: left out
                predicted[name] = np.clip(smoothed(table, found[name], start), 0, self.outcomes[name].clip)
        return predicted

    def _found(self, table: FeatureTable) -> dict[str, Counter]:
        return {counter.outcome: counter for counter in counters(table, list(self.outcomes), "item_recent")}


def _positives(table: FeatureTable, counter: Counter) -> np.ndarray:
    """(n, 1) log1p of the recent positives; a missing count is 0."""
    return np.log1p(np.nan_to_num(table.frame[[counter.total]].to_numpy(dtype=np.float64)))
