"""Slices of rows by field, by moment and by user, as the text columns `slice_<name>` that the evaluator cuts by."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from recllm.config import Config
from recllm.data.segments import DAYPARTS
from recllm.feed.log import Log
from recllm.model.fields_recllm import WEEKDAYS, as_text
from recllm.model.timeline_recllm import local_parts

HISTORY = ((1, "0"), (5, "1-4"), (20, "5-19"), (100, "20-99"))  # visible events: below this many, name; then "100+"


def slice_columns(config: Config, log: Log, row: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
    """`slice_<name>` -> (n,) text, None for unknown, of each slice of the config, for log rows (n,) and item codes (n,)."""
    return {f"slice_{name}": _slice(config, log, name, row, item) for name in config.slices}


def _slice(config: Config, log: Log, name: str, row: np.ndarray, item: np.ndarray) -> np.ndarray:
    made: dict[str, Callable[[], np.ndarray]] = {
        "items": lambda: np.where(np.isin(item, log.item[log.split == 0]), "known", "new"),  # new: no row in train
        "users": lambda: np.where(np.isin(log.user[row], log.user[log.split == 0]), "known", "new"),
        "hour": lambda: np.array([f"{hour:02}" for hour in range(24)])[_local(log, row)[0]],
        "weekday": lambda: np.array(WEEKDAYS)[_local(log, row)[1]],
        "daypart": lambda: _named(_local(log, row)[0], DAYPARTS[:-1], DAYPARTS[-1][1]),
        "segment": lambda: _behaviour(config, log)[log.user[row]],
        "history": lambda: _named(log.frame["n_before"].to_numpy(dtype=np.int64)[row], HISTORY, "100+"),
    }
    if name in made:
        return made[name]()
    if name in config.columns.context:
        values = log.frame[name].tolist()
        return np.array([as_text(values[r]) for r in row], dtype=object)
    return np.array([as_text(log.profiles[u].get(name)) for u in log.user[row]], dtype=object)  # the config knows no other name


def _local(log: Log, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hour, weekday) of each row's own local time."""
    hour, weekday, _ = local_parts(log.time()[row], log.frame["utc_offset"].to_numpy(dtype=np.int64)[row])
    return hour, weekday


def _named(values: np.ndarray, below: tuple[tuple[int, str], ...], rest: str) -> np.ndarray:
    """The name of the first bound that each value is below, else `rest`."""
    return np.array([*(name for _, name in below), rest])[np.searchsorted([edge for edge, _ in below], values, side="right")]


def _behaviour(config: Config, log: Log) -> np.ndarray:
    """(U,) segment of each user by what it did in train, from the prepared folder; `new` without a row in train."""
    table = pd.read_parquet(config.prepared / "segments.parquet", columns=["user", "behaviour"])
    return table.set_index("user")["behaviour"].reindex(log.users).fillna("new").to_numpy(dtype=object)
