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


def best(score: np.ndarray, count: int) -> np.ndarray:
    """Places (k,) of the `count` highest scores (c,), or of all where there are fewer, in order of place. Of equal scores the first ones
    are taken, unknown ones (NaN) last. Nothing is sorted but what is found."""
    if count >= len(score):
        return np.arange(len(score))
    if count <= 0:
        return np.zeros(0, dtype=np.int64)
    low = -score
    edge = np.partition(low, count - 1)[count - 1]  # numpy puts NaN behind all others
    ahead = np.flatnonzero(~np.isnan(low) if np.isnan(edge) else low < edge)
    tied = np.flatnonzero(np.isnan(low) if np.isnan(edge) else low == edge)
    return np.sort(np.concatenate([ahead, tied[: count - len(ahead)]]))


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
    if diversity:
        return _by_marginal(score, top_k, left, first_tier, groups, most, diversity, contents)
    return _by_score(score, top_k, [first_tier, left & ~first_tier], groups, most)


def _by_score(score: np.ndarray, top_k: int, tiers: Sequence[np.ndarray], groups: Sequence[Sequence[str]] | None, most: int) -> Arranged:
    """Tiers (c,) bool one after the other, each in order of its scores. Without a cap no more is sorted than enters the list."""
    count: dict[str, int] = {}
    places: list[int] = []
    needed: list[float] = []

    def following(order: list[int], at: int) -> int:
        """Where in `order` from `at` on the first one is that no cap holds back; whoever is held back once stays so."""
        while groups is not None and at < len(order) and any(count.get(value, 0) >= most for value in groups[order[at]]):
            at += 1
        return at

    for tier in tiers:
        open_ = np.flatnonzero(tier)
        if groups is None:  # one more than fits: the runner-up for the last place
            open_ = open_[best(score[open_], top_k - len(places) + 1)]
        order = open_[np.argsort(-score[open_], kind="stable")].tolist()
        at = following(order, 0)
        while at < len(order) and len(places) < top_k:
            pick, at = order[at], following(order, at + 1)
            places.append(pick)
            needed.append(float(score[order[at]]) if at < len(order) else -np.inf)
            for value in set(groups[pick]) if groups is not None else ():
                count[value] = count.get(value, 0) + 1
            at = following(order, at)  # the pick may have filled up what its runner-up is of
    return Arranged(np.array(places, dtype=np.int64), np.array(needed, dtype=np.float64))


def _by_marginal(score: np.ndarray, top_k: int, left: np.ndarray, first_tier: np.ndarray, groups: Sequence[Sequence[str]] | None, most: int,
                 diversity: float, contents: np.ndarray | None) -> Arranged:
    """One place after the other by relevance less nearness to what is listed: every place changes the order of all that are left."""
    low, span = _range(score[left])
    holders, count = _holders(groups), dict.fromkeys((v for values in groups or [] for v in values), 0)
    near = np.zeros(len(score))  # nothing is listed yet: the first place goes by score
    places: list[int] = []
    needed: list[float] = []
    while len(places) < top_k and left.any():
        open_ = np.flatnonzero(left & first_tier if (left & first_tier).any() else left)
        merit = marginal((score[open_] - low) / span, near[open_], diversity)
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
        if contents is not None:
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
    return low + span * (merit + diversity * near) / (1 - diversity) if diversity < 1 else -np.inf


def _holders(groups: Sequence[Sequence[str]] | None) -> dict[str, list[int]]:
    """Category value -> candidates that have it."""
    found: dict[str, list[int]] = {}
    for place, values in enumerate(groups or []):
        for value in values:
            found.setdefault(value, []).append(place)
    return found
