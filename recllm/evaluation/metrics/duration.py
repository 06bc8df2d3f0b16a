"""Metrics of a duration in seconds: y true and known, p predicted, both (n,), both clipped at `clip` seconds. NaN without rows.

The clip is part of the task (DESIGN 5: the top bin is "clip or more"), so beyond it nothing counts as an error.
"""

import numpy as np
from sklearn.metrics import mean_absolute_error, mean_squared_error


def mae(y: np.ndarray, p: np.ndarray, clip: float = np.inf) -> float:
    """Mean absolute error in seconds."""
    return float(mean_absolute_error(np.minimum(y, clip), np.minimum(p, clip))) if len(y) else float("nan")


def mse(y: np.ndarray, p: np.ndarray, clip: float = np.inf) -> float:
    """Mean squared error in seconds squared."""
    return float(mean_squared_error(np.minimum(y, clip), np.minimum(p, clip))) if len(y) else float("nan")


def coverage(y: np.ndarray, low: np.ndarray, high: np.ndarray, clip: float = np.inf) -> float:
    """Share of true durations in the predicted interval [low, high], ends included; all three clipped."""
    return float(covered(y, low, high, clip).mean()) if len(y) else float("nan")


def covered(y: np.ndarray, low: np.ndarray, high: np.ndarray, clip: float = np.inf) -> np.ndarray:
    """(n,) bool: is the clipped true duration in the clipped interval?"""
    true = np.minimum(y, clip)
    return (true >= np.minimum(low, clip)) & (true <= np.minimum(high, clip))


def xauc(y: np.ndarray, p: np.ndarray, clip: float = np.inf) -> float:
    """Share of pairs with different true durations that are predicted in the right order; equal predictions count half. O(n log n).

    Zhan et al. 2022, 'Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation'. NaN if all durations are equal.
    """
    right, pairs = per_row_concordance(np.minimum(y, clip), np.minimum(p, clip))
    return float(right.sum() / pairs.sum()) if pairs.any() else float("nan")


def per_row_concordance(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row, over all rows of another true duration: (how many are in the right order with it, ties half; how many there are).

    Each pair appears in two rows, so the ratio of the sums is XAUC; the bootstrap needs the sums by user.
    """
    _, same_y, count_y = np.unique(y, return_inverse=True, return_counts=True)
    _, same_p, count_p = np.unique(p, return_inverse=True, return_counts=True)
    _, same, count = np.unique(same_y * len(count_p) + same_p, return_inverse=True, return_counts=True)
    tied = count_p[same_p] - count[same]
    right = _below_both(same_y, same_p) + _below_both(-same_y, -same_p) + tied / 2
    return right, len(y) - count_y[same_y]


def _below_both(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """For each row the number of rows with smaller y and smaller p, both strictly: (n,) int64.

    A merge sort read from the top, all blocks of a level at once: rows stand in order of p; a row in the upper half (by y) of its block
    counts those of the lower half before it; then each block is split in two. Ties are ordered so that equal rows never count.
    """
    n = len(y)
    by_y = np.lexsort((-p, y))  # of equal y the larger p first
    place = np.empty(n, dtype=np.int64)
    place[by_y] = np.arange(n)
    places = place[np.lexsort((-place, p))]  # in order of p; of equal p the larger y first
    below = np.zeros(n, dtype=np.int64)
    for level in range(max(n - 1, 0).bit_length() - 1, -1, -1):
        upper = (places >> level) & 1 == 1
        block = places >> (level + 1)
        lower_before = np.cumsum(~upper) - (block << level)  # all blocks before are full: 2**level of their rows are lower
        below[places[upper]] += lower_before[upper]
        start = block << (level + 1)
        index = np.arange(n)
        target = np.where(upper, index - lower_before + (1 << level), start + lower_before - 1)
        split = np.empty(n, dtype=np.int64)
        split[target] = places
        places = split
    return below[place]
