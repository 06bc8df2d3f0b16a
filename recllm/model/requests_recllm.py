"""Raw requests (dicts, as in DESIGN 7) to the rows that the processor builds from; every mistake is named with its remedy."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from .catalogue_recllm import ItemTable
from .errors_recllm import RequestError, nearest
from .fields_recllm import as_number, as_text, declared_vectors, verbalise
from .processing_recllm import Example, RowProcessor, Rows, Timeline
from .timeline_recllm import known_at, visible, window_start

KEYS = ("profile", "history", "history_before", "context", "candidates", "id")


@dataclass
class Prepared:
    """One request, checked and encoded: `example` holds the candidates in `ids`' order, then one query token.

    `items` is the catalogue, followed by the items that came with the request. `time` is UTC ms.
    """

    example: Example
    items: ItemTable
    ids: list[str]
    rows: np.ndarray  # (c,) rows of `items`
    seen: set[str]  # item ids of the history
    time: int
    text_vectors: np.ndarray  # (t, W) of the request's free texts; row 0 is no text


def parse_time(value: Any, zone: str, unit: str, where: str) -> tuple[int, int]:
    """(UTC milliseconds, minutes east of UTC) of ISO 8601 text, a datetime, or a number; naive times are in `zone`.

    Raises RequestError for anything else.
    """
    if isinstance(value, str) and not _is_number(value):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise RequestError(f'{where}: expected a time such as "2026-11-24T21:00:00+01:00", found {value!r}') from None
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
        offset = value.utcoffset()
        whole = round((value - datetime.fromisoformat("1970-01-01T00:00:00+00:00")).total_seconds() * 1000)
        return whole, int(offset.total_seconds() // 60) if offset else 0
    number = as_number(value, where) if not isinstance(value, bool) else float("nan")
    if number != number:
        raise RequestError(f"{where}: expected a time, found {value!r}: ISO 8601 text, or seconds or milliseconds since 1970")
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3}.get(unit) or (1e3 if abs(number) < 1e11 else 1.0 if abs(number) < 1e14 else 1e-3)
    moment = round(number * scale)
    offset = ZoneInfo(zone).utcoffset(datetime.fromtimestamp(moment / 1000, tz=ZoneInfo(zone)))
    return moment, int(offset.total_seconds() // 60) if offset else 0


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).removeprefix("-").isdigit()


def known_keys(given: Any, known: list[str], where: str) -> dict[str, Any]:
    """`given` as a dict with declared keys only. Raises RequestError naming the first undeclared one."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise RequestError(f"{where}: expected a dict, found {type(given).__name__}")
    for key in given:
        if key not in known:
            raise RequestError(f'{where}: undeclared field "{key}" (declared: {", ".join(known)}).{nearest(key, known)}')
    return given


