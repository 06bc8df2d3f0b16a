"""Feature tables for the baselines, out of the same examples and counters that the model reads; exported by `--export-features`."""

from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from recllm.evaluation.features import FeatureTable
from recllm.evaluation.sequences import sequences
from recllm.feed.examples import Examples
from recllm.model.fields_recllm import as_list, as_text
from recllm.model.relations_recllm import NAMES
from recllm.model.timeline_recllm import DAY, GAP_NAMES, gap_code, local_parts, running_sums

MOST_COLUMNS = 64  # values of a list field that get a column of their own
RECENT = 7 * DAY  # ms: "lately" in the group `item_recent`


def _counters(examples: Examples) -> tuple[pd.DataFrame, np.ndarray]:
    """Raw running sums of every candidate as it stood at its request, and its gap code: user, user in the item's categories, item,
    item within the last 7 days and within the last day. Frozen item counts stand still with both ends of those spans: the last days
    that were booked."""
    processor = examples.processor
    names = ["events", *(f"{o}_{part}" for o in processor.counters.outcomes for part in ("n", "sum"))]
    parts, gaps = [], []
    for group in tqdm(examples.groups, desc="counters", delay=2, leave=False):
        n = examples.visible(group)
        events = examples.timeline.take(slice(group.start, group.start + int(n.max())))
        booked = processor.counters.booked({o: events.outcomes[:, i] for i, o in enumerate(processor.counters.outcomes)})
        has = (processor.items.share[events.item] > 0).astype(float)
        share = processor.items.share[group.item]
        within = [np.einsum("nc,nc->n", running_sums(has * booked[:, k : k + 1])[n], share) for k in range(booked.shape[1])]
        time = examples.timeline.time[group.row]
        frozen = time if processor.frozen_after is None else np.minimum(time, processor.frozen_after)
        whole = processor.counts.read(group.item, frozen)
        lately = [processor.counts.recent(group.item, frozen, span) for span in (RECENT, DAY)]
        parts.append(np.concatenate([running_sums(booked)[n], np.stack(within, 1), whole, *lately], axis=1))
        gaps.append(gap_code(time, events.time, n))
    columns = [f"{who}_{name}" for who in ("user", "user_category", "item", "item_recent", "item_today") for name in names]
    return pd.DataFrame(np.concatenate(parts), columns=columns), np.concatenate(gaps)


def _columns(name: str, values: list[Any], many: bool, train: list[Any], number: bool = False) -> dict[str, Any]:
    """One field as columns: a number, a category with train's values, or a 0/1 column for each of train's frequent list values."""
    if number:
        return {name: np.array([np.nan if v is None else v for v in values], dtype=float)}
    if not many:
        known = {text: code for code, text in enumerate(sorted({t for t in map(as_text, train) if t is not None}))}
        codes = [known.get(text or "", -1) for text in map(as_text, values)]  # unseen values are missing
        return {name: pd.Categorical.from_codes(codes, categories=list(known))}
    counts = pd.Series([v for value in train for v in as_list(value)], dtype=object).value_counts()
    sets = [set(as_list(value)) for value in values]
    return {f"{name}={v}": np.array([v in s for s in sets], dtype=float) for v in sorted(counts.index[:MOST_COLUMNS])}


def _related(examples: Examples) -> dict[str, np.ndarray]:
    """What the user's relations say of each candidate as they stood at the request, in the order of the examples."""
    assert examples.relations is not None
    parts = [examples.relations.paths(g.user).features(g.item, examples.timeline.time[g.row]) for g in examples.groups]
    return {f"relations_{name}": column for name, column in zip(NAMES, np.concatenate(parts).T, strict=True)}


def feature_table(examples: Examples) -> FeatureTable:
    """Every counter and every field of each candidate, in the order of the examples. Vocabularies come from train alone."""
    log, schema = examples.log, examples.processor.spec["schema"]
    row = np.concatenate([g.row for g in examples.groups])
    item = np.concatenate([g.item for g in examples.groups])
    labels = np.concatenate([examples.targets(i)[0] for i in range(len(examples))])
    train = np.flatnonzero(log.split == 0)
    frame, gap = _counters(examples)
    size = len(frame.columns) // 5  # user, user in the item's categories, item, item in the last week, in the last day
    groups = {name: list(frame)[a * size : b * size] for name, a, b in
              (("user_counters", 0, 2), ("item_counters", 2, 3), ("item_recent", 3, 4), ("item_today", 4, 5))}
    made: dict[str, dict[str, Any]] = {"profile": {}, "context": {}, "item": {}}
    for name, spec in schema["profile"].items():
        per_user = [p.get(name) for p in log.profiles]
        made["profile"] |= _columns(f"profile_{name}", [per_user[u] for u in log.user[row]], spec["list"],
                                    [per_user[u] for u in np.unique(log.user[train])], spec["kind"] == "number")
    for name, spec in schema["context"].items():
        values = log.frame[name].tolist()
        made["context"] |= _columns(f"context_{name}", [values[r] for r in row], spec["list"], [values[r] for r in train],
                                    spec["kind"] == "number")
    time, offset = log.time()[row], log.frame["utc_offset"].to_numpy(dtype=np.int64)[row]
    for name, code, size in zip(("hour", "weekday", "weekend", "gap"), (*local_parts(time, offset), gap), (24, 7, 2, len(GAP_NAMES)),
                                strict=True):
        made["context"][f"context_{name}"] = pd.Categorical.from_codes(code.astype(int), categories=list(range(size)))
    for name, spec in schema["item_category"].items():
        per_item = [f.get(name) for f in log.item_fields]
        made["item"] |= _columns(f"item_{name}", [per_item[i] for i in item], spec["list"], [per_item[i] for i in log.item[train]])
    for name in schema["item_number"]:
        made["item"] |= _columns(f"item_{name}", [log.item_fields[i].get(name) for i in item], False, [], number=True)
    if schema["published"]:
        published = log.published[item]
        made["item"]["item_age_days"] = np.where(published >= 0, np.maximum(time - published, 0) / DAY, np.nan)
    if examples.relations is not None:
        made["relations"] = _related(examples)
    groups |= {group: list(columns) for group, columns in made.items()}
    fields = pd.DataFrame({k: v for columns in made.values() for k, v in columns.items()})
    return FeatureTable(pd.concat([frame, fields], axis=1), {n: labels[:, i] for i, n in enumerate(examples.names)}, groups,
                        sequences(examples))
