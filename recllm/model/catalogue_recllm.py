"""The catalogue: all items, their fields, vectors and counts, in a few flat arrays; and its two files in a release."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .errors_recllm import ReleaseError
from .files_recllm import mapped_arrays, whole_file
from .manifest_recllm import AGAIN, reading
from .timeline_recllm import DAY

ARRAYS = ("vector", "cat", "weight", "num", "share", "published", "id_row")


class Stacked:
    """Rows of one array (or list) followed by those of another, read by row number: neither is copied, only what is asked for."""

    def __init__(self, base: Any, extra: Any) -> None:
        self.base, self.extra = base, extra

    def __len__(self) -> int:
        return len(self.base) + len(self.extra)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.extra.shape[1:])

    def __getitem__(self, rows: Any) -> Any:
        """One row by its number, or an array of rows (n, ...) by theirs; no slices, and no row below 0."""
        size = len(self.base)
        if isinstance(rows, int | np.integer):
            return self.base[rows] if rows < size else self.extra[rows - size]
        if size == 0:
            return self.extra[rows]
        beyond = rows >= size
        found = self.base[np.where(beyond, 0, rows)]
        found[beyond] = self.extra[rows[beyond] - size]
        return found


@dataclass
class ItemTable:
    """I items as arrays, of a release mapped from its file; a request's new items are a table of their own, stacked on it for one call."""

    ids: list[str]
    fields: list[dict[str, Any]]  # what is known of each item, for text, titles and values
    cat: np.ndarray  # (I, S) int32, codes of the item slots
    weight: np.ndarray  # (I, S) float32
    num: np.ndarray  # (I, N) float64, item numbers with their missing flags, not yet standardised
    share: np.ndarray  # (I, C) float32, 1 / number of the item's counted categories where it has them
    published: np.ndarray  # (I,) int64 UTC ms, -1 for unknown
    id_row: np.ndarray  # (I,) int64, row of the item-id table; 0 for items that train never saw
    vector: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))  # (I, W) of the tower

    def __len__(self) -> int:
        return len(self.ids)

    def extended(self, other: "ItemTable") -> "ItemTable":
        """This table followed by another's rows, to be read by row number: nothing of this one is copied."""
        stacked: dict[str, Any] = {name: Stacked(getattr(self, name), getattr(other, name)) for name in ("ids", "fields", *ARRAYS)}
        return ItemTable(**stacked)

    def save(self, folder: Path) -> None:
        """Write `catalogue.safetensors` and `catalogue.jsonl`."""
        with whole_file(folder / "catalogue.safetensors") as part:  # a table that lies on the old file goes on lying there
            save_file({name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}, part)
        lines = [json.dumps({"item_id": i, **f}, ensure_ascii=False) for i, f in zip(self.ids, self.fields, strict=True)]
        (folder / "catalogue.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays: Path, lines: Path) -> "ItemTable":
        """Read what `save` wrote; the arrays stay on the disk until they are used.

        Raises ReleaseError for malformed files, or two that do not belong together.
        """
        with reading(lines):
            fields = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line]
            ids = [str(f.pop("item_id")) for f in fields]
        with reading(arrays):
            found = mapped_arrays(arrays)
            table = cls(ids=ids, fields=fields, **found)
        if len(table.ids) != len(table.id_row):
            raise ReleaseError(f"{lines}: expected {len(table.id_row)} items as in {arrays.name}, found {len(table.ids)}: release it again")
        _check(arrays, found, len(ids), {"cat": 2, "weight": 2, "num": 2, "share": 2, "vector": 2, "published": 1, "id_row": 1})
        return table


