"""Metrics of an order within users or requests. Every one averages over ties in score: the exact mean over all ways to break them.

Arguments are rows, (n,): y label 0 or 1 and known, p score, and a code of the row's user or request (any integers).
The `per_*` functions give one value per group that has both labels, as (codes ascending, values); the bootstrap builds on them.
"""

from dataclasses import dataclass

import numpy as np

CUTOFF = 10


@dataclass(frozen=True)
class Ties:
    """Rows sorted by group, then score, and cut into runs of equal (group, score). R runs, G groups."""

    start: np.ndarray  # (R,) rows of the same group before the run
    size: np.ndarray  # (R,) rows in the run
    positives: np.ndarray  # (R,) rows with label 1 in the run
    group: np.ndarray  # (R,) index of the run's group in `codes`
    codes: np.ndarray  # (G,) ascending
    group_size: np.ndarray  # (G,)
    group_positives: np.ndarray  # (G,)

    @property
    def both(self) -> np.ndarray:
        """(G,) bool: groups with a positive and a negative."""
        return (self.group_positives > 0) & (self.group_positives < self.group_size)


def ties(y: np.ndarray, p: np.ndarray, groups: np.ndarray, descending: bool) -> Ties:
    """One sort of the n rows, O(n log n), no loop over groups."""
    score = -p if descending else p
    order = np.lexsort((score, groups))
    y, score, groups = y[order], score[order], groups[order]
    new_group = np.r_[True, groups[1:] != groups[:-1]] if len(y) else np.zeros(0, dtype=bool)
    new_run = new_group | np.r_[True, score[1:] != score[:-1]] if len(y) else new_group
    first, group_first = np.flatnonzero(new_run), np.flatnonzero(new_group)
    run = np.cumsum(new_run) - 1
    group = np.cumsum(new_group)[first] - 1
    positives = np.bincount(run, weights=y, minlength=len(first))
    size = np.bincount(run, minlength=len(first))
    return Ties(
        start=first - group_first[group],
        size=size,
        positives=positives,
        group=group,
        codes=groups[group_first],
        group_size=np.diff(np.r_[group_first, len(y)]),
        group_positives=np.bincount(group, weights=positives, minlength=len(group_first)),
    )


def per_user_auc(y: np.ndarray, p: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC of each user with both labels: (codes, AUC, rows of the user), by the rank sum (Mann-Whitney), tied ranks averaged."""
    runs = ties(y, p, users, descending=False)
    rank = runs.start + (runs.size + 1) / 2
    rank_sum = np.bincount(runs.group, weights=rank * runs.positives, minlength=len(runs.codes))[runs.both]
    positives, size = runs.group_positives[runs.both], runs.group_size[runs.both]
    area = (rank_sum - positives * (positives + 1) / 2) / (positives * (size - positives))
    return runs.codes[runs.both], area, size


def gauc(y: np.ndarray, p: np.ndarray, users: np.ndarray) -> float:
    """Mean AUC per user, weighted by the user's rows; users with one class left out. NaN if none has both.

    Zhou et al. 2018, 'Deep Interest Network for Click-Through Rate Prediction', section 6.2.
    """
    _, area, size = per_user_auc(y, p, users)
    return float(np.average(area, weights=size)) if len(area) else float("nan")


def uauc(y: np.ndarray, p: np.ndarray, users: np.ndarray) -> float:
    """Mean AUC per user, each user counted once; users with one class left out. NaN if none has both."""
    _, area, _ = per_user_auc(y, p, users)
    return float(area.mean()) if len(area) else float("nan")


def per_request_ndcg(y: np.ndarray, p: np.ndarray, requests: np.ndarray, k: int = CUTOFF) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@k of each request with both labels, gain y, discount 1 / log2(1 + position).

    Ties as in McSherry & Najork 2008, 'Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores':
    each row of a run has the run's mean gain. So does scikit-learn's ndcg_score, which takes one request at a time.
    """
    runs = ties(y, p, requests, descending=True)
    discount = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2)))]  # discount[i]: sum over the first i positions
    end = discount[np.minimum(runs.start + runs.size, k)]
    gained = (end - discount[np.minimum(runs.start, k)]) * runs.positives / runs.size
    reached = np.bincount(runs.group, weights=gained, minlength=len(runs.codes))[runs.both]
    ideal = discount[np.minimum(runs.group_positives[runs.both], k).astype(np.int64)]
    return runs.codes[runs.both], reached / ideal


def ndcg(y: np.ndarray, p: np.ndarray, requests: np.ndarray, k: int = CUTOFF) -> float:
    """Mean NDCG@k over requests with both labels. NaN if there is none."""
    values = per_request_ndcg(y, p, requests, k)[1]
    return float(values.mean()) if len(values) else float("nan")


def per_request_mrr(y: np.ndarray, p: np.ndarray, requests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected 1 / position of the first positive, of each request with both labels.

    The first positive lies in the best run that holds one: at start + T, where T is the first of `positives` hits among `size` rows in
    random order. P(T = t | T >= t) = positives / (size - t + 1); the loop is over t for all requests at once.
    """
    runs = ties(y, p, requests, descending=True)
    with_hit = np.flatnonzero(runs.positives > 0)
    _, first = np.unique(runs.group[with_hit], return_index=True)  # runs are sorted: the first of a group is its best
    best = with_hit[first]
    best = best[runs.both[runs.group[best]]]
    start, size, hits = runs.start[best], runs.size[best], runs.positives[best]
    values, alive, left = np.zeros(len(best)), np.ones(len(best)), np.arange(len(best))
    for t in range(1, int(size.max(initial=0)) + 1):
        hit = hits[left] / (size[left] - t + 1)
        values[left] += alive[left] * hit / (start[left] + t)
        alive[left] *= 1 - hit
        left = left[t < size[left] - hits[left] + 1]  # one more place than negatives, and the positive is found
        if len(left) == 0:
            break
    return runs.codes[runs.group[best]], values


def mrr(y: np.ndarray, p: np.ndarray, requests: np.ndarray) -> float:
    """Mean reciprocal rank of the first positive over requests with both labels. NaN if there is none."""
    values = per_request_mrr(y, p, requests)[1]
    return float(values.mean()) if len(values) else float("nan")
