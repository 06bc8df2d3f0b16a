"""Everything that is fitted, from the train split alone: vocabularies, priors, scales, bin edges. The result is plain JSON."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recllm.config import Config
from recllm.data.item_counts import measured_outcomes
from recllm.errors import DataError
from recllm.feed.log import Log
from recllm.feed.relations import item_relations
from recllm.model.catalogue_recllm import ItemCounts
from recllm.model.counters_recllm import CounterSpec
from recllm.model.fields_recllm import TIME_SLOTS, as_list, as_text
from recllm.model.processing_recllm import DURATION_SHADES, RowProcessor

VALUES_KEPT, CATEGORIES_COUNTED = 5_000, 64
TRAIN = 0


@dataclass(frozen=True)
class Kept:
    """What a run that goes on from a release keeps of it, so that the release's weights keep their meaning."""

    release: str  # sha256 of its weights
    trained_until: int  # UTC ms: end of the train split of the release and of all before it
    spec: dict[str, Any]  # everything fitted, as plain JSON
    id_items: list[str | None]  # item of each row of the id table from row 1 on; None for one that left the catalogue


def _vocabulary(values: list[Any], many: bool) -> list[str]:
    """Values by falling frequency, ties by text; the rarest beyond VALUES_KEPT are `unseen`."""
    found = (v for value in values for v in (as_list(value) if many else [as_text(value)]) if v is not None)
    return [v for v, _ in sorted(Counter(found).items(), key=lambda pair: (-pair[1], pair[0]))[:VALUES_KEPT]]


def counter_spec(config: Config, log: Log) -> CounterSpec:
    """Measured outcomes and their train priors, kept away from 0 and 1."""
    names, schema = measured_outcomes(config), config.columns
    train = log.frame[log.split == TRAIN]
    binary = [n for n in schema.binary if n in names]
    duration = schema.duration if schema.duration in names else None
    priors = {n: float(np.clip(train[n].mean() if train[n].notna().any() else 0.5, 1e-3, 1 - 1e-3)) for n in binary}
    given = {n: str(schema.outcomes[n].given) for n in binary if schema.outcomes[n].given}
    for name, condition in given.items():
        share = train[name].sum() / max(train[condition].sum(), 1)
        priors[f"{name}|{condition}"] = float(np.clip(share, 1e-3, 1 - 1e-3))
    if duration:
        priors[duration] = float(train[duration].mean()) if train[duration].notna().any() else 1.0
    return CounterSpec(binary, given, duration, priors)


def duration_bins(seconds: np.ndarray, clip: float, bins: int) -> tuple[list[float], list[float]]:
    """(edges (bins + 1,), values (bins,)) in seconds: bin 0 is exactly 0 s, then log-spaced bins, the last one `clip` or more.

    A value is the mean of the train durations in its bin, clipped at `clip`.
    """
    positive = seconds[seconds > 0]
    smallest = float(np.clip(np.quantile(positive, 0.01), 1e-3, clip / 2)) if len(positive) else clip / 100
    edges = np.concatenate([[-1e-9], [0.0], np.geomspace(smallest, np.nextafter(clip, 0), bins - 2), [clip]])
    clipped = np.minimum(seconds, clip)
    which = bin_of(clipped, edges)
    middle = (np.maximum(edges[:-1], 0) + edges[1:]) / 2
    return edges.tolist(), [float(clipped[which == k].mean()) if (which == k).any() else float(middle[k]) for k in range(bins)]


