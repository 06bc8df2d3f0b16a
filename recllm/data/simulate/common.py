"""What both simulated worlds need: codes of named values, draws by probability, moments as text."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recllm.errors import DataError, did_you_mean

Array = NDArray[Any]
Records = list[dict[str, Any]]
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = int(np.datetime64("2025-03-03T00:00:00", "ms").astype(np.int64))


class Named:
    """A world's users and items, found by their ids."""

    users: Records
    items: Records

    @cached_property
    def user_index(self) -> pd.Index:
        return pd.Index([user["user_id"] for user in self.users], dtype=object)

    @cached_property
    def item_index(self) -> pd.Index:
        return pd.Index([item["item_id"] for item in self.items], dtype=object)


def sigmoid(logit: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-logit))


def codes(values: ArrayLike, index: pd.Index, what: str) -> Array:
    """Positions in `index` of text values of any shape, in that shape. Raises DataError for an unknown value of this `what`."""
    flat = np.asarray(values, dtype=object)
    found = index.get_indexer(pd.Index(flat.ravel(), dtype=object)).reshape(flat.shape)
    if (found < 0).any():
        unknown = str(flat[found < 0][0])
        raise DataError(f'simulated world: expected a known {what}, found "{unknown}".{did_you_mean(unknown, [str(v) for v in index])}')
    return found


def hours_of(time_ms: ArrayLike | None, hour: ArrayLike | None) -> Array:
    """Whole hours of the day (UTC) from moments in milliseconds or from the hours themselves.

    Raises DataError for both or neither of the two, and for hours out of range.
    """
    if (time_ms is None) == (hour is None):
        raise DataError("simulated world: expected exactly one of time_ms and hour")
    hours = np.asarray(hour if time_ms is None else np.asarray(time_ms, dtype=np.int64) // HOUR_MS % 24)
    if hours.dtype.kind not in "iu" or ((hours < 0) | (hours > 23)).any():
        raise DataError(f"simulated world: expected whole hours from 0 to 23, found {hour!r}")
    return hours


def iso(time_ms: Array) -> Array:
    return np.datetime_as_string(time_ms.astype("datetime64[ms]"), unit="ms", timezone="UTC")


def pick(rng: np.random.Generator, p: Array) -> Array:
    """One column per row, drawn with the row's probabilities (n, k)."""
    return np.minimum((p.cumsum(1) <= rng.random(len(p))[:, None]).sum(1), p.shape[1] - 1)


def normalise(weights: Array) -> Array:
    return weights / weights.sum(-1, keepdims=True)


def draw_moments(rng: np.random.Generator, frame: pd.DataFrame, day: Array, hour: Array, apart: list[str]) -> pd.Series:
    """Moments (UTC ms) within the given days and hours, no two of them equal among rows that agree in the columns `apart`."""
    frame = frame[apart].assign(time_ms=START_MS + day * DAY_MS + hour * HOUR_MS, offset=rng.integers(HOUR_MS, size=len(frame)))
    while (again := frame.assign(at=frame["time_ms"] + frame["offset"]).duplicated([*apart, "at"])).any():
        frame.loc[again, "offset"] = rng.integers(HOUR_MS, size=int(again.sum()))
    return frame["time_ms"] + frame["offset"]
