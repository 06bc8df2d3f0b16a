"""What each shard adds to the whole: sums for the report, users and items. The shards' parts are put together at the end."""

from pathlib import Path
from typing import Any

import duckdb

from recllm.config import Config
from recllm.data.segments import users_sql
from recllm.data.sources.files import literal, parquet, quote
from recllm.data.whole import whole_file

Facts = dict[str, Any]  # split -> rows, first, last (UTC ms), labels: name -> [known, sum], seconds: rounded -> rows


def write_partial(connection: duckdb.DuckDBPyConnection, config: Config, shards: dict[str, Path], folder: Path, bucket: int) -> Facts:
    """Write items, users and segments of the finished `shards` (split -> file) to `folder`/<name>-<bucket>.parquet; return their facts."""
    every = parquet([*shards.values()])
    users = users_sql(config, f"read_parquet({literal(shards['train'])})")
    for name, sql in (("items", f"SELECT DISTINCT item FROM {every} ORDER BY item"),
                      ("users", f'SELECT DISTINCT "user" FROM {every} ORDER BY "user"'), ("segments", users)):
        with whole_file(folder / f"{name}-{bucket}.parquet") as part:
            connection.execute(f"COPY ({sql}) TO {literal(part)} (FORMAT parquet, COMPRESSION lz4)")
    return {split: shard_facts(connection, config, f"read_parquet({literal(path)})") for split, path in shards.items()}


def shard_facts(connection: duckdb.DuckDBPyConnection, config: Config, shard: str) -> Facts:
    labels = {name: quote(config.columns.label(name)) for name in config.columns.outcomes}
    sums = "".join(f", count({label}), coalesce(sum({label}), 0)" for label in labels.values())
    row = connection.execute(f"SELECT count(*), min(time), max(time){sums} FROM {shard} WHERE scored").fetchall()[0]
    pairs = zip(row[3::2], row[4::2], strict=True)
    facts: Facts = {"rows": row[0], "first": row[1], "last": row[2], "labels": {n: list(p) for n, p in zip(labels, pairs, strict=True)}}
    if duration := config.columns.duration:
        seconds = connection.execute(f"""SELECT CAST(round({labels[duration]}) AS BIGINT), count(*) FROM {shard}
                                         WHERE scored AND {labels[duration]} IS NOT NULL GROUP BY 1 ORDER BY 1""").fetchall()
        facts["seconds"] = {str(value): n for value, n in seconds}
    return facts


def add_facts(config: Config, parts: list[Facts]) -> Facts:
    """The facts of one split over all shards."""
    known = [part for part in parts if part["rows"]]
    total: Facts = {"rows": sum(p["rows"] for p in parts), "first": min((p["first"] for p in known), default=None),
                    "last": max((p["last"] for p in known), default=None), "labels": {}, "seconds": {}}
    for name in config.columns.outcomes:
        total["labels"][name] = [sum(p["labels"][name][k] for p in parts) for k in (0, 1)]
    for part in parts:
        for value, n in part.get("seconds", {}).items():
            total["seconds"][value] = total["seconds"].get(value, 0) + n
    return total


def median(seconds: dict[str, int]) -> float:
    """The lower median of rounded seconds."""
    half, seen = (sum(seconds.values()) + 1) // 2, 0
    for value in sorted(map(int, seconds)):
        seen += seconds[str(value)]
        if seen >= half:
            return value
    return float("nan")