def bin_of(seconds: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each duration: bin k is (edges[k], edges[k + 1]]; at or above the last edge is the last bin."""
    return np.clip(np.searchsorted(edges, seconds, side="left") - 1, 0, len(edges) - 2)


def _slots(config: Config, log: Log, counters: CounterSpec) -> list[dict[str, Any]]:
    schema, train = config.columns, log.split == TRAIN
    slots = []
    for name, spec in schema.context.items():
        if spec.kind not in ("number", "text"):
            values = _vocabulary(log.frame.loc[train, name].tolist(), spec.list)
            slots.append({"name": name, "group": "context", "values": values, "many": spec.list})
    slots += [{"name": name, "group": "time", "values": values} for name, values in TIME_SLOTS.items()]
    for name in counters.outcomes:
        values = ["no", "yes"] if schema.outcomes[name].kind == "binary" else DURATION_SHADES
        slots.append({"name": name, "group": "outcome", "values": values})
    seen = [log.item_fields[i] for i in log.item[train]]
    for name, field in schema.item_category.items():
        slots.append({"name": name, "group": "item", "values": _vocabulary([f.get(name) for f in seen], field.list), "many": field.list})
    return slots


def _counted_categories(config: Config, log: Log) -> list[str]:
    """The most frequent item categories among train rows, as "field=value"."""
    found: Counter[str] = Counter()
    for item, n in zip(*np.unique(log.item[log.split == TRAIN], return_counts=True), strict=True):
        fields = log.item_fields[int(item)]
        for name in config.columns.item_category:
            found.update({f"{name}={value}": int(n) for value in as_list(fields.get(name))})
    return [key for key, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:CATEGORIES_COUNTED]]


def load_counts(config: Config, log: Log, spec: CounterSpec) -> ItemCounts:
    """`item_counts.parquet` of the prepared folder by item code."""
    table = pd.read_parquet(Path(config.prepared) / "item_counts.parquet")
    index = pd.Series(np.arange(len(log.items)), index=pd.Index(log.items))
    table["row"] = index.reindex(table["item"]).to_numpy(dtype=np.int64)
    table = table.sort_values(["row", "period_end"], ignore_index=True)
    columns = ["events", *(f"{n}_{part}" for n in spec.outcomes for part in ("n", "sum"))]
    return ItemCounts(period=config.data.period * 1000, row=table["row"].to_numpy(dtype=np.int64),
                      end=table["period_end"].to_numpy(dtype=np.int64), sums=table[columns].to_numpy(dtype=np.float64),
                      last=int(log.time().max()))


def fit(config: Config, log: Log, kept: Kept | None = None) -> RowProcessor:
    """A processor whose every fitted quantity comes from the train split, or is that of a release (`kept`). Scales of the token's
    numbers are set by `fit_scales`. The catalogue and the item counts are the log's own."""
    counters = counter_spec(config, log) if kept is None else CounterSpec(**kept.spec["counters"])
    spec = _fitted(config, log, counters) if kept is None else {**kept.spec, "train_end": log.report.cuts[0]}
    id_row = id_rows(log, kept.id_items if kept else []) if config.model.item_id else np.zeros(len(log.items), dtype=np.int64)
    bare = RowProcessor(spec, None, load_counts(config, log, counters))  # type: ignore[arg-type]
    items = bare.item_table(log.items, log.item_fields, log.published, id_row)
    if config.columns.item_number and kept is None:
        rows = items.num[log.item[log.split == TRAIN]]
        spec |= {"item_mean": rows.mean(0).tolist(), "item_std": np.maximum(rows.std(0), 1e-6).tolist()}
        half = len(config.columns.item_number)  # flags of unknown values stay 0 and 1
        spec["item_mean"][half:], spec["item_std"][half:] = [0.0] * half, [1.0] * half
    return RowProcessor(spec, items, bare.counts, item_relations(log) if config.columns.relations else None)


def _fitted(config: Config, log: Log, counters: CounterSpec) -> dict[str, Any]:
    """Vocabularies, counted categories, duration bins and shades, and the settings that a release must know."""
    schema = config.columns
    spec: dict[str, Any] = {
        "slots": _slots(config, log, counters), "counters": counters.plain(), "categories": _counted_categories(config, log),
        "numbers": [n for n, s in schema.context.items() if s.kind == "number"],
        "texts": [n for n, s in schema.context.items() if s.kind == "text"], "item_numbers": list(schema.item_number),
        "item_vectors": vector_sizes(log),
        "item_text": list(schema.item_text), "profile": list(schema.profile), "use_counters": config.model.counters,
        "recent_days": config.model.recent_days,
        "profile_tokens": config.model.profile_tokens, "text_tokens": config.model.text_tokens,
        "stride": config.model.stride, "overlap": config.model.overlap, "train_end": log.report.cuts[0],
        "outcome_delay": schema.outcome_delay, "schema": schema.model_dump(mode="json"),
        "mean": [0.0], "std": [1.0], "item_mean": [0.0], "item_std": [1.0],
    }  # fmt: skip
    if counters.duration:
        seconds = train_seconds(config, log)
        cuts = np.quantile(seconds[seconds > 0], [0.2, 0.4, 0.6, 0.8]).tolist() if (seconds > 0).any() else [1, 2, 3, 4]
        spec["duration_shades"] = [0.0, *cuts]
    if schema.duration:
        edges, values = duration_bins(train_seconds(config, log), schema.outcomes[schema.duration].clip, config.model.duration_bins)
        spec |= {"duration_edges": edges, "duration_values": values}
    return spec


def id_rows(log: Log, kept: list[str | None]) -> np.ndarray:
    """Row of the id table of each item (I,) int64: the kept ones as they were, then items new to train; 0 where train never saw it."""
    place = {item: row for row, item in enumerate(kept, start=1) if item is not None}
    rows = np.array([place.get(item, 0) for item in log.items], dtype=np.int64)
    known = np.unique(log.item[log.split == TRAIN])
    new = known[rows[known] == 0]
    rows[new] = 1 + len(kept) + np.arange(len(new))
    return rows


def vector_sizes(log: Log) -> dict[str, int]:
    """Length of each precomputed vector field. Raises DataError where the catalogue's differ, or all are missing."""
    sizes = {}
    for name, column in log.item_vectors.items():
        found = {len(v) for v in column if v is not None}
        if len(found) != 1:
            raise DataError(f"schema.item_vector.{name}: expected vectors of one length, found lengths {sorted(found) or 'none at all'}")
        sizes[name] = found.pop()
    return sizes


def train_seconds(config: Config, log: Log) -> np.ndarray:
    """Known train durations in seconds."""
    values = log.frame.loc[log.split == TRAIN, str(config.columns.duration)].to_numpy(dtype=np.float64)
    return values[~np.isnan(values)]
