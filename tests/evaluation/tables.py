"""A synthetic log as a FeatureTable: clicks depend on item, user, profile and context, so every baseline has something to learn."""

from dataclasses import replace

import numpy as np
import pandas as pd

from recllm.evaluation.features import FeatureTable, Sequences
from recllm.schema import Outcome

OUTCOMES = {
    "click": Outcome(kind="binary"),
    "purchase": Outcome(kind="binary", given="click"),
    "duration": Outcome(kind="duration", clip=60),
}
GROUPS = {
    "item_counters": ["item_events", *(f"item_{o}_{k}" for o in OUTCOMES for k in ("n", "sum"))],
    "item_recent": ["item_recent_events", *(f"item_recent_{o}_{k}" for o in OUTCOMES for k in ("n", "sum"))],
    "user_counters": ["user_events", *(f"user_{o}_{k}" for o in OUTCOMES for k in ("n", "sum"))],
    "profile": ["age", "segment"],
    "context": ["device", "temperature"],
    "item": ["category: [1]"],
}


def table(seed, rows=1500):
    """Rows of one split: 40 items, 100 users, whose counters stand at 60 and 30 events, 20 of an item's of late; about a
    tenth of each label is unknown. Each row sees the first few of 20 earlier events of its user; item 39 was never seen in train."""
    world, log = np.random.default_rng(7), np.random.default_rng(seed)
    item, user = log.integers(0, 40, rows), log.integers(0, 100, rows)
    segment, device = np.arange(100) % 3, log.integers(0, 2, rows)
    item_level, user_level = world.normal(size=40), segment - 1 + world.normal(size=100) * 0.3

    def rate(level):
        return 1 / (1 + np.exp(-level))

    p = rate(item_level[item] + user_level[user] + 1.5 * device - 1)
    click = (log.random(rows) < p).astype(float)
    labels = {"click": click, "purchase": click * (log.random(rows) < p), "duration": np.minimum(p * 80 + log.random(rows) * 10, 90)}
    frame = pd.DataFrame(index=range(rows))
    for name, level, events in (("item", item_level[item], 60), ("item_recent", item_level[item], 20), ("user", user_level[user], 30)):
        frame[f"{name}_events"] = float(events)
        for outcome, value in (("click", rate(level)), ("purchase", rate(level) ** 2), ("duration", rate(level) * 60)):
            frame[f"{name}_{outcome}_n"], frame[f"{name}_{outcome}_sum"] = float(events), np.round(value * events)
    frame["age"] = np.where(user % 7 == 0, np.nan, 20.0 + user % 50)
    frame["segment"] = pd.Categorical.from_codes(np.where(user % 11 == 0, -1, segment[user]), ["low", "middle", "high"])
    frame["device"] = pd.Categorical.from_codes(device, ["mobile", "tv"])
    frame["temperature"] = log.normal(size=rows) * 10
    frame["category: [1]"] = (item % 2).astype(float)  # a name with JSON's characters
    known = {name: np.where(log.random(rows) < 0.1, np.nan, values) for name, values in labels.items()}
    return FeatureTable(frame, known, GROUPS, sequences(item, user, item_level, user_level, log))


def sequences(item, user, item_level, user_level, log, events=20):
    """20 events of every user at times 0 to 19, in which the log's rates hold; a text vector says the item's level, and noise."""
    past = np.random.default_rng(8)
    event_item, p = past.integers(0, 39, 100 * events), np.repeat(user_level, events)
    p = 1 / (1 + np.exp(-(p + item_level[event_item])))
    click = (past.random(len(p)) < p).astype(float)
    outcomes = {"click": click, "purchase": click * (past.random(len(p)) < p), "duration": p * 80}
    vectors = np.stack([item_level, *past.normal(size=(7, 40))], axis=1)
    return Sequences(
        item=item, time=np.full(len(item), events), start=user * events, stop=user * events + log.integers(0, events + 1, len(item)),
        event_item=event_item, event_time=np.tile(np.arange(events), 100),
        event_outcomes={name: np.where(past.random(len(p)) < 0.1, np.nan, y) for name, y in outcomes.items()},
        vectors=(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), in_train=np.arange(40) < 39)


def with_labels(features, **labels):
    """The same table with other labels for some outcomes."""
    return replace(features, labels=features.labels | labels)
