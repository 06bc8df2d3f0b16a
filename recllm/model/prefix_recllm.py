"""What the encoder knows of a user, kept: the keys and values of a timeline, lengthened event by event, and a cache of many of them."""

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import torch

from .catalogue_recllm import ItemTable
from .rows_recllm import TOKEN_PARTS, Example

SLACK = 32  # tokens that a copied prefix can grow by before it is copied again


class Buffer:
    """Room for keys and values, shared by the prefixes that grew out of one another; `used` tokens are taken."""

    def __init__(self, made: torch.Tensor, used: int) -> None:
        self.made, self.used, self.lock = made, used, threading.Lock()  # made (L, 2, 1, H, room, d)

    def claim(self, begin: int, end: int) -> bool:
        """Take the room behind the first `begin` tokens, unless somebody has it already or it ends before `end`."""
        with self.lock:
            free = self.used == begin and end <= self.made.shape[4]
            self.used = end if free else self.used
            return free


class Prefix:
    """Each layer's keys and values of one timeline: a profile's, then events'. A prefix never changes; `grown` gives a longer one, and
    any number of requests can be scored against one at once."""

    def __init__(self, buffer: Buffer, profile: int, events: int) -> None:
        self.buffer, self.profile, self.events = buffer, profile, events

    @classmethod
    def empty(cls, layers: int, heads: int, size: int, profile: int, events: int, like: torch.Tensor) -> "Prefix":
        """Room for a profile and events, on the device and in the precision of a tensor; H heads of d = `size`."""
        room = profile + events
        return cls(Buffer(like.new_empty((layers, 2, 1, heads, room, size)), room), profile, events)

    @property
    def layers(self) -> int:
        return self.buffer.made.shape[0]

    @property
    def length(self) -> int:
        return self.profile + self.events

    @property
    def bytes(self) -> int:
        return self.buffer.made.nbytes

    def grown(self, events: int) -> "Prefix":
        """This prefix with room for `events` more, yet to be written. Where somebody else grew out of it before, in a copy."""
        length = self.length + events
        if self.buffer.claim(self.length, length):
            return Prefix(self.buffer, self.profile, self.events + events)
        old = self.buffer.made
        made = old.new_empty((*old.shape[:4], length + SLACK, old.shape[5]))
        made[:, :, :, :, : self.length] = old[:, :, :, :, : self.length]
        return Prefix(Buffer(made, length), self.profile, self.events + events)

    def write(self, layer: int, begin: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Put a layer's keys and values (1, H, m, d) at place `begin` on."""
        self.buffer.made[layer, 0, :, :, begin : begin + key.shape[2]] = key
        self.buffer.made[layer, 1, :, :, begin : begin + key.shape[2]] = value

    def read(self, layer: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (1, H, length, d) of a layer, as they lie unless they are wanted in another precision."""
        key, value = self.buffer.made[layer, :, :, :, : self.length].to(dtype).unbind(0)
        return key, value


@dataclass(frozen=True)
class Kept:
    """A prefix, and the rows that it was made of: what it takes to know whether it is still true."""

    prefix: Prefix
    rows: dict[str, np.ndarray]  # (events, ...) each

    @property
    def bytes(self) -> int:
        """Of the rows alone."""
        return sum(mine.nbytes for mine in self.rows.values())

    def fits(self, rows: dict[str, np.ndarray]) -> bool:
        """Whether these rows begin with those that the prefix was made of."""
        return all(name in rows and np.array_equal(mine, rows[name][: self.prefix.events]) for name, mine in self.rows.items())


class PrefixCache:
    """Prefixes by key, the least recently used forgotten first, within a bound of bytes. Any number of threads may use one.

    A key holds whatever makes a prefix another one: the user, the profile's tokens, the version of the model. What the events were is
    kept beside the prefix (`Kept.fits`), so a changed history is a miss as well.
    """

    def __init__(self, most: int = 1 << 28) -> None:
        self.most, self.bytes, self.lock = most, 0, threading.RLock()
        self.kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self.shared: Counter[int] = Counter()  # entries of each buffer: forks share one, which is counted once

    def __len__(self) -> int:
        return len(self.kept)

    def get(self, key: Hashable) -> Kept | None:
        """What is kept under a key, now the most recently used."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
            return self.kept.get(key)

    def put(self, key: Hashable, kept: Kept) -> None:
        """Keep a prefix, in place of what the key had. One that is larger than the bound is not kept."""
        with self.lock:
            self.evict(key)
            if kept.prefix.bytes + kept.bytes > self.most:
                return
            self.kept[key] = kept
            self._count(kept, 1)
            while self.bytes > self.most:
                self.evict(next(iter(self.kept)))

    def fork(self, key: Hashable, other: Hashable) -> None:
        """Let another key go on from the same prefix; what either appends the other does not see. Raises KeyError for a key without one."""
        with self.lock:
            self.put(other, self.kept[key])

    def evict(self, key: Hashable) -> None:
        """Forget a key. Requests that still read its prefix keep it alive."""
        with self.lock:
            kept = self.kept.pop(key, None)
            if kept is not None:
                self._count(kept, -1)

    def extend(self, key: Hashable, rows: dict[str, np.ndarray], make: Callable[[Prefix | None], Prefix]) -> Prefix:
        """The prefix of these rows: what is kept, lengthened by `make(prefix)` where the rows go on, made anew by `make(None)` where they
        do not begin as it does. Two threads with the same key may both make it; both are right."""
        kept = self.get(key)
        if kept is not None and not kept.fits(rows):
            kept = None
        if kept is not None and kept.prefix.events == len(rows["item"]):
            return kept.prefix
        prefix = make(kept.prefix if kept else None)
        self.put(key, Kept(prefix, {name: mine.copy() for name, mine in rows.items()}))  # a view would keep the whole request alive
        return prefix

    def _count(self, kept: Kept, by: int) -> None:
        buffer = id(kept.prefix.buffer)
        before = self.shared[buffer]
        self.shared[buffer] = before + by
        self.bytes += by * kept.bytes
        if 0 in (before, before + by):
            self.bytes += by * kept.prefix.bytes
        if before + by == 0:
            del self.shared[buffer]


def described(example: Example, items: ItemTable, known: int, text_vectors: np.ndarray | None) -> dict[str, np.ndarray]:
    """The rows of an example's events: equal ones make equal keys and values. Items from row `known` on came with their request: they are
    told by all that is known of them, as free texts are by their vectors."""
    events = slice(0, example.events)
    rows = {name: getattr(example, name)[events] for name in TOKEN_PARTS if name != "text"}
    outside = rows["item"] >= known
    if outside.any():
        which = np.where(outside, rows["item"], known)
        told = np.concatenate([getattr(items, name)[which] for name in ("vector", "cat", "weight", "num")], axis=1)
        rows |= {"item": np.where(outside, -2, rows["item"]), "told": np.where(outside[:, None], told, 0.0)}
    return rows if text_vectors is None else rows | {"text": text_vectors[example.text[events]]}
