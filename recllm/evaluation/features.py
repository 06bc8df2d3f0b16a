"""What every baseline reads: one split as a table of columns, and the counters among them by outcome."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Sequences:
    """What each row sees of its user's past: row r sees the events start[r] .. stop[r] - 1, oldest first, and no other.

    Rows of one user and window share `start`. N events, n rows, I items (the whole catalogue), W numbers a text vector.
    """

    item: np.ndarray  # (n,) int64 item code of each row's candidate
    time: np.ndarray  # (n,) int64 UTC ms of each row
    start: np.ndarray  # (n,) int64, first visible event of the row's window
    stop: np.ndarray  # (n,) int64, one past its last visible event; start == stop: nothing is visible
    event_item: np.ndarray  # (N,) int64 item code
    event_time: np.ndarray  # (N,) int64 UTC ms
    event_outcomes: dict[str, np.ndarray]  # measured outcome -> (N,) float64, NaN unknown
    vectors: np.ndarray  # (I, W) float32 text vectors of length one; all 0 for an item without text
    in_train: np.ndarray  # (I,) bool, whether the item has an event in train: an id that was never seen says nothing

    @property
    def items(self) -> int:
        """Size of the catalogue."""
        return len(self.in_train)

    def take(self, rows: np.ndarray | slice) -> Self:
        """Some of the rows; the events stay."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ("item", "time", "start", "stop")})


@dataclass(frozen=True)
class FeatureTable:
    """Columns of one split, one row per scored impression; what every baseline reads."""

    frame: pd.DataFrame  # float64 columns, or pandas category dtype with the SAME categories in every split
    labels: dict[str, np.ndarray]  # outcome -> (n,) float64, NaN unknown
    # "item_counters", "item_recent", "item_today", "user_counters", "profile", "context", "item", "relations" -> columns of frame
    groups: dict[str, list[str]]
    sequences: Sequences | None = None  # None: a log of which no history is given

    def columns(self, *groups: str) -> list[str]:
        """Columns of these groups, in order; an absent group has none."""
        return [column for group in groups for column in self.groups.get(group, [])]

    def take(self, rows: np.ndarray | slice) -> Self:
        """Some of the rows, by number or mask."""
        sequences = None if self.sequences is None else self.sequences.take(rows)
        labels = {name: values[rows] for name, values in self.labels.items()}
        return replace(self, frame=self.frame.iloc[rows], labels=labels, sequences=sequences)


@dataclass(frozen=True)
class Counter:
    """A pair of columns `<prefix>_<outcome>_n` (rows where the outcome is known) and `<prefix>_<outcome>_sum` (seconds for a duration)."""

    outcome: str
    n: str
    total: str


def counters(table: FeatureTable, outcomes: list[str], *groups: str) -> list[Counter]:
    """Counter pairs of the declared outcomes in these groups, in order of the columns."""
    columns = table.columns(*groups)
    found = []
    for column in [c for c in columns if c.endswith("_n")]:
        stem = column.removesuffix("_n")
        names = [name for name in outcomes if stem.endswith(f"_{name}")]
        if names and f"{stem}_sum" in columns:
            found.append(Counter(max(names, key=len), column, f"{stem}_sum"))  # the longest: `item_long_view_n` is not of `view`
    return found
