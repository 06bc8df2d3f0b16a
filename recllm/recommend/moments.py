"""Past requests of a log to try lists on: which ones, as raw dicts, and what every item of the catalogue was worth at each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recllm.config import Config
from recllm.data.simulate import World, load_world
from recllm.errors import DataError
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests
from recllm.model.fields_recllm import as_number
from recllm.model.timeline_recllm import DAY


@dataclass(frozen=True)
class Moments:
    """R requests of one split and I items of the catalogue."""

    row: np.ndarray  # (R,) log row whose user, time and context the request has
    user: np.ndarray  # (R,) user code
    gain: np.ndarray  # (R, I) click probability where it is known, else 1 for the items clicked from then on
    value: np.ndarray  # (R, I) expected or realised value of showing the item

    def take(self, keep: np.ndarray) -> "Moments":
        return Moments(self.row[keep], self.user[keep], self.gain[keep], self.value[keep])


def first_of_day(log: Log, rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The first of the log rows (n,) of each user and day (UTC); of more than `most` a seeded choice. Ascending."""
    rows = np.sort(rows)  # the log is in order of user and time
    _, first = np.unique(np.stack([log.user[rows], log.time()[rows] // DAY]), axis=1, return_index=True)
    found = np.sort(rows[first])
    if len(found) > most:
        found = np.sort(np.random.default_rng(seed).choice(found, most, replace=False))
    return found


def scored_rows(log: Log, split: int) -> np.ndarray:
    return np.flatnonzero((log.split == split) & log.frame["scored"].to_numpy(dtype=bool))


def moments(config: Config, log: Log, split: int, most: int, seed: int = 0) -> Moments:
    """The first request of each user and day of a split, at most `most`. Raises DataError for a split without a scored row."""
    row = first_of_day(log, scored_rows(log, split), most, seed)
    if len(row) == 0:
        raise DataError(f"{config.prepared}: expected scored rows in split {split}, found none: see data.split")
    world = load_world(Path(config.data.interactions[0]).parent / "world.json") if config.data.format == "simulate" else None
    shop = world if isinstance(world, World) else None  # a shop knows the probabilities of every item at every moment
    gain, value = _true_worth(config, log, row, shop) if shop else _realised_worth(config, log, row, split)
    return Moments(row, log.user[row], gain, value)


def raw_request(raw: RawRequests, row: int) -> dict[str, Any]:
    """The request that a row belongs to, with everything that was visible to it and no candidates: the whole catalogue is asked for."""
    request = raw.request([row], start=0, end=int(raw.log.frame["n_before"].iloc[row]))
    del request["candidates"]
    return request


def _true_worth(config: Config, log: Log, row: np.ndarray, world: World) -> tuple[np.ndarray, np.ndarray]:
    """Of a simulated shop: (P(click), price x P(click) x P(purchase)) of every item at each request."""
    kinds = [kind for kind in world.kinds if kind != "daypart"]  # that one is the hour's
    shown = pd.read_csv(config.data.interactions[0], usecols=["request_id", *kinds], dtype=str).drop_duplicates("request_id")
    context = shown.set_index("request_id").loc[log.frame["request"].iloc[row]]
    users, items = np.array(log.users, dtype=object)[log.user[row]][:, None], np.array(log.items, dtype=object)[None]
    moment = {kind: context[kind].to_numpy(dtype=object)[:, None] for kind in kinds}
    gain = world.probability(users, items, time_ms=log.time()[row][:, None], **moment)
    price = pd.Series({item["item_id"]: item["price"] for item in world.items}).reindex(log.items).to_numpy()
    return gain, price * gain * world.purchase(users, items)


def _realised_worth(config: Config, log: Log, row: np.ndarray, split: int) -> tuple[np.ndarray, np.ndarray]:
    """What the user did in the rest of the split, the request itself included: (1 for each item clicked, value of each item bought).

    Clicked is the first binary outcome, bought the first that is given it (else the last binary outcome).
    """
    binary, time = config.columns.binary, log.time()
    bought = next((n for n in binary if config.columns.outcomes[n].given), binary[-1])
    labels, worth = log.labels([binary[0], bought]), item_values(log, config.recommend.value)
    scored = scored_rows(log, split)
    gain, value = np.zeros((len(row), len(log.items))), np.zeros((len(row), len(log.items)))
    for k, r in enumerate(row):
        later = scored[(log.user[scored] == log.user[r]) & (time[scored] >= time[r])]
        gain[k, log.item[later[labels[later, 0] == 1]]] = 1
        value[k, log.item[later[labels[later, 1] == 1]]] = 1
    return gain, value * worth


def item_values(log: Log, field: str | None) -> np.ndarray:
    """(I,) an item's value field, the mean of the known ones where it is unknown; 1 without a field."""
    found = np.array([as_number(f.get(field), field) for f in log.item_fields]) if field else np.ones(len(log.items))
    known = found[np.isfinite(found)]
    return np.where(np.isfinite(found), found, known.mean() if len(known) else 1.0)
