"""The record types between a log and the model: rows of events and candidates as columns, and what one row of a batch is made of."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

EVENT, CANDIDATE, QUERY = 0, 1, 2
ROW_PARTS = ("item", "time", "cat", "weight", "num", "text")
TOKEN_PARTS = ("item", "kind", "n", "cat", "weight", "num", "text")


@dataclass
class Rows:
    """Columns of events or candidates, n rows."""

    item: np.ndarray  # (n,) int64 row of the item table; -1 for a query, which asks for no item
    time: np.ndarray  # (n,) int64 UTC ms
    cat: np.ndarray  # (n, S) int32: context slots, then hour, weekday, weekend (the gap is filled in by `build`)
    weight: np.ndarray  # (n, S) float32
    num: np.ndarray  # (n, 2k) float64: context numbers and their missing flags
    text: np.ndarray  # (n, q) int64 rows of a table of text vectors, 0 for none

    def take(self, index: Any) -> Self:
        return type(self)(**{name: value[index] for name, value in vars(self).items()})


@dataclass
class Timeline(Rows):
    """One user's events in order, with what came of them."""

    known: np.ndarray  # (n,) int64 UTC ms
    outcomes: np.ndarray  # (n, o) float64 in the order of CounterSpec.outcomes, NaN unknown


@dataclass
class Example:
    """One user's window and the rows scored against it: what one row of a batch is made of. Event tokens come first."""

    profile: list[int]  # token ids
    events: int
    item: np.ndarray  # (e + c,) int64
    kind: np.ndarray  # (e + c,) int8
    n: np.ndarray  # (e + c,) int64, how many leading events of the window each token sees
    cat: np.ndarray  # (e + c, S) int32
    weight: np.ndarray  # (e + c, S) float32
    num: np.ndarray  # (e + c, D) float32, standardised
    text: np.ndarray  # (e + c, q) int64

    @property
    def size(self) -> int:
        return len(self.item)

    def part(self, tokens: np.ndarray, events: int) -> "Example":
        """Some of the tokens, the first `events` of which are events."""
        taken = {name: getattr(self, name)[tokens] for name in TOKEN_PARTS}
        return Example(profile=self.profile, events=events, **taken)
