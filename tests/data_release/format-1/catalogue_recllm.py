"""The catalogue: all items, their fields, vectors and counts, in a few flat arrays; and its two files in a release."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .errors_recllm import ReleaseError

ARRAYS = ("vector", "cat", "weight", "num", "share", "published", "id_row")


@dataclass
class ItemTable:
    """I items as arrays; one row more than nothing: a request's new items are a table of their own, appended for one call."""

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
        """This table followed by another's rows."""
        joined = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS}
        return ItemTable(ids=self.ids + other.ids, fields=self.fields + other.fields, **joined)

    def save(self, folder: Path) -> None:
        """Write `catalogue.safetensors` and `catalogue.jsonl`."""
        save_file({name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}, folder / "catalogue.safetensors")
        lines = [json.dumps({"item_id": i, **f}, ensure_ascii=False) for i, f in zip(self.ids, self.fields, strict=True)]
        (folder / "catalogue.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, arrays: Path, lines: Path) -> "ItemTable":
        """Read what `save` wrote. Raises ReleaseError when the two files do not belong together."""
        fields = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines() if line]
        table = cls(ids=[f.pop("item_id") for f in fields], fields=fields, **load_file(arrays))
        if len(table.ids) != len(table.id_row):
            raise ReleaseError(f"{lines}: expected {len(table.id_row)} items as in {arrays.name}, found {len(table.ids)}: release it again")
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

    def read(self, row: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Sums (n, 1 + 2k) of item rows (n,) in the last period closed by each time (n,); zeros for items without any.

        A negative row is an item outside the catalogue.
        """
        wanted = (row.astype(np.int64) << 32) + np.maximum(time // self.period, 0)
        found = np.searchsorted(self.key, wanted, side="right") - 1
        safe = np.maximum(found, 0)
        if len(self.key) == 0:
            return np.zeros((len(row), self.sums.shape[1]))
        hit = (found >= 0) & (self.row[safe] == row)
        return np.where(hit[:, None], self.sums[safe], 0.0)

    def recent(self, row: np.ndarray, time: np.ndarray, span: int) -> np.ndarray:
        """Sums (n, 1 + 2k) of the periods that closed within `span` ms before the last one closed by each time (n,); past the end of the
        log the last days that it knows."""
        time = np.minimum(time, max(self.last, int(self.end.max(initial=0))))
        # sums of seconds may round to just below 0
        return np.maximum(self.read(row, time) - self.read(row, time - span), 0.0)

    def save(self, folder: Path) -> None:
        # safetensors writes the memory as it lies: a column-major array would come back scrambled, in silence
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("row", "end", "sums")}
        save_file({**arrays, "period_last": np.array([self.period, self.last], dtype=np.int64)}, folder / "item_counts.safetensors")

    @classmethod
    def load(cls, path: Path) -> "ItemCounts":
        arrays = load_file(path)
        period, last = (int(v) for v in arrays.pop("period_last"))
        return cls(period=period, last=last, **arrays)
