"""95% intervals by bootstrap over users: whole users are drawn with replacement, since rows of one user are not independent.

A round is a vector of how often each of the U users was drawn. Every statistic below is a function of those multiplicities, for all
rounds at once, so nothing is sorted or resampled per round: means are one matrix product, AUC one sort and then sums.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

ROUNDS_AT_ONCE = 16  # of Pairs: 16 x 80,000 rows of float32 are 5 MB, which stays in cache


class Statistic(Protocol):
    """A metric as a function of user multiplicities."""

    def resample(self, weights: np.ndarray) -> np.ndarray:
        """(R, U) multiplicities -> (R,) values; NaN for a round that drew nobody on whom the metric is defined."""


def user_weights(users: int, rounds: int, seed: int) -> np.ndarray:
    """(rounds, users) float64: how often each user is drawn in each round of `users` draws with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(users, np.full(users, 1 / users), size=rounds).astype(np.float64)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the rounds, NaN rounds left out; (NaN, NaN) if all are."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def by_user(users: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of (n,) values per user code: (count,)."""
    return np.bincount(users, weights=values, minlength=count)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)


@dataclass(frozen=True)
class Mean:
    """A weighted mean of values that belong to a user each: rows, requests, or users themselves. Exact."""

    total: np.ndarray  # (U,) sum of weight x value
    weight: np.ndarray  # (U,) sum of weights

    @classmethod
    def of(cls, users: np.ndarray, values: np.ndarray, count: int, weights: np.ndarray | None = None) -> "Mean":
        weights = np.ones(len(values)) if weights is None else weights
        return cls(by_user(users, values * weights, count), by_user(users, weights, count))

    def resample(self, weights: np.ndarray) -> np.ndarray:
        return _divide(weights @ self.total, weights @ self.weight)


@dataclass(frozen=True)
class Linearised:
    """A ratio of sums over pairs of users, to first order in the multiplicities (Hajek projection; Efron's infinitesimal jackknife).

    value + 2 (mean - value), where mean lets only one side of each pair vary. XAUC's exact value costs a merge sort's worth of sums per
    round; what is neglected is of the order 1 / users (test: the interval of 60 users agrees to .01).
    """

    mean: Mean

    def resample(self, weights: np.ndarray) -> np.ndarray:
        value = self.mean.resample(np.ones((1, weights.shape[1])))
        return np.clip(2 * self.mean.resample(weights) - value, 0, 1)


@dataclass(frozen=True)
class Binned:
    """Calibration error: the sum over bins of |sum of p - y| / rows. Bins are those of the whole sample. Exact given the bins.

    The absolute value makes ECE grow with noise, and a resample has more of it: for a well calibrated model the interval lies
    somewhat high and may not hold the point estimate.
    """

    gap: np.ndarray  # (U, bins) sums of p - y
    rows: np.ndarray  # (U,)

    @classmethod
    def of(cls, users: np.ndarray, bins: np.ndarray, gap: np.ndarray, count: int) -> "Binned":
        width = int(bins.max(initial=0)) + 1
        sums = np.bincount(users * width + bins, weights=gap, minlength=count * width).reshape(count, width)
        return cls(sums, np.bincount(users, minlength=count).astype(np.float64))

    def resample(self, weights: np.ndarray) -> np.ndarray:
        return _divide(np.abs(weights @ self.gap).sum(axis=1), weights @ self.rows)


@dataclass(frozen=True)
class Pairs:
    """AUC over all (positive, negative) pairs, ties count half. One sort; exact for every round.

    For a positive that has `low` negatives strictly below and `high` below or equal, in order of score:
    (sum of the weights of the first `low` + sum of the first `high`) / 2.
    """

    positive: np.ndarray  # (P,) user of each positive row
    negative: np.ndarray  # (N,) user of each negative row, by ascending score
    low: np.ndarray  # (P,)
    high: np.ndarray  # (P,)

    @classmethod
    def of(cls, users: np.ndarray, y: np.ndarray, p: np.ndarray) -> "Pairs":
        hit = y > 0
        order = np.argsort(p[~hit], kind="stable")
        scores = p[~hit][order]
        mine = np.argsort(p[hit], kind="stable")  # ascending too: the reads of the running sums then go forward in memory
        low, high = (np.searchsorted(scores, p[hit][mine], side) for side in ("left", "right"))
        return cls(users[hit][mine], users[~hit][order], low, high)

    def resample(self, weights: np.ndarray) -> np.ndarray:
        chunks = [self._chunk(weights[i : i + ROUNDS_AT_ONCE]) for i in range(0, len(weights), ROUNDS_AT_ONCE)]
        return np.concatenate(chunks)

    def _chunk(self, weights: np.ndarray) -> np.ndarray:
        by_round = weights.astype(np.float32)  # whole numbers: exact up to 2**23 drawn rows
        below = np.zeros((len(weights), len(self.negative) + 1), dtype=np.float32)
        np.cumsum(by_round[:, self.negative], axis=1, out=below[:, 1:])
        positive = by_round[:, self.positive]
        won = np.einsum("rp,rp->r", positive, below[:, self.low] + below[:, self.high], dtype=np.float64) / 2
        return _divide(won, positive.sum(axis=1, dtype=np.float64) * below[:, -1])
