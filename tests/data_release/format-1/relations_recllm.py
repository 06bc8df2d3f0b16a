"""Relations between people and to groups: mutual friends, friends in a group, who is within two hops; as they were at a moment.

People are items too, under the same id. A relation counts for a request when it is older than it, and an item is a person from the moment
on at which that was to be seen: nothing that comes at or after a request changes it. Mutual friends as a signal of links:
Liben-Nowell and Kleinberg 2007, "The link-prediction problem for social networks" (common neighbours).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

NAMES = ["mutual_friends_log", "friends_in_group_log", "within_two_hops", "related"]
ARRAYS = ("start", "other", "since", "person")


LATEST = 2**41 - 1  # ms, in the year 2039
NEVER = 2**63 - 1  # when a group becomes a person


def _keys(item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """One int64 for (item row, ms), rows up to four million; a moment before 1970 counts as 1970, one after LATEST as that."""
    return (item.astype(np.int64) << 41) + np.clip(time, 0, LATEST)


@dataclass
class Paths:
    """What one user is related to, and what that is related to: sorted keys of (item row, moment from which it holds)."""

    direct: np.ndarray  # (d,) int64
    two: np.ndarray  # (p,) int64, one for each friend between the user and the item
    person: np.ndarray  # (I,) int64 UTC ms, from when on it is known to be a person

    @staticmethod
    def _before(keys: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """How many keys of each item (n,) are older than each time (n,)."""
        low = np.searchsorted(keys, _keys(item, np.zeros_like(time)), side="left")
        return np.searchsorted(keys, _keys(item, time), side="left") - low

    def between(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(n,) friends of the user who were related to each item before each time."""
        return self._before(self.two, item, time)

    def related(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(n,) bool: the user was related to the item itself before the time."""
        return self._before(self.direct, item, time) > 0

    def features(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(n, 4) float64 in the order of NAMES; zeros for rows outside of the catalogue (negative, or come with a request)."""
        inside = (item >= 0) & (item < len(self.person))
        safe = np.where(inside, item, 0)
        shared = self.between(safe, time)
        person = self.person[safe] < time if len(self.person) else np.zeros(len(item), dtype=bool)
        columns = [np.log1p(np.where(person, shared, 0)), np.log1p(np.where(person, 0, shared)), shared > 0, self.related(safe, time)]
        return np.stack(columns, axis=1).astype(np.float64) * inside[:, None]


@dataclass
class Relations:
    """All relations between I catalogue rows, both ways, as lists by row: row r is related to other[start[r]:start[r + 1]]."""

    start: np.ndarray  # (I + 1,) int64
    other: np.ndarray  # (E,) int64 rows
    since: np.ndarray  # (E,) int64 UTC ms
    person: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # (I,) int64 UTC ms, NEVER for groups

    @classmethod
    def of(cls, left: np.ndarray, right: np.ndarray, since: np.ndarray, person: np.ndarray) -> "Relations":
        """From pairs of rows (E,), each of which holds both ways from its first moment on, and the moments at which rows became persons."""
        both = np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([since, since])
        order = np.lexsort((both[2], both[1], both[0]))
        row, other, moment = (part[order] for part in both)
        first = np.ones(len(row), dtype=bool)
        first[1:] = (row[1:] != row[:-1]) | (other[1:] != other[:-1])
        row, other, moment = row[first], other[first], moment[first]
        start = np.searchsorted(row, np.arange(len(person) + 1))
        return cls(start.astype(np.int64), other.astype(np.int64), moment.astype(np.int64), person.astype(np.int64))

    def near(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows, since) of what a row is related to."""
        part = slice(int(self.start[row]), int(self.start[row + 1]))
        return self.other[part], self.since[part]

    def paths(self, row: np.ndarray, since: np.ndarray) -> Paths:
        """Of a user who is related to `row` (d,) since `since` (d,): a path counts from the later of its two relations on. Steps lead
        through people only, from when on they are known as such: members of a shared group are no friends."""
        friends = self.person[row] < NEVER
        sizes = np.where(friends, self.start[row + 1] - self.start[row], 0)
        index = np.repeat(self.start[row] - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
        reached = np.maximum(np.repeat(np.maximum(since, self.person[row]), sizes), self.since[index])
        return Paths(np.sort(_keys(row, since)), np.sort(_keys(self.other[index], reached)), self.person)

    def save(self, folder: Path) -> None:
        """Write `relations.safetensors`: rows of the catalogue only, no user id."""
        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}, folder / "relations.safetensors")

    @classmethod
    def load(cls, path: Path) -> "Relations":
        found = load_file(path)
        if found["person"].dtype == bool:  # of releases that knew no moments: a person at all times
            found["person"] = np.where(found["person"], 0, NEVER)
        return cls(**found)