class RequestReader:
    """Reads requests for one processor. `tokenize(text, length)` gives token ids, `encode(texts)` item vectors (n, W)."""

    def __init__(self, processor: RowProcessor, tokenize: Callable[[str, int], list[int]], encode: Callable[[list[str]], np.ndarray]):
        self.processor, self.tokenize, self.encode = processor, tokenize, encode
        self.schema: dict[str, Any] = processor.spec["schema"]
        self.index = {item: row for row, item in enumerate(processor.items.ids)}
        self.context_fields = [*(s.name for s in processor.by_group["context"]), *processor.numbers, *processor.texts]
        groups = ("item_text", "item_category", "item_number", "item_vector")
        self.item_fields = list(dict.fromkeys(name for group in groups for name in self.schema[group]))
        self.warned = False

    def read(self, request: dict[str, Any]) -> Prepared:
        """Check and encode one request. Without `candidates` every catalogue item is one. Raises RequestError."""
        known_keys(request, list(KEYS), "request")
        profile = known_keys(request.get("profile"), self.processor.spec["profile"], "profile")
        items, rows_of = self._items(request)
        moment, offset, context = self._context(request.get("context"))
        history = request.get("history") or []
        texts, text_vectors = self._texts([context, *(e for e in history if isinstance(e, dict))])
        events = self._events(request.get("history"), rows_of, texts)
        count = int(visible(events.time, events.known, np.array([moment]))[0])
        start = self._start(count, request.get("history_before"))
        window = events.take(slice(start, count))
        ids = [self._id(c) for c in request["candidates"]] if request.get("candidates") is not None else self.processor.items.ids
        rows = np.array([rows_of[i] for i in ids] + [-1], dtype=np.int64)  # the last is the query
        repeated = {k: [v] * len(rows) for k, v in context.items()}
        asked = self._rows(rows, np.full(len(rows), moment), np.full(len(rows), offset), repeated, texts)
        text = verbalise({n: profile.get(n) for n in self.processor.spec["profile"]})
        tokens = self.tokenize(text, int(self.processor.spec["profile_tokens"]))
        example = self.processor.build(tokens, window, asked, np.full(len(rows), count - start), items)
        seen = {items.ids[row] for row in events.item}
        return Prepared(example, items, list(ids), rows[:-1], seen, moment, text_vectors)

    # ---- parts

    def _rows(self, item: np.ndarray, time: np.ndarray, offset: np.ndarray, context: dict[str, list[Any]], texts: dict[str, int]) -> Rows:
        return self.processor.rows(item, time.astype(np.int64), offset.astype(np.int64), context, texts)

    def _texts(self, moments: list[dict[str, Any]]) -> tuple[dict[str, int], np.ndarray]:
        """(row of each free text, vectors with a zero row first) of the context fields that the tower reads."""
        found = {as_text(m.get(name)) for name in self.processor.texts for m in moments}
        words = sorted(text for text in found if text is not None)
        vectors = self.encode(words)
        none = np.zeros((1, vectors.shape[1]), dtype=np.float32)
        return {text: row for row, text in enumerate(words, start=1)}, np.concatenate([none, vectors])

    def _start(self, count: int, before: Any) -> int:
        """First event of the window, given how many older visible events the request left out."""
        if before is not None and (not isinstance(before, int) or before < 0):
            raise RequestError(f"history_before: expected how many older visible events were left out, found {before!r}")
        spec, left_out = self.processor.spec, before or 0
        start = int(window_start(count + left_out, spec["stride"], spec["overlap"])) - left_out
        if start < 0:
            raise RequestError(f"history: expected at least the window's {count - start} newest visible events beside history_before="
                               f"{left_out}, found {count}: send more history, or leave history_before out")
        return start

    def _context(self, given: Any) -> tuple[int, int, dict[str, Any]]:
        context = dict(known_keys(given, ["time", *self.context_fields], "context"))
        zone, unit = self.schema["time"]["zone"], self.schema["time"]["unit"]
        if context.get("time") is None:
            if not self.warned:
                warnings.warn("request without context.time: taken to be one second after the end of the prepared log", stacklevel=4)
                self.warned = True
            context["time"] = self.processor.counts.last + 1000
            unit = "ms"
        moment, offset = parse_time(context.pop("time"), zone, unit, "context.time")
        return moment, offset, context

    def _id(self, candidate: Any) -> str:
        value = candidate.get("item_id") if isinstance(candidate, dict) else candidate
        text = as_text(value) if isinstance(value, str | int | float | np.generic) else None
        if text is None:
            raise RequestError(f"candidates: expected an item id, or a dict with item_id and the item's fields, found {candidate!r}")
        return text

    def _items(self, request: dict[str, Any]) -> tuple[ItemTable, dict[str, int]]:
        """The catalogue, extended by the request's new items; and the row of each id."""
        new: dict[str, dict[str, Any]] = {}
        candidates = request.get("candidates")
        if candidates is not None and not isinstance(candidates, list | tuple):
            raise RequestError(f"candidates: expected a list of item ids or dicts, found {type(candidates).__name__}")
        for candidate in candidates or []:
            item = self._id(candidate)
            fields = {k: v for k, v in candidate.items() if k != "item_id"} if isinstance(candidate, dict) else {}
            known_keys(fields, [*self.item_fields, "published"], f'candidate "{item}"')
            if item not in self.index and item not in new:
                if not fields:
                    raise RequestError(f'candidates: nothing is known of item "{item}": it is not in the catalogue; give it as a dict with '
                                       f"item_id and {', '.join(self.item_fields) or 'its fields'}")
                new[item] = fields
        for event in request.get("history") or []:
            old = as_text(event.get("item_id")) if isinstance(event, dict) else None
            if old is not None and old not in self.index:
                new.setdefault(old, {})  # an old event of an item that is gone: its context and outcome still count
        if not new:
            return self.processor.items, self.index
        published = [parse_time(f["published"], "UTC", "auto", f'candidate "{i}": published')[0] if f.get("published") else -1
                     for i, f in new.items()]
        table = self.processor.item_table(list(new), list(new.values()), np.array(published), np.zeros(len(new), dtype=np.int64))
        texts = [verbalise({n: f.get(n) for n in self.processor.spec["item_text"]}) for f in new.values()]
        declared = declared_vectors(list(new.values()), self.processor.spec["item_vectors"])
        table.vector = np.concatenate([self.encode(texts), declared], axis=1)
        size = len(self.processor.items)
        return self.processor.items.extended(table), {**self.index, **{item: size + k for k, item in enumerate(new)}}

    def _events(self, history: Any, rows_of: dict[str, int], texts: dict[str, int]) -> Timeline:
        """The history in the order of a prepared timeline; rows equal in time and item are merged as preparation merges them."""
        outcomes = {n: o for n, o in self.schema["outcomes"].items()}
        allowed = ["item_id", "time", *self.context_fields, *outcomes, *(["known_at"] if self.schema["known_at"] else [])]
        if history is not None and not isinstance(history, list | tuple):
            raise RequestError(f"history: expected a list of events, found {type(history).__name__}")
        merged: dict[tuple[int, str, str], dict[str, Any]] = {}
        for place, event in enumerate(history or []):
            where = f"history[{place}]"
            event = known_keys(event, allowed, where)
            item = as_text(event.get("item_id"))
            if item is None:
                raise RequestError(f"{where}: expected an item_id, found {event.get('item_id')!r}")
            moment, offset = parse_time(event.get("time"), self.schema["time"]["zone"], self.schema["time"]["unit"], f"{where}.time")
            read = {**event, "offset": offset} | {n: as_number(event.get(n), f"{where}.{n}") for n in outcomes}
            for name, outcome in outcomes.items():
                value = read[name]
                if value == value and (value < 0 or (outcome["kind"] == "binary" and value not in (0.0, 1.0))):
                    expected = "0 or 1" if outcome["kind"] == "binary" else "seconds"
                    raise RequestError(f"{where}.{name}: expected {expected}, found {value:g}")
            key = (moment, hashlib.md5(item.encode()).hexdigest(), item)
            merged[key] = self._merge(merged[key], read, outcomes) if key in merged else read
        ordered = sorted(merged)
        events = [merged[key] for key in ordered]
        time = np.array([key[0] for key in ordered], dtype=np.int64)
        context = {n: [e.get(n) for e in events] for n in self.context_fields}
        codes = np.array([rows_of[key[2]] for key in ordered], dtype=np.int64)
        rows = self._rows(codes, time, np.array([e["offset"] for e in events]), context, texts)
        counted, duration = self.processor.counters.outcomes, self.processor.counters.duration
        values = np.array([[e[n] for n in counted] for e in events], dtype=float).reshape(len(events), len(counted))
        known = known_at(time, values[:, -1] if duration else None, self._declared(events), float(self.processor.spec["outcome_delay"]))
        return Timeline(**vars(rows), known=known, outcomes=values)

    def _declared(self, events: list[dict[str, Any]]) -> np.ndarray | None:
        column = self.schema["known_at"]
        if not column:
            return None
        return np.array([parse_time(e["known_at"], column["zone"], column["unit"], "history.known_at")[0]
                         if e.get("known_at") is not None else -1 for e in events], dtype=np.int64)

    def _merge(self, first: dict[str, Any], second: dict[str, Any], outcomes: dict[str, Any]) -> dict[str, Any]:
        """Two rows of one event: fields of the first, binary outcomes by max, duration by sum, unknown where both are."""
        both = dict(second) | {k: v for k, v in first.items() if v is not None}
        for name, outcome in outcomes.items():
            known = [v for v in (first[name], second[name]) if v == v]
            both[name] = (max(known) if outcome["kind"] == "binary" else sum(known)) if known else float("nan")
        return both
