"""Lists for every user of a prepared log at one moment, and the vectors of items and users for other search tools."""

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config
from recllm.errors import DataError
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests
from recllm.model.fields_recllm import as_list
from recllm.model.history_recllm import parse_time
from recllm.model.recommender_recllm import Recommender
from recllm.recommend.parts import check_target, write_in_parts
from recllm.recommend.users import request_of

USERS_PER_PART = 128  # what a kill can cost at most


@dataclass(frozen=True)
class Summary:
    """What one call wrote."""

    users: int  # of the log
    nothing: int  # users for whom nothing was left to recommend: they have no row
    made: int  # users of this call, the rest stood from an interrupted one
    seconds: float

    def text(self) -> str:
        kept = f", {self.users - self.made:,} of them kept from an interrupted run" if self.made < self.users else ""
        speed = f"; {self.made / max(self.seconds, 1e-9):,.1f} users per second" if self.made else ""
        return f"lists for {self.users - self.nothing:,} of {self.users:,} users{kept}; nothing was left for {self.nothing:,}{speed}"


@dataclass
class Everyone:
    """All users of a log at one moment. `release` is the recommender's folder, `context` as of a request; without `time` it is just after
    the log's end as the release knows it, in the offset of each user's last event."""

    config: Config
    log: Log
    recommender: Recommender
    release: Path
    context: dict[str, Any]

    @cached_property
    def raw(self) -> RawRequests:
        return RawRequests(self.log, self.recommender.processor.rows)

    def request(self, code: int) -> dict[str, Any]:
        """The request of a user by code, its candidates left open."""
        return {**request_of(self.raw, code, self.context), "id": self.log.users[code]}

    def manifest(self) -> dict[str, Any]:
        """What decides every row, for comparing an interrupted run with the one that goes on."""
        spec = self.recommender.processor.rows.spec["schema"]["time"]
        moment = self.recommender.processor.rows.counts.last + 1000
        if self.context.get("time") is not None:
            moment, _ = parse_time(self.context["time"], spec["zone"], spec["unit"], "context.time")
        digest = hashlib.sha256()
        for path in sorted(p for p in self.release.iterdir() if p.suffix in (".safetensors", ".json", ".jsonl")):
            digest.update(path.name.encode() + path.read_bytes())
        prepared = self.config.prepared / "fingerprint"
        return {"config": self.config.name, "log": prepared.read_text() if prepared.is_file() else "", "release": digest.hexdigest(),
                "moment": moment, "fields": dict(sorted(self.context.items()))}


def list_schema(recommender: Recommender) -> pa.Schema:
    """Columns of the lists: user, rank from 1, item_id, score, each outcome's prediction, the duration's 80% interval, an
    auction's price, title."""
    outcomes, duration = recommender.model.config.binary, recommender.model.config.duration
    numbers = ["score", *outcomes, *([duration, f"{duration}_low", f"{duration}_high"] if duration else [])]
    numbers += ["price"] if recommender.settings({}).get("auction") else []
    title = [("title", pa.string())] if recommender.processor.recommend.get("title") else []
    return pa.schema([("user", pa.string()), ("rank", pa.int32()), ("item_id", pa.string()), *((n, pa.float64()) for n in numbers), *title])


def _rows(recommender: Recommender, user: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One user's list as rows."""
    duration, title, rows = recommender.model.config.duration, recommender.processor.recommend.get("title"), []
    for rank, entry in enumerate(entries, start=1):
        ends = dict(zip((f"{duration}_low", f"{duration}_high"), entry[f"{duration}_interval"], strict=True)) if duration else {}
        rows.append({**entry, "user": user, "rank": rank, **ends, "title": ", ".join(as_list(entry.get(title or ""))) or None})
    return rows


def recommend_all(everyone: Everyone, out: Path, top_k: int) -> Summary:
    """Write the `top_k` best items of every user to a Parquet file, in the order of the log's users. A killed call goes on when it is
    made again, and ends as an uninterrupted one.

    Raises DataError for a file that cannot be written, or parts of other settings; RequestError for a bad context field.
    """
    check_target(out)
    if top_k < 1:
        raise DataError(f"--top-k: expected at least 1, found {top_k}")
    recommender, users = everyone.recommender, everyone.log.users
    schema, started = list_schema(recommender), time.monotonic()

    def make(codes: Iterable[int]) -> pa.Table:
        lists = ((users[code], recommender.recommend(everyone.request(code), top_k=top_k)) for code in codes)
        return pa.Table.from_pylist([row for user, entries in lists for row in _rows(recommender, user, entries)], schema=schema)

    made = write_in_parts(out, everyone.manifest() | {"top_k": top_k}, schema, USERS_PER_PART, len(users), make, "lists")
    seconds = time.monotonic() - started
    return Summary(len(users), len(users) - _firsts(out), made, seconds)


def _firsts(path: Path) -> int:
    """How many users have a list, read batch by batch."""
    return sum(int((batch.column(0).to_numpy() == 1).sum()) for batch in pq.ParquetFile(path).iter_batches(columns=["rank"]))


def write_vectors(everyone: Everyone, folder: Path) -> tuple[int, int]:
    """Write `items.parquet` (item_id, vector) and `users.parquet` (user, vector) for search tools: float32 of length one, such that the
    dot product of a user's and an item's is the cosine that retrieval ranks by. Returns (items, users).

    Items published after the moment are in it, as are those in a user's history: filtering is the reader's. Raises DataError for a
    folder that cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder for items.parquet and users.parquet, found a file: choose another")
    if not folder.parent.is_dir():
        raise DataError(f"{folder}: expected an existing folder to make it in, found no {folder.parent}: make it, or choose another")
    recommender, users = everyone.recommender, everyone.log.users
    folder.mkdir(exist_ok=True)
    (folder / "users.parquet").unlink(missing_ok=True)  # never beside items of another release
    items = recommender.processor.rows.items.ids
    vectors = recommender.item_vectors()
    kind = pa.list_(pa.float32(), vectors.shape[1])

    def table(key: str, ids: list[str], values: Any) -> pa.Table:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), vectors.shape[1])
        return pa.table({key: pa.array(ids, pa.string()), "vector": flat})

    aside = folder / f".items.parquet.{os.getpid()}"
    pq.write_table(table("item_id", items, vectors), aside)
    aside.rename(folder / "items.parquet")

    def make(codes: Iterable[int]) -> pa.Table:
        found = [(users[c], recommender.query_vector(everyone.request(c))) for c in codes]
        return table("user", [user for user, _ in found], np.stack([vector for _, vector in found]))

    schema = pa.schema([("user", pa.string()), ("vector", kind)])
    write_in_parts(folder / "users.parquet", everyone.manifest(), schema, USERS_PER_PART, len(users), make, "vectors")
    return len(items), len(users)
