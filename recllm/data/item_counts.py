"""Booking of item counts: one small table (item, period_end, cumulative events and outcome sums), only where it changed.

A row reads the last period closed before its time, so a count never holds an event that was not known then (DESIGN 4).
Sums are whole numbers until the end, durations in milliseconds: equal however the log is cut into shards or appended.
"""

from itertools import chain
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config
from recllm.data.sources.files import quote
from recllm.data.whole import whole_file

BATCH = 245_760


def measured_outcomes(config: Config) -> list[str]:
    """Outcomes that enter counters: all but a derived duration, which is a label only."""
    return [name for name, spec in config.columns.outcomes.items() if not spec.derived]


def count_columns(config: Config) -> list[str]:
    """Columns of counts: events, and of each outcome the events in which it is known (`_n`) and their sum."""
    return ["events", *(f"{n}_{part}" for n in measured_outcomes(config) for part in ("n", "sum"))]


def booking_sql(config: Config, shard: str) -> str:
    """Sums of a shard by item and period of known_at, as whole numbers. An outcome is counted only where it is known."""
    names = measured_outcomes(config)
    sums = ""
    for name in names:
        scale = " * 1000" if config.columns.outcomes[name].kind == "duration" else ""
        whole = f"CAST(round({quote(name)}{scale}) AS BIGINT)"
        sums += f", count({quote(name)}) AS {quote(name + '_n')}, CAST(coalesce(sum({whole}), 0) AS BIGINT) AS {quote(name + '_sum')}"
    known = " OR ".join(f"{quote(n)} IS NOT NULL" for n in names)
    period = config.data.period * 1000
    return (f"SELECT item, (known_at // {period} + 1) * {period} AS period_end, count(*) AS events{sums} "
            f"FROM {shard} WHERE {known} GROUP BY 1, 2")


def _cumulative(rows: np.ndarray, before: np.ndarray, last: int) -> np.ndarray:
    """(g, 2 + c) of sorted `rows` (n, 2 + c) of (item, period_end, counts): equal keys added up, then summed over each item's periods.
    `before` (c,) are the sums of item `last` so far."""
    starts = np.flatnonzero(np.append(True, (rows[1:, :2] != rows[:-1, :2]).any(1)))
    out = np.concatenate([rows[starts, :2], np.add.reduceat(rows[:, 2:], starts)], axis=1)
    first = np.flatnonzero(np.append(True, out[1:, 0] != out[:-1, 0]))
    sums = np.cumsum(out[:, 2:], axis=0)
    base = sums[first] - out[first, 2:]
    base[0] -= before if out[0, 0] == last else 0
    out[:, 2:] = sums - np.repeat(base, np.diff(np.append(first, len(out))), axis=0)
    return out


def write_counts(connection: duckdb.DuckDBPyConnection, config: Config, parts: str, target: Path) -> int:
    """Add partial counts (a table expression) and write them, cumulative over each item's periods. Returns their rows.

    DuckDB sorts, on disk where it must; numpy adds up (window sums over six columns cost three times as much).
    """
    names = count_columns(config)
    connection.execute(f"CREATE TEMP TABLE coded AS SELECT item, CAST(row_number() OVER (ORDER BY item) - 1 AS BIGINT) AS code "
                       f"FROM (SELECT DISTINCT item FROM {parts})")
    items = pa.array(connection.execute("SELECT item FROM coded ORDER BY code").fetchnumpy()["item"], pa.string())
    query = f"SELECT code, period_end, {', '.join(map(quote, names))} FROM {parts} JOIN coded USING (item) ORDER BY code, period_end"
    scale = {f"{n}_sum": 1e-3 for n, spec in config.columns.outcomes.items() if spec.kind == "duration"}
    schema = pa.schema([("item", pa.string()), ("period_end", pa.int64()),
                        *((n, pa.float64() if n.endswith("_sum") else pa.int64()) for n in names)])
    rest, before, last, written = np.empty((0, 2 + len(names)), np.int64), np.zeros(len(names), np.int64), -1, 0
    with whole_file(target) as part, pq.ParquetWriter(part, schema, compression="zstd") as out:
        for batch in chain(connection.sql(query).to_arrow_reader(BATCH), [None]):
            if batch is not None:
                rest = np.concatenate([rest, np.stack([c.to_numpy() for c in batch.columns], axis=1)])
            # the last key may go on in the next batch
            end = len(rest) if batch is None else int(np.flatnonzero((rest[:, :2] != rest[-1, :2]).any(1)).max(initial=-1)) + 1
            if end == 0:
                continue
            sums = _cumulative(rest[:end], before, last)
            columns = [items.take(pa.array(sums[:, 0])), sums[:, 1],
                       *(c / (1 / scale[n]) if n in scale else c for n, c in zip(names, sums[:, 2:].T, strict=True))]
            out.write_table(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
            rest, before, last, written = rest[end:], sums[-1, 2:].copy(), int(sums[-1, 0]), written + len(sums)
    return written
