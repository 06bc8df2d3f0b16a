"""Raw requests (dicts, as in DESIGN 7) to the rows that the processor builds from; every mistake is named with its remedy."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .attention_recllm import KeyValues
from .catalogue_recllm import ItemTable
from .errors_recllm import RequestError
from .fields_recllm import as_number, as_text, declared_vectors, verbalise
from .history_recllm import known_keys, listed, parse_time, read_history
from .processing_recllm import Example, RowProcessor, Rows, Timeline
from .relations_recllm import Paths
from .timeline_recllm import known_at, visible, window_start

KEYS = ("profile", "history", "history_before", "context", "candidates", "id")
SOCIAL_KEYS = ("relations", "self")  # where the schema declares relations


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
    values: dict[str, float]  # what a candidate is worth, where the request says so (`value`), by item id
    paths: Paths | None  # the user's relations, where the schema has some
    self_row: int  # row of the user as an item, -1 for none
    past: KeyValues | None = None  # the prefix, once the model has run over it


class RequestReader:
    """Reads requests for one processor. `tokenize(text, length)` gives token ids, `encode(texts)` item vectors (n, W)."""

    def __init__(self, processor: RowProcessor, tokenize: Callable[[str, int], list[int]], encode: Callable[[list[str]], np.ndarray]):
        self.processor, self.tokenize, self.encode = processor, tokenize, encode
        self.schema: dict[str, Any] = processor.spec["schema"]
        self.index = {item: row for row, item in enumerate(processor.items.ids)}
        self.context_fields = [*(s.name for s in processor.by_group["context"]), *processor.numbers, *processor.texts]
        groups = ("item_text", "item_category", "item_number", "item_info", "item_vector")
        self.item_fields = list(dict.fromkeys(name for group in groups for name in self.schema.get(group, {})))
        self.warned = False

    def read(self, request: dict[str, Any]) -> Prepared:
        """Check and encode one request. Without `candidates` every catalogue item is one. Raises RequestError."""
        known_keys(request, [*KEYS, *(SOCIAL_KEYS if self.processor.relations is not None else ())], "request")
        for name in ("history", "candidates", "relations"):
            if request.get(name) is not None and not isinstance(request[name], list | tuple):
                raise RequestError(f"{name}: expected a list, found {type(request[name]).__name__}")
        profile = listed(known_keys(request.get("profile"), self.processor.spec["profile"], "profile"), self.schema["profile"])
        items, rows_of = self._items(request)
        moment, offset, context = self._context(request.get("context"))
        texts, text_vectors = self._texts([context, *(e for e in request.get("history") or [] if isinstance(e, dict))])
        events = self._events(request.get("history") or [], rows_of, texts)
        count = int(visible(events.time, events.known, np.array([moment]))[0])
        start = self._start(count, request.get("history_before"))
        window = events.take(slice(start, count))
        ids = [self._id(c) for c in request["candidates"]] if request.get("candidates") is not None else self.processor.items.ids
        rows = np.array([rows_of[i] for i in ids] + [-1], dtype=np.int64)  # the last is the query
        repeated = {k: [v] * len(rows) for k, v in context.items()}
        asked = self._rows(rows, np.full(len(rows), moment), np.full(len(rows), offset), repeated, texts)
        text = verbalise({n: profile.get(n) for n in self.processor.spec["profile"]})
        tokens = self.tokenize(text, int(self.processor.spec["profile_tokens"]))
        paths = self._paths(request)
        example = self.processor.build(tokens, window, asked, np.full(len(rows), count - start), items, paths)
        seen = {items.ids[row] for row in events.item}
        return Prepared(example, items, list(ids), rows[:-1], seen, moment, text_vectors, self._values(request), paths,
                        self.index.get(as_text(request.get("self")) or "", -1))

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
        return moment, offset, listed(context, self.schema["context"])

    def _id(self, candidate: Any) -> str:
        value = candidate.get("item_id") if isinstance(candidate, dict) else candidate
        text = as_text(value) if isinstance(value, str | int | float | np.generic) else None
        if text is None:
            raise RequestError(f"candidates: expected an item id, or a dict with item_id and the item's fields, found {candidate!r}")
        return text

    def _items(self, request: dict[str, Any]) -> tuple[ItemTable, dict[str, int]]:
        """The catalogue, extended by the request's new items; and the row of each id."""
        new: dict[str, dict[str, Any]] = {}
        column = self.schema["published"]
        for candidate in request.get("candidates") or []:
            item = self._id(candidate)
            fields = {k: v for k, v in candidate.items() if k not in ("item_id", "value")} if isinstance(candidate, dict) else {}
            known_keys(fields, [*self.item_fields, *(["published"] if column else [])], f'candidate "{item}"')
            if item not in self.index and item not in new:
                if not fields:
                    raise RequestError(f'candidates: nothing is known of item "{item}": it is not in the catalogue; give it as a dict with '
                                       f"item_id and {', '.join(self.item_fields) or 'its fields'}")
                new[item] = listed(fields, {**self.schema["item_text"], **self.schema["item_category"]})
        for event in request.get("history") or []:
            old = as_text(event.get("item_id")) if isinstance(event, dict) else None
            if old is not None and old not in self.index:
                new.setdefault(old, {})  # an old event of an item that is gone: its context and outcome still count
        if not new:
            return self.processor.items, self.index
        published = [parse_time(f["published"], column["zone"], column["unit"], f'candidate "{i}": published')[0]
                     if f.get("published") is not None else -1 for i, f in new.items()]
        table = self.processor.item_table(list(new), list(new.values()), np.array(published), np.zeros(len(new), dtype=np.int64))
        texts = [verbalise({n: f.get(n) for n in self.processor.spec["item_text"]}) for f in new.values()]
        declared = declared_vectors(list(new.values()), self.processor.spec["item_vectors"])
        table.vector = np.concatenate([self.encode(texts), declared], axis=1)
        size = len(self.processor.items)
        return self.processor.items.extended(table), {**self.index, **{item: size + k for k, item in enumerate(new)}}

    def _events(self, history: Sequence[Any], rows_of: dict[str, int], texts: dict[str, int]) -> Timeline:
        """The history in the order of a prepared timeline."""
        events = read_history(history, self.schema, self.context_fields)
        time = np.array([e["time"] for e in events], dtype=np.int64)
        context = {n: [e.get(n) for e in events] for n in self.context_fields}
        codes = np.array([rows_of[e["item_id"]] for e in events], dtype=np.int64)
        rows = self._rows(codes, time, np.array([e["offset"] for e in events]), context, texts)
        counted, duration = self.processor.counters.outcomes, self.processor.counters.duration
        values = np.array([[e[n] for n in counted] for e in events], dtype=float).reshape(len(events), len(counted))
        declared = np.array([e["known_at"] for e in events], dtype=np.int64)
        known = known_at(time, values[:, -1] if duration else None, declared, float(self.processor.spec["outcome_delay"]))
        return Timeline(**vars(rows), known=known, outcomes=values)

    def _paths(self, request: dict[str, Any]) -> Paths | None:
        """The user's relations: a list of item ids, or of dicts with item_id and since (unknown: older than everything)."""
        if self.processor.relations is None:
            return None
        column, own, found = self.schema["relations"]["since"], as_text(request.get("self")), dict[int, int]()
        for place, given in enumerate(request.get("relations") or []):
            entry = given if isinstance(given, dict) else {"item_id": given}
            known_keys(entry, ["item_id", "since"], f"relations[{place}]")
            name = as_text(entry.get("item_id")) or ""
            row = self.index.get(name)
            if row is None or name == own:
                continue  # somebody who is not in this catalogue is nobody's friend in it, and nobody is their own
            where = f"relations[{place}].since"
            moment = parse_time(entry["since"], column["zone"], column["unit"], where)[0] if entry.get("since") is not None else 0
            found[row] = min(moment, found.get(row, moment))  # told twice, as a table of both directions would, it is one
        rows, since = (np.array(list(part), dtype=np.int64) for part in (found.keys(), found.values()))
        return self.processor.relations.paths(rows, since)

    def _values(self, request: dict[str, Any]) -> dict[str, float]:
        """What the request's candidates are worth, where it says so: a bid, a margin."""
        given = [(self._id(c), c["value"]) for c in request.get("candidates") or [] if isinstance(c, dict) and c.get("value") is not None]
        return {item: as_number(value, f'candidate "{item}": value') for item, value in given}