@dataclass
class ItemCounts:
    """Cumulative item counts at the ends of the periods in which they changed, sorted by (item row, period end)."""

    period: int  # milliseconds
    row: np.ndarray  # (N,) int64, item row of the catalogue
    end: np.ndarray  # (N,) int64 UTC ms
    sums: np.ndarray  # (N, 1 + 2k) float64: events, then (known, sum) of each counted outcome
    last: int = 0  # end of the prepared log, UTC ms: past it the last row is read

    def __post_init__(self) -> None:
        self.key = (self.row << 32) + self.end // self.period
        self.latest = max(self.last, int(self.end.max(initial=0)))

    def read(self, row: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Sums (n, 1 + 2k) of item rows (n,) in the last period closed by each time (n,); zeros for items without any.

        A negative row is an item outside the catalogue.
        """
        wanted = (row.astype(np.int64) << 32) + np.maximum(time // self.period, 0)
        found = np.searchsorted(self.key, wanted, side="right") - 1
        safe = np.maximum(found, 0)
        if len(self.key) == 0:
            return np.zeros((len(row), self.sums.shape[1]))
        sums = self.sums[safe]
        sums[(found < 0) | (self.row[safe] != row)] = 0.0
        return sums

    def recent(self, row: np.ndarray, time: np.ndarray, span: int, now: np.ndarray | None = None) -> np.ndarray:
        """Sums (n, 1 + 2k) of the periods that closed within `span` ms before the last one closed by each time (n,); past the end of the
        log the last days that it knows. `now` is what `read` gives for these rows, where that is at hand."""
        now = self.read(row, time) if now is None else now  # no period ends after the end of the log: nothing to limit here
        time = np.minimum(time, self.latest)
        # sums of seconds may round to just below 0
        return np.maximum(now - self.read(row, time - span), 0.0)

    def thinned(self, how: str, spans: Iterable[int]) -> "ItemCounts":
        """Fewer rows: `daily` keeps each item's last of every UTC day, `last` its newest; both also what `recent` reads after the end of
        the log for each of the `spans` (ms), so that only requests of earlier moments see other counts: older ones, never later."""
        if how == "full" or len(self.row) == 0:
            return self
        newest = max(self.last, int(self.end.max()))
        keep = np.zeros(len(self.row), dtype=bool)
        if how == "daily":
            day = (self.end - 1) // DAY  # a period that closes at midnight belongs to the day before
            keep |= np.append((self.row[1:] != self.row[:-1]) | (day[1:] != day[:-1]), True)
        for moment in (newest, *(newest - span for span in spans)):
            closed = np.flatnonzero(self.end // self.period <= moment // self.period)
            keep[closed[np.append(self.row[closed][1:] != self.row[closed][:-1], True)[: len(closed)]]] = True
        return ItemCounts(self.period, self.row[keep], self.end[keep], self.sums[keep], self.last)

    def save(self, folder: Path) -> None:
        # safetensors writes the memory as it lies: a column-major array would come back scrambled, in silence
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("row", "end", "sums")}
        save_file({**arrays, "period_last": np.array([self.period, self.last], dtype=np.int64)}, folder / "item_counts.safetensors")

    @classmethod
    def load(cls, path: Path) -> "ItemCounts":
        """Read what `save` wrote. Raises ReleaseError for a malformed file."""
        with reading(path):
            arrays = mapped_arrays(path)
            period, last = (int(v) for v in arrays.pop("period_last"))
            _check(path, arrays, len(arrays["row"]), {"row": 1, "end": 1, "sums": 2})
            if period <= 0:
                raise ReleaseError(f"{path}: expected a period of some milliseconds, found {period}: {AGAIN}")
            return cls(period=period, last=last, **arrays)


def _check(path: Path, arrays: dict[str, np.ndarray], rows: int, axes: dict[str, int]) -> None:
    """Raise ReleaseError for an array of another number of rows or axes, or with values that are no numbers."""
    for name, expected in axes.items():
        found = arrays[name]
        if found.ndim != expected or len(found) != rows:
            raise ReleaseError(f"{path}: expected {name} with {rows} rows and {expected} axes, found shape {list(found.shape)}: {AGAIN}")
        if name != "num" and not np.isfinite(found).all():  # an item's number may be unknown
            raise ReleaseError(f"{path}: expected finite values of {name}, found NaN or infinity: {AGAIN}")
