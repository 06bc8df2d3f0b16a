"""Metrics of recommended lists. L lists of k places; a place holds an item code, or -1 where the list is shorter.

`gains` (L, k) are what each place turned out to be worth: 1 for an item that was clicked, or its true click probability; 0 for an empty
place. The `per_list_*` functions give one value a list, (L,), NaN where it is undefined; the bootstrap builds on them.
"""

from dataclasses import dataclass

import numpy as np


def _discount(k: int) -> np.ndarray:
    return 1 / np.log2(np.arange(2, k + 2))


def per_list_ndcg(gains: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """NDCG@k with gains as they are and discount 1 / log2(1 + position): Järvelin & Kekäläinen 2002, 'Cumulated Gain-Based Evaluation of
    IR Techniques'.

    ideal: (L, k) the k largest gains that the request offered, in any order, 0 where it offered fewer. NaN where all of them are 0.
    """
    best = -np.sort(-ideal, axis=1) @ _discount(ideal.shape[1])
    return np.divide(gains @ _discount(gains.shape[1]), best, out=np.full(len(gains), np.nan), where=best > 0)


def per_list_hit(gains: np.ndarray) -> np.ndarray:
    """Probability that at least one place is clicked, places taken as independent; with gains of 0 and 1 it is whether one was."""
    return 1 - np.prod(1 - gains, axis=1)


def per_list_diversity(items: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Mean of 1 - cosine over the pairs of a list, NaN below two items; a zero vector is like nothing.

    vectors: (I, W) of any length. Ziegler et al. 2005, 'Improving Recommendation Lists Through Topic Diversification', as a distance.
    """
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    listed = items >= 0
    placed = unit[np.maximum(items, 0)] * listed[..., None]
    n = listed.sum(axis=1)
    # the square of a sum holds every pair twice and every item with itself once
    twice = (placed.sum(axis=1) ** 2).sum(axis=1) - (placed**2).sum(axis=(1, 2))
    pairs = n * (n - 1)
    return 1 - np.divide(twice, pairs, out=np.full(len(items), np.nan), where=pairs > 0)


def per_list_novelty(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean self-information -log2(share of train events) of a list's items, in bits; NaN for an empty list.

    counts: (I,) train events of each item; one is added to each, so that an item without any has a share. Zhou et al. 2010, 'Solving
    the apparent diversity-accuracy dilemma of recommender systems'.
    """
    return _mean(-np.log2((counts + 1) / (counts.sum() + len(counts))), items)


def per_list_popularity(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average recommendation popularity over the catalogue's: mean train events of a list's items / mean of all items. 1 is no bias.

    The numerator is the ARP of Yin et al. 2012, 'Challenging the Long Tail Recommendation'. NaN for an empty list, or without events.
    """
    return _mean(counts / counts.mean() if counts.any() else np.full(len(counts), np.nan), items)


def _mean(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Mean of per-item values (I,) over each list."""
    listed = items >= 0
    total = np.where(listed, values[np.maximum(items, 0)], 0.0).sum(axis=1)
    return np.divide(total, listed.sum(axis=1), out=np.full(len(items), np.nan), where=listed.any(axis=1))


def per_target(score: np.ndarray, target: np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(HR@k, NDCG@k) of one right item in a ranking of all, (L,) each, averaged over the ways to break ties.

    score: (L, I), -inf for items that are not ranked; target: (L,) item codes. A target that is not ranked is a miss.
    """
    own = np.take_along_axis(score, target[:, None], axis=1)
    better, tied = (score > own).sum(axis=1), (score == own).sum(axis=1)
    reached = np.clip(k - better, 0, tied)  # how many of the tied places are among the first k
    gained = np.r_[0.0, np.cumsum(_discount(k))]
    ranked = np.isfinite(own[:, 0])
    ndcg = (gained[np.minimum(better + reached, k)] - gained[np.minimum(better, k)]) / tied
    return np.where(ranked, reached / tied, 0.0), np.where(ranked, ndcg, 0.0)


@dataclass(frozen=True)
class Coverage:
    """Share of the catalogue that appears in at least one list (Ge et al. 2010, 'Beyond Accuracy', catalogue coverage), as a function of
    how often each user was drawn. A resample has fewer distinct lists: the interval lies below the figure of the whole."""

    shown: np.ndarray  # (U, I) bool, does any list of the user hold the item?
    catalogue: int

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, count: int, catalogue: int) -> "Coverage":
        shown = np.zeros((count, catalogue), dtype=bool)
        row, place = np.nonzero(items >= 0)
        shown[users[row], items[row, place]] = True
        return cls(shown, catalogue)

    def resample(self, weights: np.ndarray) -> np.ndarray:
        return ((weights > 0).astype(np.float32) @ self.shown.astype(np.float32) > 0).sum(axis=1) / self.catalogue


def coverage(items: np.ndarray, catalogue: int) -> float:
    """Share of the `catalogue` items that appear in at least one list."""
    return len(np.unique(items[items >= 0])) / catalogue
