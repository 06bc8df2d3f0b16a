"""Traces of users in files that were written: found by a search through each kind of file, and cut out where they are no part of a whole.

An id is found as a word: neither a letter, a digit nor `_` stands before or behind it. One that is a number, or an item's as well, could be
anything in a text: it is looked for in columns and keys of users alone. In bytes that are no text, ids of fewer than SHORTEST bytes would
be found by chance: they are looked for in the cells, names and headers of such a file.
"""

import gzip
import html
import json
import mmap
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config
from recllm.data.whole import whole_file

SHORTEST = 6
NUMBER = re.compile(r"[\d.,:+\-\s]+")
ITEMS = ("item", "item_id")
LINES = (".jsonl", ".csv", ".tsv", ".txt", ".log")


@dataclass(frozen=True)
class Traces:
    """raw, written: ids as in the log, and as preparation writes them (the same without pseudonyms). items: ids that are items' too,
    without being people. user_columns: names under which ids of users stand."""

    raw: tuple[str, ...]
    written: tuple[str, ...]
    items: frozenset[str] = frozenset()
    user_columns: tuple[str, ...] = ("user",)

    @classmethod
    def of(cls, config: Config, raw: Iterable[str], written: Iterable[str], items: Iterable[str]) -> "Traces":
        """items: those of `written` that the catalogue holds."""
        schema = config.columns
        people = [schema.item, *ITEMS, "other", schema.relations.other, schema.relations.user] if schema.relations else []
        columns = dict.fromkeys(["user", "user_id", schema.user, *people])
        return cls(tuple(raw), tuple(written), frozenset() if schema.relations else frozenset(items), tuple(columns))

    @cached_property
    def every(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.raw, *self.written]))

    @cached_property
    def vague(self) -> tuple[str, ...]:
        """Ids that only columns and keys of users tell."""
        return tuple(id for id in self.every if NUMBER.fullmatch(id) or id in self.items)

    @cached_property
    def words(self) -> re.Pattern[str]:
        """Any id that is no vague one as a word, also as JSON and HTML write it; a vague one behind a key of users."""
        forms = {form for id in self.every if id not in self.vague for form in (id, json.dumps(id)[1:-1], html.escape(id))}
        keys = "|".join(map(re.escape, self.user_columns))
        parts = [rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(forms)))})(?!\w)"] if forms else []
        if self.vague:
            parts.append(rf'"(?:{keys})"\s*:\s*"?\s*(?:{"|".join(map(re.escape, self.vague))})(?:\.0)?\s*(?=["\s,}}])')
        return re.compile("|".join(parts))

    @cached_property
    def bytes(self) -> re.Pattern[bytes] | None:
        """Ids that are long enough to be no chance, in UTF-8 and UTF-32 (numpy's)."""
        long = [id for id in self.every if id not in self.vague and len(id.encode()) >= SHORTEST]
        forms = [re.escape(form) for id in long for form in (id.encode(), id.encode("utf-32-le"))]
        return re.compile(rb"(?<![A-Za-z0-9_])(?:" + b"|".join(forms) + rb")(?![A-Za-z0-9_])") if forms else None

    # ---- rows that preparation dropped

    def owns_row(self, row: str | None, file: str) -> bool:
        """Whether a dropped row (JSON of its cells, or the text of a malformed line) is of one of the users."""
        try:
            plain = json.loads(row or "null")
        except ValueError:
            plain = None
        if not isinstance(plain, dict):  # a line that could not be read: any word of it may be the user
            return bool(row) and any(re.search(rf"(?<!\w){re.escape(id)}(?!\w)", str(row)) for id in self.every)
        table = file == "users" or (file == "items" and "item" in self.user_columns)
        keys = ("id",) if table else () if file == "items" else self.user_columns
        cells = {str(plain.get(key)).strip() for key in keys}
        return bool((cells | {cell.removesuffix(".0") for cell in cells}) & {*self.every})

    # ---- files

    def count(self, path: Path) -> int:
        """How many cells, lines or places of a file hold one of the users, 0 for a file without a trace."""
        found = sum(sum(mask) for mask in self._tables(path))
        if found:
            return found
        text = _text(path)
        if text is not None:
            return sum(1 for _ in self.words.finditer(text))
        return sum(1 for word in _strings(path) if self._cell(word, "")) + self._places(path)

    def _places(self, path: Path) -> int:
        if self.bytes is None or path.stat().st_size == 0:
            return 0
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return sum(1 for _ in self.bytes.finditer(content))

    def _cell(self, value: object, column: str) -> bool:
        if isinstance(value, list | tuple | dict):
            return any(self._cell(part, column) for part in (value.values() if isinstance(value, dict) else value))
        if isinstance(value, int) and column not in self.user_columns:
            return False
        text = str(value).strip()
        if column in self.user_columns and text in self.every:
            return True
        return isinstance(value, str) and self.words.search(value) is not None

    def _mask(self, table: pa.Table | pa.RecordBatch) -> np.ndarray:
        """(rows,) bool: rows in which some cell holds one of the users. Each distinct value is looked at once."""
        out = np.zeros(table.num_rows, dtype=bool)
        for name, column in zip(table.schema.names, table.columns, strict=True):
            kind = column.type
            if pa.types.is_nested(kind):
                inner = pa.types.is_list(kind) and not (pa.types.is_string(kind.value_type) or pa.types.is_nested(kind.value_type))
                values = None if inner else column.to_pylist()
                out |= False if values is None else np.fromiter((self._cell(v, name) for v in values), bool, table.num_rows)
            elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind) or name in self.user_columns:
                whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
                coded = whole if pa.types.is_dictionary(kind) else whole.dictionary_encode()
                hits = np.array([v is not None and self._cell(v, name) for v in coded.dictionary.to_pylist()] or [False])
                out |= hits[coded.indices.fill_null(0).to_numpy(zero_copy_only=False)] & coded.is_valid().to_numpy(zero_copy_only=False)
        return out

    def _tables(self, path: Path) -> Iterator[np.ndarray]:
        """Masks of the batches of a Parquet or Arrow file; nothing for another."""
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches():
                yield self._mask(batch)
        elif path.suffix in (".arrow", ".feather", ".ipc"):
            with pa.memory_map(str(path)) as source:
                start = source.read(6)
                source.seek(0)
                batches = pa.ipc.open_file(source).read_all().to_batches() if start == b"ARROW1" else pa.ipc.open_stream(source)
                yield from map(self._mask, batches)

    def clean(self, path: Path) -> str:
        """Cut the users out of a file that holds them. Returns what was done, for a reader: rows or lines left out, or the file removed."""
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            mask = self._mask(table)
            if mask.any() and not any(self._cell(name, "") for name in table.schema.names):
                with whole_file(path) as part:
                    pq.write_table(table.filter(pa.array(~mask)), part, compression="zstd")
                return f"{int(mask.sum()):,} rows left out"
        text = _text(path) if path.suffix in LINES else None
        if text is not None:
            lines = text.splitlines(keepends=True)
            kept = [line for line in lines if not self.words.search(line)]
            if len(kept) < len(lines):
                with whole_file(path) as part:
                    part.write_text("".join(kept), encoding="utf-8")
                return f"{len(lines) - len(kept):,} lines left out"
        path.unlink()
        return "removed"


def _text(path: Path) -> str | None:
    """The file as text, unpacked from gzip; None for one that is none."""
    raw = path.read_bytes() if path.suffix not in (".parquet", ".arrow", ".safetensors", ".npz", ".npy", ".bin", ".pt") else b"\xff"
    try:
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (UnicodeDecodeError, OSError, EOFError):
        return None


def _strings(path: Path) -> Iterator[str]:
    """Texts inside a file of arrays: names and cells of text of .npz, the header of safetensors."""
    if path.suffix in (".npz", ".npy"):
        found = np.load(path, allow_pickle=False)
        for name, array in found.items() if path.suffix == ".npz" else [("", found)]:
            yield name
            if array.dtype.kind in "US":
                yield from (str(v) for v in array.ravel().tolist())
    elif path.suffix == ".safetensors":
        with path.open("rb") as file:
            yield file.read(int.from_bytes(file.read(8), "little")).decode("utf-8", errors="replace")
