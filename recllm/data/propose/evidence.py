"""What is known of a log while its columns are judged: the tables, the roles found so far, and comparisons, each made once."""

from dataclasses import dataclass, field
from typing import Any

import duckdb

from recllm.data.propose import pairs
from recllm.data.propose.pairs import SAME, TIME
from recllm.data.propose.profile import Column, Table
from recllm.data.sources.files import quote

DAY = 86_400_000


@dataclass(frozen=True)
class Finding:
    """What a column is taken for, and why. `active: false` is written as a comment only."""

    column: str
    role: str  # one of write.ROLES
    why: str
    sure: str = "yes"  # yes | likely | guess
    name: str = ""  # recllm's name of the field or outcome
    spec: dict[str, Any] = field(default_factory=dict)
    instead: str = ""  # what else it may be
    active: bool = True
    table: str = "interactions"
    also: str = ""  # a second role of the field: words that are categories are text of the item, too


@dataclass
class Evidence:
    """The samples and what was concluded of them so far; `user`, `item` and `time` are columns of the log once they are known."""

    connection: duckdb.DuckDBPyConnection
    log: Table
    items: Table | None = None
    users: Table | None = None
    user: str | None = None
    item: str | None = None
    time: str | None = None
    positives: bool = False  # the log holds what was taken only
    label: str | None = None  # SQL of the first binary outcome: 0, 1 or NULL
    findings: list[Finding] = field(default_factory=list)
    _known: dict[tuple, Any] = field(default_factory=dict)

    def _once(self, function: Any, *arguments: Any) -> Any:
        key = (function.__name__, *arguments)
        if key not in self._known:
            self._known[key] = function(self.connection, self.log, *arguments)
        return self._known[key]

    @property
    def judged(self) -> set[str]:
        """Columns of the log that have their role."""
        return {f.column for f in self.findings if f.table == "interactions"}

    @property
    def left(self) -> list[Column]:
        return [c for c in self.log.columns if c.name not in self.judged]

    def bursts(self, column: str) -> float:
        return self._once(pairs.bursts, column) if self.time else 0.0

    def differs(self, key: str, column: str) -> float | None:
        """pairs.differs by a key column."""
        return self._once(pairs.differs, quote(key), column)

    def of(self, key: str | None, column: str | None) -> bool:
        """Whether the column is shown to be a function of the key."""
        found = self.differs(key, column) if key and column and key != column else None
        return found is not None and found <= SAME

    def within_a_day(self, column: str) -> float | None:
        """How often a user's rows of one day differ, as a share of how often any rows do."""
        return self._once(pairs.differs, f"{quote(self.user)} || '|' || {TIME} // {DAY}", column) if self.user and self.time else None

    def of_the_clock(self, column: str) -> bool:
        """Whether it is a function of the hour, and of nothing but the place of that hour in the day, the week or the calendar."""
        if not self.time:
            return False
        hour = self._once(pairs.differs, f"{TIME} // 3600000", column)
        if hour is None or hour > 0.35:
            return False
        if self.log[column].numeric and self._once(pairs.rising, f"TRY_CAST({quote(column)} AS DOUBLE)", TIME) >= 0.99:
            return True  # a date as a number, a counter
        keys = (f"{TIME} // 3600000 % 24", f"{TIME} // {DAY} % 7", f"{TIME} // {DAY}")
        found = [self._once(pairs.differs, key, column) for key in keys]
        day = found[2] is not None and found[2] <= 0.25 and "clock" in self.log[column].hints
        return day or any(f is not None and f <= (SAME if i else 0.35) for i, f in enumerate(found[:2]))

    def tie(self, column: str) -> pairs.Tie | None:
        return self._once(pairs.tie, column, self.label) if self.label else None

    def found_in(self, table: Table | None, column: str) -> float:
        """Share of the log column's values that are keys of a table beside the log."""
        key = key_of(table)
        if table is None or key is None:
            return 0.0
        return self._once(pairs.overlap, column, table, key)


def key_of(table: Table | None) -> str | None:
    """The column of a table of users or items that tells its rows apart: unique, filled, the one named like an id before others."""
    unique = [c for c in table.columns if c.filled >= 0.99 and c.fresh >= 0.98 and c.words < 2.5] if table else []
    ranked = sorted(unique, key=lambda c: ("id" not in c.hints, not c.hints & {"user", "item"}))  # stable: else the first
    return ranked[0].name if ranked else None
