"""From rows to numbers: the only code between a log (prepared columns or raw requests) and the model's tensors.

A `Timeline` holds one user's events as columns, `Rows` the candidates to be scored; `build` turns the two into an `Example`,
`collate` turns examples into one batch of tensors. Features are computed in float64 and cast to float32 once, here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .catalogue_recllm import ItemCounts, ItemTable
from .counters_recllm import CounterSpec
from .fields_recllm import Slot, as_list, as_number, as_text, place, with_missing
from .relations_recllm import NAMES, Paths, Relations
from .rows_recllm import CANDIDATE, EVENT, QUERY, ROW_PARTS, TOKEN_PARTS, Example, Rows, Timeline
from .timeline_recllm import DAY, gap_code, local_parts, log_odds, running_sums, visible

__all__ = ["CANDIDATE", "EVENT", "QUERY", "ROW_PARTS", "TOKEN_PARTS", "Example", "RowProcessor", "Rows", "Timeline"]
DURATION_SHADES = ["none", "very short", "short", "medium", "long", "very long"]  # outcome embeddings of an event's duration


class RowProcessor:
    """Everything fitted on train that turns rows into numbers. `spec` is plain JSON; `items`, `counts`, `relations` are its tables."""

    def __init__(self, spec: dict[str, Any], items: ItemTable, counts: ItemCounts, relations: Relations | None = None) -> None:
        self.spec, self.items, self.counts, self.relations = spec, items, counts, relations
        self.slots = [Slot(**slot) for slot in spec["slots"]]
        self.table_size = place(self.slots)
        self.by_group = {group: [s for s in self.slots if s.group == group] for group in ("context", "time", "outcome", "item")}
        self.counters = CounterSpec(**spec["counters"])
        self.numbers: list[str] = spec["numbers"]  # context numbers
        self.texts: list[str] = spec["texts"]  # free-text context fields
        self.text_vectors = np.zeros((1, 0), dtype=np.float32)  # (t, W) of whoever has the tower; row 0 is no text
        self.recent = {f"item_{days:g}d": int(days * DAY) for days in spec.get("recent_days", [])}  # spans of lately, ms
        self.categories: list[str] = spec["categories"]  # "genres=Horror": the item categories that user counters are kept for
        self.mean, self.std = (np.asarray(spec[name], dtype=np.float64) for name in ("mean", "std"))
        self.item_mean, self.item_std = (np.asarray(spec[name], dtype=np.float64) for name in ("item_mean", "item_std"))
        self.frozen_after: int | None = None  # ms: item counts read no period closed later (`counters: frozen`)

    # ---- columns

    def number_names(self) -> list[str]:
        """Names of the token's numbers, in order."""
        context = [*self.numbers, *(f"{n}_missing" for n in self.numbers)]
        counted = [f"{who}_{name}" for who in ("user", "item", *self.recent) for name in self.counters.names]
        related = NAMES if self.spec["schema"].get("relations") else []
        return [*context, "age_days_log", "age_missing", *counted, *(f"user_category_{n}" for n in self._category_names()), *related]

    def _category_names(self) -> list[str]:
        return ["log_events", *(f"{name}_log_odds" for name in self.counters.binary)]

    def rows(self, item: np.ndarray, time: np.ndarray, utc_offset: np.ndarray, context: Mapping[str, Sequence[Any]],
             text_rows: Mapping[str, int] | None = None) -> Rows:
        """Encode the context columns of n rows. A declared field that is absent from `context` is missing everywhere.

        `text_rows` gives each free text its row in the table of text vectors.
        """
        nothing: list[Any] = [None] * len(item)
        parts = [slot.encode(context.get(slot.name, nothing)) for slot in self.by_group["context"]]
        moments = dict(zip(("hour", "weekday", "weekend"), local_parts(time, utc_offset), strict=True))
        for slot in self.by_group["time"]:
            codes = moments.get(slot.name, np.zeros(len(item), dtype=np.int64)) + slot.offset + 2
            parts.append((codes[:, None].astype(np.int32), np.ones((len(item), 1), dtype=np.float32)))
        numbers = np.full((len(item), len(self.numbers)), np.nan)
        for column, name in enumerate(self.numbers):
            numbers[:, column] = [as_number(v, name) for v in context.get(name, nothing)]
        text = np.zeros((len(item), len(self.texts)), dtype=np.int64)
        for column, name in enumerate(self.texts):
            text[:, column] = [(text_rows or {}).get(as_text(v) or "", 0) for v in context.get(name, nothing)]
        codes, weights = (np.concatenate([part[k] for part in parts], 1) for k in (0, 1))
        return Rows(item, time, codes, weights, with_missing(numbers), text)

    def item_table(self, ids: list[str], fields: list[dict[str, Any]], published: np.ndarray, id_row: np.ndarray) -> ItemTable:
        """Encode items from their fields; vectors are added by whoever has the tower."""
        slots = self.by_group["item"]
        parts = [slot.encode([f.get(slot.name) for f in fields]) for slot in slots]
        empty = np.zeros((len(ids), 0))
        numbers = np.array([[as_number(f.get(n), n) for n in self.spec["item_numbers"]] for f in fields], dtype=float)
        share = np.zeros((len(ids), len(self.categories)), dtype=np.float32)
        index = {name: i for i, name in enumerate(self.categories)}
        for row, values in enumerate(fields):
            found = [index[k] for s in slots for k in (f"{s.name}={v}" for v in as_list(values.get(s.name))) if k in index]
            share[row, found] = 1 / max(len(found), 1)
        return ItemTable(ids, fields, np.concatenate([c for c, _ in parts], 1) if parts else empty.astype(np.int32),
                         np.concatenate([w for _, w in parts], 1) if parts else empty.astype(np.float32),
                         with_missing(numbers.reshape(len(ids), -1)), share, published.astype(np.int64), id_row)

    # ---- examples

    def build(self, profile: list[int], events: Timeline, candidates: Rows, n: np.ndarray, items: ItemTable | None = None,
              paths: Paths | None = None) -> Example:
        """Features of a window's events and of candidates that see the first n (c,) of them; `paths` are the user's relations.

        What an event sees is recomputed inside the window, so every feature is a function of what a request carries.
        """
        items = self.items if items is None else items
        seen = visible(events.time, events.known, events.time)
        rows = Rows(*(np.concatenate([getattr(events, k), getattr(candidates, k)]) for k in ROW_PARTS))
        count = np.concatenate([seen, np.asarray(n, dtype=np.int64)])
        kind = np.repeat(np.array([EVENT, CANDIDATE], dtype=np.int8), [len(events.item), len(candidates.item)])
        kind[rows.item < 0] = QUERY
        cat, weight = self._with_outcomes(rows, events, count)
        related = [paths.features(rows.item, rows.time)] if paths is not None else []
        num = np.concatenate([rows.num, self._ages(rows, items), self._counted(rows, events, count, items), *related], axis=1)
        num = (num - self.mean) / self.std
        num[kind == QUERY, rows.num.shape[1]:] = 0.0  # a query carries the request's context and no item's numbers
        return Example(profile, len(events.item), rows.item, kind, count, cat, weight, num.astype(np.float32), rows.text)

    def _with_outcomes(self, rows: Rows, events: Timeline, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes and weights with the gap filled in and the outcome slots added: unknown for everything that is no event."""
        total, e = len(rows.item), len(events.item)
        cat = rows.cat.copy()
        gap = next(s for s in self.by_group["time"] if s.name == "gap")
        cat[:, -1] = gap_code(rows.time, events.time, count) + gap.offset + 2
        codes = np.zeros((total, len(self.by_group["outcome"])), dtype=np.int32)
        for column, slot in enumerate(self.by_group["outcome"]):
            codes[:, column] = slot.offset  # unknown
            values = events.outcomes[:, column]
            shade = np.nan_to_num(values, nan=0.0)
            if slot.name == self.counters.duration:
                shade = np.searchsorted(np.asarray(self.spec["duration_shades"]), shade, side="left")
            codes[:e, column] = np.where(np.isnan(values), slot.offset, slot.offset + 2 + shade.astype(np.int32))
        return np.concatenate([cat, codes], 1), np.concatenate([rows.weight, np.ones(codes.shape, dtype=np.float32)], 1)

    def _ages(self, rows: Rows, items: ItemTable) -> np.ndarray:
        """(n, 2): log days since the item was published, and whether that is unknown."""
        published = items.published[np.maximum(rows.item, 0)] if len(items) else np.full(len(rows.item), -1)
        age = np.where(published >= 0, np.log1p(np.maximum(rows.time - published, 0) / DAY), np.nan)
        return with_missing(age[:, None])

    def _counted(self, rows: Rows, events: Timeline, count: np.ndarray, items: ItemTable) -> np.ndarray:
        """User, item and category counters as they stand before each row, from the window's start on."""
        booked = self.counters.booked({name: events.outcomes[:, i] for i, name in enumerate(self.counters.outcomes)}) \
            if len(events.item) else np.zeros((0, 1 + 2 * len(self.counters.outcomes)))
        time = rows.time if self.frozen_after is None else np.minimum(rows.time, self.frozen_after)
        inside = np.where(rows.item < len(self.items), rows.item, -1)  # items that came with the request have no counts
        now = self.counts.read(inside, time)
        # a user's counters have one state after each event, however many candidates share it
        parts = [self.counters.features(running_sums(booked))[count], self.counters.features(now)]
        parts += [self.counters.features(self.counts.recent(inside, time, span, now)) for span in self.recent.values()]
        counted = np.concatenate([*parts, self._category_counters(rows, events, count, items, booked)], axis=1)
        return counted if self.spec["use_counters"] else np.zeros_like(counted)

    def _category_counters(self, rows: Rows, events: Timeline, count: np.ndarray, items: ItemTable, booked: np.ndarray) -> np.ndarray:
        """Counters of the user within the row's item categories, averaged over those: log events, log-odds of each binary outcome."""
        share = items.share[np.maximum(rows.item, 0)] if len(items) else np.zeros((len(rows.item), len(self.categories)))
        has = (items.share[events.item] > 0).astype(float) if len(events.item) else np.zeros((0, len(self.categories)))
        # the candidates of a request, at the end, all see the same events: their row of sums is read where it lies
        apart = len(count) - int(np.argmin(np.append(count[::-1] == count[-1:], False)))

        def mean_of(column: int) -> np.ndarray:
            sums = running_sums(has * booked[:, column : column + 1])
            return np.concatenate([np.einsum("nc,nc->n", sums[count[:apart]], share[:apart]),
                                   np.einsum("c,nc->n", sums[count[-1]] if len(count) else sums[0], share[apart:])])

        columns = [np.log1p(mean_of(0))]
        for i, name in enumerate(self.counters.binary):
            columns.append(log_odds(mean_of(2 + 2 * i), mean_of(1 + 2 * i), self.counters.priors[name]))
        return np.stack(columns, axis=1)

    # ---- batches

    def collate(self, examples: list[Example], items: ItemTable | None = None, also: np.ndarray | None = None,
                text_vectors: np.ndarray | None = None) -> dict[str, torch.Tensor]:
        """One batch without padding: all examples' events (E,) one behind the other, then all their candidates (C,).

        Candidates of one example without events that share their moment have one row of `cat` and `weight` between them.
        `item` points into the `item_*` tensors, whose row 0 is no item at all; `also` adds item rows to them. `n` (E + C,) says how many
        events each token sees; `profile` (P,) are token ids; `position` (P + E + C,) counts from a timeline's start; `sizes` (B, 3) are
        the tokens of each example's profile, events, candidates, and stays on the CPU.
        """
        items, first = self.items if items is None else items, examples[0]
        parts = [slice(0, x.events) for x in examples], [slice(x.events, None) for x in examples]
        batch = {name: np.concatenate([getattr(x, name)[part] for kind in parts for x, part in zip(examples, kind, strict=True)])
                 for name in TOKEN_PARTS}
        sizes = np.array([x.sizes for x in examples], dtype=np.int64)
        profile = np.concatenate([np.asarray(x.profile, dtype=np.int64) for x in examples])
        if self.texts:
            vectors = self.text_vectors if text_vectors is None else text_vectors
            found, place_of = np.unique(batch["text"], return_inverse=True)
            batch |= {"text": place_of.reshape(batch["text"].shape), "text_vector": vectors[found]}
        if len(examples) == 1 and not first.events and (batch["cat"] == batch["cat"][:1]).all() and \
                (batch["weight"] == batch["weight"][:1]).all():
            batch |= {name: batch[name][:1] for name in ("cat", "weight")}
        batch |= {"profile": profile, "position": self._positions(sizes, batch["n"]), "sizes": sizes} | self._distinct(batch, items, also)
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}

    def _positions(self, sizes: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Profiles from 0, events behind the profile's budget, candidates where the next event would stand."""
        events = int(sizes[:, 1].sum())
        places = [np.arange(sizes[:, k].sum()) - np.repeat(np.cumsum(sizes[:, k]) - sizes[:, k], sizes[:, k]) for k in (0, 1)]
        return np.concatenate([places[0], np.concatenate([places[1], n[events:]]) + int(self.spec["profile_tokens"])])

    def _distinct(self, batch: dict[str, np.ndarray], items: ItemTable, also: np.ndarray | None) -> dict[str, np.ndarray]:
        """The batch's distinct items as tensors; replaces `item` by its place among them. Row 0 stands for no item."""
        own = batch["item"].ravel()
        more = np.append(also if also is not None else np.empty(0, dtype=np.int64), -1)
        found, place_of = np.unique(np.concatenate([own, more]), return_inverse=True)
        batch["item"] = place_of[: len(own)].reshape(batch["item"].shape)
        rows = found[1:]
        num = ((items.num[rows] - self.item_mean) / self.item_std).astype(np.float32)
        parts = {"vector": items.vector[rows], "cat": items.cat[rows].astype(np.int64), "weight": items.weight[rows], "num": num,
                 "id": items.id_row[rows]}
        padded = {f"item_{k}": np.concatenate([np.zeros((1, *v.shape[1:]), dtype=v.dtype), v]) for k, v in parts.items()}
        return padded | {"item_row": found}
