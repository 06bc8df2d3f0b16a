"""Reliability: what was predicted against what was observed, in bins of equal mass, kept in the results for the report's plots."""

import numpy as np
import pandas as pd

from recllm.evaluation.bootstrap import Mean, interval, user_weights
from recllm.evaluation.metrics.binary import mass_bins
from recllm.evaluation.metrics.duration import covered
from recllm.schema import Outcome


def reliability(predictions: list[pd.DataFrame], outcomes: dict[str, Outcome], bootstrap: int, seed: int = 0) -> dict[str, list[dict]]:
    """Bins of every outcome with a known label, by ascending prediction: outcome -> [{"p", "y", "low", "high", "n"}].

    predictions: one frame per training seed over the same rows, as `evaluate` takes them; their predictions are pooled, so `n` counts
    rows times seeds. `p` is the mean prediction of the bin (probability, or seconds under the clip), `y` the mean label, `low` and `high`
    its 95% interval over users. A duration that comes with an interval has the share of rows inside of it as `covered`.
    """
    users = pd.factorize(predictions[0]["user"])[0].astype(np.int64)
    weights = user_weights(int(users.max()) + 1, bootstrap, seed)
    found = {}
    for name, outcome in outcomes.items():
        known = predictions[0][f"y_{name}"].notna().to_numpy()
        if f"p_{name}" in predictions[0] and known.any():
            clip = outcome.clip if outcome.kind == "duration" else np.inf
            pooled = {c: np.minimum(np.concatenate([f[c].to_numpy(dtype=np.float64)[known] for f in predictions]), clip)
                      for c in (f"{kind}_{name}" for kind in ("p", "y", "low", "high")) if c in predictions[0]}
            found[name] = _bins(name, pooled, np.tile(users[known], len(predictions)), weights)
    return found


def _bins(name: str, columns: dict[str, np.ndarray], user: np.ndarray, weights: np.ndarray) -> list[dict]:
    p, y, made = columns[f"p_{name}"], columns[f"y_{name}"], mass_bins(columns[f"p_{name}"])
    bins = []
    for code in np.unique(made):
        inside = made == code
        low, high = interval(Mean.of(user[inside], y[inside], weights.shape[1]).resample(weights))
        row = {"p": float(p[inside].mean()), "y": float(y[inside].mean()), "low": low, "high": high, "n": int(inside.sum())}
        if f"low_{name}" in columns:
            row["covered"] = float(covered(y[inside], columns[f"low_{name}"][inside], columns[f"high_{name}"][inside]).mean())
        bins.append(row)
    return bins
