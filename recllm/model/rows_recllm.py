"""The record types between a log and the model: rows of events and candidates as columns, and what one row of a batch is made of."""

from collections.abc import Callable
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

    def of_items(self, item: np.ndarray) -> "Rows":
        """The one moment of this one row for items (n,): views of it, to be read only."""
        once = {name: getattr(self, name) for name in ROW_PARTS[1:]}
        return Rows(item, **{name: np.broadcast_to(value, (len(item), *value.shape[1:])) for name, value in once.items()})


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

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Tokens of profile, events, candidates."""
        return len(self.profile), self.events, self.size - self.events

    def part(self, tokens: np.ndarray, events: int) -> "Example":
        """Some of the tokens, the first `events` of which are events."""
        taken = {name: getattr(self, name)[tokens] for name in TOKEN_PARTS}
        return Example(profile=self.profile, events=events, **taken)


@dataclass
class OpenExample(Example):
    """An example over a whole catalogue: its arrays hold the events and the query alone, candidates are built where a part has some.

    Its tokens are numbered as if they were all there: the events, a candidate for each of `rows` (I,), the query.
    """

    rows: np.ndarray
    build: Callable[[np.ndarray], Example]  # item rows -> the events, these candidates, the query

    @property
    def size(self) -> int:
        return self.events + len(self.rows) + 1

    def part(self, tokens: np.ndarray, events: int) -> Example:
        candidate = (tokens >= self.events) & (tokens < self.size - 1)
        place = np.where(tokens < self.events, tokens, self.events)
        if not candidate.any():
            return super().part(place, events)
        place[candidate] += np.arange(int(candidate.sum()))
        place[tokens == self.size - 1] += int(candidate.sum())
        return self.build(self.rows[tokens[candidate] - self.events]).part(place, events)
