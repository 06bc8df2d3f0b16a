"""Sampled candidates for logs of positives only (DESIGN 4): `candidates/<split>-k.parquet` (user, pos, item) beside the shards.

They are no events and enter no counter; time, context and n_before come from the row (user, pos) that they stand beside.
With `negatives.window` a row is scored only where the rules of the draw would let its own item be drawn.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config, Negatives
from recllm.data.gather import SPLITS, shard_name
from recllm.data.whole import whole_file
from recllm.errors import DataError

POOL = "pool.npz"
ROUNDS = 100  # draws per wanted item before an honest shortage is accepted


@dataclass(frozen=True)
class NegativesTask:
    config: Config
    bucket: int
    shards: int
    folder: Path
    scored: int  # rows of the shard that are scored before the draw

    @property
    def index(self) -> int:
        return self.bucket


@dataclass(frozen=True)
class PoolTask:
    config: Config
    folder: Path
    train_end: int  # UTC milliseconds
    index: int = 0


@dataclass(frozen=True)
class DrawnResult:
    drawn: int  # candidates
    unscored: int  # rows that became history only


@dataclass(frozen=True)
class Pool:
    """What may be drawn: n items."""

    items: np.ndarray  # (n,) ids
    weights: np.ndarray  # (n,) of the draw, sum 1
    first: np.ndarray  # (n,) int64 ms from which each exists: published, else first logged
    events: np.ndarray  # (e,) int64 sorted keys (item, known_at) of all events; empty without a window
    window: int  # ms; 0 without a window
    period: int  # ms, of the item counts

    def open(self, item: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Whether items (m,) could be drawn at moments (m,): they exist and, with a window, the item counts of the last closed period
        hold an event that is not older than it. So neither "count 0" nor "long ago" says anything about drawn or logged."""
        exists = self.first[item] <= time
        if not self.window:
            return exists
        wanted = _keys(item, time // self.period * self.period)
        last = self.events[np.maximum(np.searchsorted(self.events, wanted, side="left") - 1, 0)]
        return exists & (last < wanted) & (last >= _keys(item, time - self.window))


def _keys(item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """One int64 for (item, time in ms): 2**41 ms reach to the year 2039, items to four million."""
    return (item.astype(np.int64) << 41) + time


def write_pool(task: PoolTask) -> DrawnResult:
    """Write `pool.npz`, what may be drawn, once for all shards."""
    pool = _pool(task.config, task.folder, task.train_end)
    with whole_file(task.folder / POOL) as part, part.open("wb") as file:
        np.savez(file, **{**vars(pool), "items": pool.items.astype(str)})  # type: ignore[arg-type]  # an array of objects would need pickle
    return DrawnResult(0, 0)


def read_pool(folder: Path) -> Pool:
    with np.load(folder / POOL) as found:
        arrays = dict(found)
    window, period = (int(arrays.pop(name)) for name in ("window", "period"))
    return Pool(items=arrays.pop("items").astype(object), window=window, period=period, **arrays)


def _pool(config: Config, folder: Path, train_end: int) -> Pool:
    data, spec = folder / "data", config.data.negatives
    logged = pd.concat([pd.read_parquet(p, columns=["item", "time", "known_at"]) for p in sorted(data.glob("*.parquet"))])
    first = logged.groupby("item")["time"].min()
    table = pq.read_table(folder / "listed-items.parquet")
    if "published" in table.column_names:
        published = table.select(["item", "published"]).to_pandas().set_index("item")["published"].dropna().astype("int64")
        first = published.reindex(first.index.union(published.index)).fillna(first).astype("int64")
    if spec and spec.source == "popularity":
        train = logged[logged["time"] < train_end]["item"].value_counts()
        weights = train.reindex(first.index).fillna(0).to_numpy(dtype=float) + 1.0
    else:
        weights = np.ones(len(first))
    window = int((spec.window or 0) * 86_400_000) if spec else 0
    code = pd.Series(np.arange(len(first)), index=first.index)
    booked = logged if window else logged.iloc[:0]
    events = np.sort(_keys(code.reindex(booked["item"]).to_numpy(dtype=np.int64), booked["known_at"].to_numpy(dtype=np.int64)))
    return Pool(first.index.to_numpy(), weights / weights.sum(), first.to_numpy(dtype=np.int64), events, window,
                config.data.period * 1000)


@dataclass(frozen=True)
class Opened:
    """When each user of a shard first had an event of an item."""

    user: np.ndarray  # (n,) code of each row's user
    item: np.ndarray  # (n,) pool code of each row's item
    first: pd.Series  # (user code x items + item code) -> int64 ms
    items: int

    @classmethod
    def of(cls, rows: pd.DataFrame, pool: Pool) -> "Opened":
        code = pd.Series(np.arange(len(pool.items)), index=pool.items)
        user, item = pd.factorize(rows["user"])[0], code.reindex(rows["item"]).to_numpy()
        first = pd.Series(rows["time"].to_numpy(), index=user * np.int64(len(pool.items)) + item).groupby(level=0).min()
        return cls(user, item, first, len(pool.items))

    def when(self, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(m,) ms at which the users of rows (m,) first had an event of items (m,), NaN for never."""
        return self.first.reindex(self.user[row] * np.int64(self.items) + item).to_numpy()


def drawable(rows: pd.DataFrame, pool: Pool, opened: Opened) -> np.ndarray:
    """(n,) whether each row's own item could have been drawn at its moment: the user's first event of it, and open in the pool."""
    every = np.arange(len(rows))
    return (opened.when(every, opened.item) == rows["time"].to_numpy()) & pool.open(opened.item, rows["time"].to_numpy())


def _draw(rows: pd.DataFrame, pool: Pool, opened: Opened, spec: Negatives, rng: np.random.Generator) -> pd.DataFrame:
    """`spec.per_event` items per scored row: open in the pool, not opened by the user up to that moment, all different."""
    kept = pd.DataFrame({"row": np.empty(0, dtype=np.int64), "item": np.empty(0, dtype=np.int64)})
    times, wanted = rows["time"].to_numpy(), np.where(rows["scored"], spec.per_event, 0)
    for _ in range(ROUNDS):
        need = wanted - np.bincount(kept["row"], minlength=len(rows))
        if not (need > 0).any():
            break
        row = np.repeat(np.arange(len(rows)), np.maximum(need, 0))
        item = rng.choice(len(pool.items), len(row), p=pool.weights)
        good = pool.open(item, times[row]) & ~(opened.when(row, item) <= times[row])  # later openings would tell the future
        kept = pd.concat([kept, pd.DataFrame({"row": row[good], "item": item[good]})]).drop_duplicates()
    kept = kept.sort_values("row", kind="stable")
    return pd.DataFrame({"user": rows["user"].to_numpy()[kept["row"]], "pos": rows["pos"].to_numpy()[kept["row"]],
                         "item": pool.items[kept["item"]]})


def draw_negatives(task: NegativesTask) -> DrawnResult:
    """Write the candidates of one shard, and `scored` of its rows where a window decides it.

    The draw depends on (seed, shard, shards) alone."""
    spec = task.config.data.negatives
    if spec is None:
        raise DataError("expected `negatives` in the config's data section, found none")
    rng = np.random.default_rng([spec.seed, task.bucket, task.shards])
    paths = {s: task.folder / "data" / shard_name(s, task.bucket, task.shards) for s in SPLITS}
    columns = ["user", "item", "time", "pos", "scored"]
    rows = pd.concat([pd.read_parquet(p, columns=columns).assign(split=s) for s, p in paths.items()], ignore_index=True)
    pool = read_pool(task.folder)
    opened = Opened.of(rows, pool)
    if spec.window:
        rows["scored"] &= drawable(rows, pool, opened)
    drawn = _draw(rows, pool, opened, spec, rng).merge(rows[["user", "pos", "split"]], on=["user", "pos"], how="left")
    for split, path in paths.items():
        if spec.window:
            scored = rows.loc[rows["split"] == split, "scored"].to_numpy(dtype=bool)
            _rescore(path, scored)
        mine = drawn[drawn["split"] == split][["user", "pos", "item"]]
        table = pa.table({"user": pa.array(mine["user"], pa.string()), "pos": pa.array(mine["pos"], pa.int64()),
                          "item": pa.array(mine["item"], pa.string())})
        with whole_file(task.folder / "candidates" / f"{split}-{task.bucket:05d}.parquet") as part:
            pq.write_table(table, part, compression="zstd")
    return DrawnResult(len(drawn), task.scored - int(rows["scored"].sum()))


def _rescore(path: Path, scored: np.ndarray) -> None:
    """Put another `scored` column into a shard, whose rows are in the same order: written aside and renamed, unless it is there."""
    table = pq.read_table(path)
    if np.array_equal(table["scored"].to_numpy(), scored):
        return
    with whole_file(path) as part:
        pq.write_table(table.set_column(table.column_names.index("scored"), "scored", pa.array(scored)), part, compression="zstd")
