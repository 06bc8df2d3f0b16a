"""Fields as vocabulary slots of one embedding table, and numbers; the same code reads prepared columns and raw requests.

Code 0 of the table is padding. Every slot has a code for `missing` and one for `unseen`, so no value is ever an error.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .errors_recllm import RequestError
from .timeline_recllm import GAP_NAMES

HOURS = ["midnight", *(f"{h} am" for h in range(1, 12)), "noon", *(f"{h} pm" for h in range(1, 12))]
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
TIME_SLOTS = {"hour": HOURS, "weekday": WEEKDAYS, "weekend": ["working day", "weekend"], "gap": GAP_NAMES}
LIST_WIDTH = 8  # values kept of a list field; the mean of their embeddings enters the token
MISSING, UNSEEN, FIRST = 0, 1, 2  # codes inside a slot
BLANKS = " \t\n\r\f\v"  # what is trimmed from a value's ends, here and in preparation's SQL


@dataclass
class Slot:
    """One field of values. `offset` is the place of its first code in the embedding table."""

    name: str
    group: str  # context | time | outcome | item
    values: list[str]
    many: bool = False
    offset: int = 0
    index: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.index = {value: self.offset + FIRST + i for i, value in enumerate(self.values)}

    @property
    def width(self) -> int:
        return LIST_WIDTH if self.many else 1

    @property
    def size(self) -> int:
        return FIRST + len(self.values)

    def encode(self, values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Codes (n, width) int32 and weights (n, width) float32 that sum to 1; None is missing, an unknown value unseen."""
        codes = np.zeros((len(values), self.width), dtype=np.int32)
        weights = np.zeros((len(values), self.width), dtype=np.float32)
        missing, unseen, index = self.offset + MISSING, self.offset + UNSEEN, self.index
        if not self.many:
            codes[:, 0] = [missing if v is None else index.get(v, unseen) for v in map(as_text, values)]
            weights[:, 0] = 1
            return codes, weights
        for row, value in enumerate(values):
            found = [index.get(v, unseen) for v in as_list(value)][: self.width] or [missing]
            codes[row, : len(found)] = found
            weights[row, : len(found)] = 1 / len(found)
        return codes, weights

    def plain(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k in ("name", "group", "values", "many")}

    def texts(self) -> list[str]:
        """What each code means, in words: new embeddings start from the mean word embedding of these."""
        return [f"{self.name} unknown", f"other {self.name}", *(f"{self.name} {value}" for value in self.values)]


def place(slots: list[Slot]) -> int:
    """Give every slot its part of the table. Returns the table's size."""
    size = 1
    for slot in slots:
        slot.offset = size
        slot.__post_init__()
        size += slot.size
    return size


def as_text(value: Any) -> str | None:
    """Text of a category value as preparation reads it: trimmed, empty is unknown, 3.0 is "3", True is "true"."""
    if value is None or value is np.nan:
        return None
    if isinstance(value, str):
        value = value.strip(BLANKS)
        return (value.lower() if value.lower() in ("true", "false") else value) or None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value == int(value) else repr(float(value))
    return str(value)


def as_list(value: Any) -> list[str]:
    """A list field's values as text; one value is a list of one."""
    if value is None:
        return []
    many = value if isinstance(value, list | tuple | set | np.ndarray) else [value]
    return [text for text in map(as_text, many) if text is not None]


def as_number(value: Any, name: str) -> float:
    """A finite number, or NaN for unknown (None, NaN and infinity). Raises RequestError for text and other types."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise RequestError(f"{name}: expected a number, found {value!r}: give a number or leave it out") from None
    return number if math.isfinite(number) else math.nan


def verbalise(values: dict[str, Any]) -> str:
    """`title: Alien; year: 1979; genres: Horror, Sci-Fi`: the known fields in the order given."""
    parts = [(name, ", ".join(as_list(value))) for name, value in values.items()]
    return "; ".join(f"{name}: {text}" for name, text in parts if text)


def declared_vectors(fields: Sequence[dict[str, Any]], dims: dict[str, int]) -> np.ndarray:
    """Precomputed vectors of items (n, sum of dims) float32, each field scaled to length one, zeros where an item has none.

    Raises RequestError for a vector of another length.
    """
    parts = [np.zeros((len(fields), dim), dtype=np.float32) for dim in dims.values()]
    for part, (name, dim) in zip(parts, dims.items(), strict=True):
        for row, values in enumerate(fields):
            try:
                vector = np.asarray(values.get(name) if values.get(name) is not None else [], dtype=np.float64)
            except (TypeError, ValueError):
                raise RequestError(f"{name}: expected {dim} numbers, found {str(values.get(name))[:80]!r}") from None
            if vector.shape not in ((dim,), (0,)):
                raise RequestError(f"{name}: expected {dim} numbers, found {vector.size}")
            if vector.size and np.isfinite(vector).all():
                part[row] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(fields), 0), dtype=np.float32)


def with_missing(numbers: np.ndarray) -> np.ndarray:
    """Numbers (n, k) with NaN for unknown -> (n, 2k): values with 0 for unknown, then flags of the unknown ones."""
    unknown = np.isnan(numbers)
    return np.concatenate([np.where(unknown, 0.0, numbers), unknown.astype(float)], axis=1)
