"""Strategies: from predictions to one score per candidate, and what is left out of a list."""

from typing import Any

import numpy as np

from .errors_recllm import RequestError, nearest

STRATEGIES = ("weighted", "expected_value")


def weighted(predictions: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
    """Weighted sum of predictions (c,): probabilities, and seconds for a duration."""
    total = np.zeros(len(next(iter(predictions.values()))))
    for name, weight in weights.items():
        if name not in predictions:
            known = list(predictions)
            raise RequestError(f'strategy: expected one of {", ".join(known)}, found "{name}".{nearest(name, known)}')
        total += weight * predictions[name]
    return total


def expected_value(predictions: dict[str, np.ndarray], outcome: str, value: np.ndarray) -> np.ndarray:
    """Value x probability (c,), such as bid x P(click) or price x P(purchase); an unknown value counts as the known ones' mean."""
    if outcome not in predictions:
        hint = nearest(outcome, list(predictions))
        raise RequestError(f'strategy: expected an outcome of {", ".join(predictions)}, found "{outcome}".{hint}')
    known = value[np.isfinite(value)]
    filled = np.where(np.isfinite(value), value, known.mean() if len(known) else 1.0)
    return filled * predictions[outcome]


def scores(settings: dict[str, Any], predictions: dict[str, np.ndarray], value: np.ndarray, first: str) -> np.ndarray:
    """Scores (c,) by the release's settings: `strategy`, `weights`, `outcome`; `first` is the outcome used where none is set."""
    if settings.get("strategy") == "expected_value":
        return expected_value(predictions, settings.get("outcome") or first, value)
    return weighted(predictions, settings.get("weights") or {first: 1.0})


def best(scored: np.ndarray, keep: np.ndarray, top_k: int) -> np.ndarray:
    """Places of the `top_k` highest scores among those kept (c,) bool; ties stay in the order given."""
    places = np.flatnonzero(keep)
    return places[np.argsort(-scored[places], kind="stable")][:top_k]
