"""Sampled candidates for logs of positives only (DESIGN 4): `candidates/<split>-k.parquet` (user, pos, item) beside the shards.

They are no events and enter no counter; time, context and n_before come from the row (user, pos) that they stand beside.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config, Negatives
from recllm.data.gather import SPLITS
from recllm.errors import DataError

ROUNDS = 20  # draws per wanted item before an honest shortage is accepted


@dataclass(frozen=True)
class NegativesTask:
    config: Config
    bucket: int
    shards: int
    folder: Path
    train_end: int  # UTC milliseconds


def _pool(task: NegativesTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items (n,), their draw weights (n,) and the moment from which each may be drawn (n,): published, else first logged."""
    data = task.folder / "data"
    logged = pd.concat([pd.read_parquet(p, columns=["item", "time"]) for p in sorted(data.glob("*.parquet"))])
    first = logged.groupby("item")["time"].min()
    table = pq.read_table(task.folder / "items.parquet")
    if "published" in table.column_names:
        published = table.select(["item", "published"]).to_pandas().set_index("item")["published"].dropna().astype("int64")
        first = published.reindex(first.index.union(published.index)).fillna(first).astype("int64")
    if task.config.data.negatives and task.config.data.negatives.source == "popularity":
        train = logged[logged["time"] < task.train_end]["item"].value_counts()
        weights = train.reindex(first.index).fillna(0).to_numpy(dtype=float) + 1.0
    else:
        weights = np.ones(len(first))
    return first.index.to_numpy(), weights / weights.sum(), first.to_numpy(dtype=np.int64)


def _draw(rows: pd.DataFrame, pool: tuple[np.ndarray, np.ndarray, np.ndarray], spec: Negatives, rng: np.random.Generator) -> pd.DataFrame:
    """`spec.per_event` items per row: arrived by its time, not opened by the user up to that moment, all different."""
    items, weights, first = pool
    code = pd.Series(np.arange(len(items)), index=items)
    user = pd.factorize(rows["user"])[0]
    opened = pd.Series(rows["time"].to_numpy(), index=user * np.int64(len(items)) + code.reindex(rows["item"]).to_numpy())
    opened = opened.groupby(level=0).min()  # later openings do not exclude: that would tell the future
    kept = pd.DataFrame({"row": np.empty(0, dtype=np.int64), "item": np.empty(0, dtype=np.int64)})
    times = rows["time"].to_numpy()
    for _ in range(ROUNDS):
        need = spec.per_event - np.bincount(kept["row"], minlength=len(rows))
        if not (need > 0).any():
            break
        row = np.repeat(np.arange(len(rows)), np.maximum(need, 0))
        item = rng.choice(len(items), len(row), p=weights)
        seen = opened.reindex(user[row] * np.int64(len(items)) + item).to_numpy()
        good = (first[item] <= times[row]) & ~(seen <= times[row])
        kept = pd.concat([kept, pd.DataFrame({"row": row[good], "item": item[good]})]).drop_duplicates()
    kept = kept.sort_values("row", kind="stable")
    return pd.DataFrame({"user": rows["user"].to_numpy()[kept["row"]], "pos": rows["pos"].to_numpy()[kept["row"]],
                         "item": items[kept["item"]]})


def draw_negatives(task: NegativesTask) -> int:
    """Write the candidates of one shard. Returns their number. The draw depends on (seed, shard, shards) alone."""
    spec = task.config.data.negatives
    if spec is None:
        raise DataError("expected `negatives` in the config's data section, found none")
    rng = np.random.default_rng([spec.seed, task.bucket, task.shards])
    paths = {s: task.folder / "data" / f"{s}-{task.bucket:05d}-of-{task.shards:05d}.parquet" for s in SPLITS}
    columns = ["user", "item", "time", "pos", "scored"]
    rows = pd.concat([pd.read_parquet(p, columns=columns).assign(split=s) for s, p in paths.items()], ignore_index=True)
    drawn = _draw(rows, _pool(task), spec, rng).merge(rows[["user", "pos", "split", "scored"]], on=["user", "pos"], how="left")
    for split in SPLITS:
        part = drawn[(drawn["split"] == split) & drawn["scored"]][["user", "pos", "item"]]
        table = pa.table({"user": pa.array(part["user"], pa.string()), "pos": pa.array(part["pos"], pa.int64()),
                          "item": pa.array(part["item"], pa.string())})
        pq.write_table(table, task.folder / "candidates" / f"{split}-{task.bucket:05d}.parquet", compression="zstd")
    return int(drawn["scored"].sum())
