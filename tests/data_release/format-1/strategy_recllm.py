"""Strategies: from predictions to one score per candidate, and from scores to a list with its prices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .auction_recllm import DEFAULTS, bidders, prices
from .errors_recllm import RequestError, nearest
from .lists_recllm import arrange

STRATEGIES = ("weighted", "expected_value")
NEARNESS = "nearness"  # beside the outcomes in `weights`: the cosine that retrieval goes by, how likely the item is to be what comes next


@dataclass
class Ranking:
    """A list: places (k,) among the candidates, best first, the score of each, and where there is an auction its price per click."""

    places: np.ndarray
    score: np.ndarray
    price: np.ndarray | None


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


def ranked(settings: dict[str, Any], predictions: dict[str, np.ndarray], value: np.ndarray, first: str, top_k: int,
           groups: Sequence[Sequence[str]] | None = None, contents: np.ndarray | None = None) -> Ranking:
    """The list that settings make of c candidates. A setting that is absent or None changes nothing; all of them compose.

    `strategy` gives the scores; `thresholds` {outcome: least prediction} send a candidate that is below any of them behind all others
    (an empty place earns nothing, so it is not left out); `cap` {field, most} with the field's values of each candidate in `groups`;
    `diversity` with unit vectors `contents` (c, W); `auction` {payment, floor} with the bids per click in `value` (c,): a bid that is
    unknown or below the floor is left out, and each place has its price.
    """
    auction = {**DEFAULTS, **settings["auction"]} if settings.get("auction") is not None else None
    cap = settings.get("cap") or {}
    scored = scores(settings, predictions, value, first)
    front = np.ones(len(scored), dtype=bool)
    for name, least in (settings.get("thresholds") or {}).items():
        front &= predictions[name] >= least
    keep = bidders(value, auction["floor"]) if auction else None
    found = arrange(scored, top_k, keep=keep, front=front, groups=groups if cap else None, most=cap.get("most", 1),
                    diversity=float(settings.get("diversity") or 0.0), contents=contents)
    price = None
    if auction:
        p, bid = predictions[settings.get("outcome") or first][found.places], value[found.places]
        price = prices(found.needed, p, bid, auction["payment"], auction["floor"])
    return Ranking(found.places, scored[found.places], price)
