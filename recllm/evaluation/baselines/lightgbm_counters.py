"""Gradient boosting on counters and every field: the strongest of the simple models. The only file that imports LightGBM."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recllm.errors import MissingExtraError
from recllm.evaluation.baselines.base import fit_priors, one_class, seconds
from recllm.evaluation.features import FeatureTable
from recllm.schema import Outcome

ROUNDS, PATIENCE, WITHOUT_VALIDATION = 500, 30, 100
SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "num_threads": 1,  # 80,000 rows: 1.2 s an outcome; with 2 threads on a machine whose 2 cores are busy 25 s, they wait on each other
    "deterministic": True,
    "force_row_wise": True,  # without it LightGBM times both layouts and picks one, and sums differ between runs
    "verbosity": -1,
}


def _lightgbm(name: str) -> Any:
    try:
        import lightgbm
    except ImportError:
        raise MissingExtraError(f"{name} needs LightGBM, which is not installed: pip install 'recllm[baselines]'") from None
    return lightgbm


class LightGBMCounters:
    """One boosted model per outcome: log loss for a binary one, squared error in seconds for a duration; stopped on validation."""

    name = "lightgbm-counters"
    reads_counters = True

    def __init__(self) -> None:
        self.lightgbm = _lightgbm(self.name)  # here, so that a missing extra is found before anything is trained

    def fit(self, train: FeatureTable, validation: FeatureTable, outcomes: dict[str, Outcome], seed: int) -> None:
        self.outcomes = outcomes
        self.priors = fit_priors(train, outcomes)
        self.models: dict[str, Any] = {}
        train, validation = (replace(table, frame=self.columns(table)) for table in (train, validation))
        for name, outcome in outcomes.items():
            if not one_class(train.labels[name]) and train.frame.shape[1]:
                self.models[name] = self._fit_one(train, validation, name, outcome, seed)

    def columns(self, table: FeatureTable) -> pd.DataFrame:
        """What the trees read: every column."""
        return table.frame

    def _fit_one(self, train: FeatureTable, validation: FeatureTable, name: str, outcome: Outcome, seed: int) -> Any:
        settings = SETTINGS | {"objective": "binary" if outcome.kind == "binary" else "regression", "seed": seed}
        data = self._dataset(train, name, outcome)
        if one_class(validation.labels[name]):
            return self.lightgbm.train(settings, data, WITHOUT_VALIDATION)
        stop = self.lightgbm.early_stopping(PATIENCE, verbose=False)
        held_out = self._dataset(validation, name, outcome, reference=data)
        return self.lightgbm.train(settings, data, ROUNDS, valid_sets=[held_out], callbacks=[stop])

    def _dataset(self, table: FeatureTable, name: str, outcome: Outcome, reference: Any = None) -> Any:
        labels = table.labels[name]
        known = ~np.isnan(labels)
        y = labels[known] if outcome.kind == "binary" else seconds(labels[known], outcome)
        return self.lightgbm.Dataset(_numbered(table.frame[known]), label=y, reference=reference)

    def predict(self, table: FeatureTable) -> dict[str, np.ndarray]:
        frame = _numbered(self.columns(table))
        predicted = {}
        for name, start in self.priors.items():
            outcome = self.outcomes[name]
            values = self.models[name].predict(frame) if name in self.models else np.full(len(frame), start)
            predicted[name] = np.clip(np.asarray(values, dtype=np.float64), 0, 1 if outcome.kind == "binary" else outcome.clip)
        return predicted


def _numbered(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns by number: LightGBM refuses names with JSON's characters, and a user's field may have any. Categories by code alike."""
    coded = {
        f"c{number}": pd.Categorical.from_codes(frame[name].cat.codes, categories=range(len(frame[name].cat.categories)))
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
        else frame[name].to_numpy(dtype=np.float64)
        for number, name in enumerate(frame.columns)
    }
    return pd.DataFrame(coded)
