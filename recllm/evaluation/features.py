"""What every baseline reads: one split as a table of columns, and the counters among them by outcome."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class FeatureTable:
    """Columns of one split, one row per scored impression; what every baseline reads."""

    frame: pd.DataFrame  # float64 columns, or pandas category dtype with the SAME categories in every split
    labels: dict[str, np.ndarray]  # outcome -> (n,) float64, NaN unknown
    groups: dict[str, list[str]]  # "item_counters", "user_counters", "profile", "context", "item" -> columns of frame

    def columns(self, *groups: str) -> list[str]:
        """Columns of these groups, in order; an absent group has none."""
        return [column for group in groups for column in self.groups.get(group, [])]


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
