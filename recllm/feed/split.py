"""A global batch's examples split over processes, by tokens: the slowest process is the step's time."""

import heapq

import numpy as np


def shares(tokens: np.ndarray, ranks: int) -> list[np.ndarray]:
    """Places (int64, ascending) of each process's examples: `tokens` (n,) of each example. Every place is in exactly one share.

    The largest first, each to the process with the fewest tokens so far, then the fewest examples (Graham 1969, "Bounds on multiprocessing
    timing anomalies": at most 4/3 of the best split); ties go by place and rank, so that every process finds the same.
    """
    found: list[list[int]] = [[] for _ in range(ranks)]
    heap = [(0, 0, rank) for rank in range(ranks)]
    for place in np.argsort(-tokens, kind="stable"):
        total, count, rank = heapq.heappop(heap)
        found[rank].append(int(place))
        heapq.heappush(heap, (total + int(tokens[place]), count + 1, rank))
    return [np.array(sorted(places), dtype=np.int64) for places in found]


def imbalance(tokens: np.ndarray, split: list[np.ndarray]) -> float:
    """How much longer the fullest share is than an even one: 0 for an even split."""
    totals = np.array([tokens[places].sum() for places in split], dtype=np.float64)
    return float(totals.max() / totals.mean() - 1) if totals.sum() else 0.0
