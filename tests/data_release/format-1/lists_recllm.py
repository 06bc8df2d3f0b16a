"""From scores to a list: the best first, under a cap for each category value and with maximal marginal relevance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Arranged:
    """Places of the chosen candidates, best first, and what it took to get there.

    `needed` is the score at which each would have tied with the runner-up for its place, everything else as it is; -inf where nobody
    else could have had the place. In an order by score alone that is the next score.
    """

    places: np.ndarray  # (k,) int64
    needed: np.ndarray  # (k,) float64


def arrange(score: np.ndarray, top_k: int, *, keep: np.ndarray | None = None, front: np.ndarray | None = None,
            groups: Sequence[Sequence[str]] | None = None, most: int = 1, diversity: float = 0.0,
            contents: np.ndarray | None = None) -> Arranged:
    """Fill at most `top_k` places one after the other from candidates with scores (c,).

    keep: (c,) bool, the others are left out. front: (c,) bool, the others come behind all of these. groups: the category values of each
    candidate, of each of which at most `most` enter the list; a candidate without any is never held back. diversity: 0 to 1, see
    `marginal`; contents: (c, W) of length one, for its cosine. Equal candidates stay in the order given. The list is shorter than
    `top_k` where nothing more may enter.
    """
    left = np.ones(len(score), dtype=bool) if keep is None else keep.copy()
    first_tier = left.copy() if front is None else left & front
    low, span = _range(score[left])
    holders, count = _holders(groups), dict.fromkeys((v for values in groups or [] for v in values), 0)
    near = np.zeros(len(score))  # nothing is listed yet: the first place goes by score
    places: list[int] = []
    needed: list[float] = []
    while len(places) < top_k and left.any():
        open_ = np.flatnonzero(left & first_tier if (left & first_tier).any() else left)
        merit = marginal((score[open_] - low) / span, near[open_], diversity) if diversity else score[open_]
        tied = open_[merit == merit.max()]
        pick = int(tied[np.argmax(score[tied])])  # diversity 1 leaves many ties: the score decides
        rest = merit[open_ != pick]
        needed.append(_tie_score(float(rest.max()), near[pick], diversity, low, span) if len(rest) else -np.inf)
        places.append(pick)
        left[pick] = False
        for value in set(groups[pick]) if groups is not None else ():
            count[value] += 1
            if count[value] >= most:
                left[holders[value]] = False
        if diversity and contents is not None:
            cosine = contents @ contents[pick]
            near = cosine if len(places) == 1 else np.maximum(near, cosine)
    return Arranged(np.array(places, dtype=np.int64), np.array(needed, dtype=np.float64))


def marginal(relevance: np.ndarray, near: np.ndarray, diversity: float) -> np.ndarray:
    """(1 - d) x relevance - d x the largest cosine to what is listed already, (c,). Carbonell & Goldstein 1998, 'The Use of MMR,
    Diversity-Based Reranking for Reordering Documents and Producing Summaries', with d for their 1 - lambda."""
    return (1 - diversity) * relevance - diversity * near


def _range(score: np.ndarray) -> tuple[float, float]:
    """(lowest score, highest minus lowest) of the request's candidates, so that scores of any unit meet the cosine in [0, 1]."""
    if len(score) == 0:
        return 0.0, 1.0
    low, span = float(score.min()), float(score.max() - score.min())
    return low, span if span > 0 else 1.0


def _tie_score(merit: float, near: float, diversity: float, low: float, span: float) -> float:
    """The score whose merit, this near to the list, is `merit`; -inf where the score decides nothing."""
    if diversity == 0:
        return merit
    return low + span * (merit + diversity * near) / (1 - diversity) if diversity < 1 else -np.inf


def _holders(groups: Sequence[Sequence[str]] | None) -> dict[str, list[int]]:
    """Category value -> candidates that have it."""
    found: dict[str, list[int]] = {}
    for place, values in enumerate(groups or []):
        for value in values:
            found.setdefault(value, []).append(place)
    return found
