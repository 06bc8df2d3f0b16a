"""Visibility, windows and user counters (DESIGN 3 and 5), in numpy: one set of functions for training, evaluation and serving.

Times are int64 UTC milliseconds. A timeline is sorted by (time, md5 of the item id); "visible" always means a leading run of it.
"""

import numpy as np

DAY = 86_400_000
GAP_EDGES = np.array([1, 10, 60, 600, 3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000], dtype=np.int64) * 1000
GAP_NAMES = ["none", "under 1 second", "seconds", "under a minute", "minutes", "under an hour", "hours", "under a day", "days",
             "under a week", "weeks", "months"]  # fmt: skip


def known_at(time: np.ndarray, duration: np.ndarray | None, declared: np.ndarray | None, delay: float) -> np.ndarray:
    """When each event's outcomes are known (n,): greatest(time, coalesce(declared, time + measured duration + delay)).

    `duration` in seconds with NaN for unknown, None where none is measured; `declared` in ms with values below 0 for unknown.
    """
    measured = np.zeros(len(time)) if duration is None else np.nan_to_num(duration, nan=0.0)
    default = time + np.floor(measured * 1000).astype(np.int64) + np.int64(delay * 1000)
    if declared is not None:
        default = np.where(declared >= 0, declared, default)
    return np.maximum(time, default)


def visible(time: np.ndarray, known: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """How many leading rows of a timeline (n,) are visible at each moment (m,): int64 (m,).

    The leading run whose times are below the moment and whose running maximum of known_at is at most the moment.
    """
    if len(time) == 0:
        return np.zeros(len(moment), dtype=np.int64)
    running = np.maximum.accumulate(known)
    return np.minimum(np.searchsorted(time, moment, side="left"), np.searchsorted(running, moment, side="right"))


def window_start(n: np.ndarray | int, stride: int, overlap: int) -> np.ndarray:
    """First event that a row with n visible events uses: max(0, stride * floor((n - overlap) / stride))."""
    return np.maximum(0, stride * ((np.asarray(n, dtype=np.int64) - overlap) // stride))


def gap_code(time: np.ndarray, event_time: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Code (m,) into GAP_NAMES of the time since the last visible event; 0 (`none`) where there is none."""
    if len(event_time) == 0:
        return np.zeros(len(time), dtype=np.int64)
    gap = time - event_time[np.maximum(n - 1, 0)]
    return np.where(n > 0, 1 + np.searchsorted(GAP_EDGES, gap, side="right"), 0)


def local_parts(time: np.ndarray, utc_offset: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hour 0-23, weekday 0-6 from Monday, weekend 0 or 1) of the local moment; `utc_offset` in minutes."""
    local = time + utc_offset.astype(np.int64) * 60_000
    day = local // DAY
    weekday = (day + 3) % 7  # 1 January 1970 was a Thursday
    return local % DAY // 3_600_000, weekday, (weekday >= 5).astype(np.int64)


def log_odds(total: np.ndarray, count: np.ndarray, prior: np.ndarray | float, strength: float = 10.0) -> np.ndarray:
    """Smoothed log-odds of a running rate against the train prior, 0 where nothing is known (additive smoothing, as in Gelman's
    "Bayesian Data Analysis", 2.4: a beta prior of `strength` pseudo-counts)."""
    rate = (total + strength * prior) / (count + strength)
    return np.log(rate / (1 - rate)) - np.log(prior / (1 - np.asarray(prior)))


def running_sums(values: np.ndarray) -> np.ndarray:
    """Cumulative sums with a leading zero row: (n, k) -> (n + 1, k); row i holds the sums of the first i events."""
    total = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    return total
