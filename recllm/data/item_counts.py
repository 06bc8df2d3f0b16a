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


def _thousandths(config: Config) -> dict[str, int]:
    """Columns of sums that are kept in seconds, and added up in milliseconds."""
    return {f"{n}_sum": 1000 for n in measured_outcomes(config) if config.columns.outcomes[n].kind == "duration"}


def unbooked_sql(config: Config, counts: str) -> str:
    """What each period booked, as `booking_sql` has it, out of cumulative counts (a table expression)."""
    names, scale = count_columns(config), _thousandths(config)
    whole = ", ".join(f"CAST(round({quote(n)} * {scale.get(n, 1)}) AS BIGINT) AS {quote(n)}" for n in names)
    single = ", ".join(f"{quote(n)} - lag({quote(n)}, 1, 0) OVER of_item AS {quote(n)}" for n in names)
    return (f"SELECT item, period_end, {single} FROM (SELECT item, period_end, {whole} FROM {counts}) "
            f"WINDOW of_item AS (PARTITION BY item ORDER BY period_end)")


def negative_sql(config: Config, booked: str) -> str:
    """Sums (a SELECT) to be taken away."""
    return f"SELECT item, period_end, {', '.join(f'-{quote(n)} AS {quote(n)}' for n in count_columns(config))} FROM ({booked})"


def added_sql(config: Config, *booked: str) -> str:
    """Sums (SELECTs) added up by item and period, only where an event is left."""
    sums = ", ".join(f"CAST(sum({quote(n)}) AS BIGINT) AS {quote(n)}" for n in count_columns(config))
    parts = " UNION ALL BY NAME ".join(f"({sql})" for sql in booked)
    return f"SELECT item, period_end, {sums} FROM ({parts}) GROUP BY item, period_end HAVING sum(events) > 0"


def booked_columns(config: Config) -> list[str]:
    """Columns of a shard that its counts are made of."""
    return ["item", "known_at", *measured_outcomes(config)]


def _starts(*keys: np.ndarray) -> np.ndarray:
    """Where a run of equal keys (n,) begins."""
    changed = np.zeros(len(keys[0]), dtype=bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def booking(config: Config, rows: pa.Table) -> pa.Table:
    """What `booking_sql` gives, of rows whose items are codes into their distinct values: sorted by code and period."""
    item = rows.column("item").unify_dictionaries().combine_chunks()
    outcomes = {n: rows.column(n).to_numpy() for n in measured_outcomes(config)}
    known = np.flatnonzero(np.any([~np.isnan(values) for values in outcomes.values()], axis=0))
    length = config.data.period * 1000
    period = rows.column("known_at").to_numpy()[known] // length + 1
    first = int(period.min(initial=0))
    # one number for (code, period): 2**40 periods of a second are 30,000 years
    key = (item.indices.to_numpy(zero_copy_only=False)[known].astype(np.int64) << 40) + (period - first)
    order = np.argsort(key)
    key, rank = key[order], known[order]
    starts = _starts(key)
    sums = {"events": np.diff(np.append(starts, len(key)))}
    for name, values in outcomes.items():
        scale = 1000 if config.columns.outcomes[name].kind == "duration" else 1
        mine = values[rank]
        there = ~np.isnan(mine)
        whole = np.where(there, np.floor(mine * scale + 0.5), 0.0).astype(np.int64)
        for part, column in (("n", there.astype(np.int64)), ("sum", whole)):
            sums[f"{name}_{part}"] = np.add.reduceat(column, starts) if len(starts) else column
    items = pa.DictionaryArray.from_arrays(pa.array((key[starts] >> 40).astype(np.int32)), item.dictionary)
    return pa.table({"item": items, "period_end": ((key[starts] & (2**40 - 1)) + first) * length, **sums})


def write_booking(config: Config, rows: pa.Table, target: Path) -> None:
    """Write the sums of `booking` over a shard's rows."""
    with whole_file(target) as part:
        pq.write_table(booking(config, rows), part, compression="lz4", store_schema=False, use_dictionary=["item"], write_statistics=False)


def _cumulative(columns: list[np.ndarray], before: list[int], last: int) -> list[np.ndarray]:
    """Sorted `columns` (n,) of item, period_end and counts: counts of equal keys added up, then summed over each item's periods. `before`
    are the sums of item `last` so far."""
    starts = _starts(*columns[:2])
    item, period = (key[starts] for key in columns[:2])
    first = _starts(item)
    lengths = np.diff(np.append(first, len(item)))
    out = [item, period]
    for column, so_far in zip(columns[2:], before, strict=True):
        added = column if len(starts) == len(column) else np.add.reduceat(column, starts)
        sums = np.cumsum(added)
        base = sums[first] - added[first]
        base[0] -= so_far if item[0] == last else 0
        out.append(sums - np.repeat(base, lengths))
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
    scale = _thousandths(config)
    schema = pa.schema([("item", pa.string()), ("period_end", pa.int64()),
                        *((n, pa.float64() if n.endswith("_sum") else pa.int64()) for n in names)])
    width = 2 + len(names)
    rest, before, last, written = [np.empty(0, np.int64)] * width, [0] * len(names), -1, 0
    with whole_file(target) as part, pq.ParquetWriter(part, schema, compression="zstd") as out:
        for batch in chain(connection.sql(query).to_arrow_reader(BATCH), [None]):
            if batch is not None:
                rest = [np.concatenate([old, new.to_numpy()]) for old, new in zip(rest, batch.columns, strict=True)]
            # the last key may go on in the next batch
            end = len(rest[0]) if batch is None else int(_starts(*rest[:2])[-1]) if len(rest[0]) else 0
            if end == 0:
                continue
            sums = _cumulative([column[:end] for column in rest], before, last)
            columns = [items.take(pa.array(sums[0])), sums[1],
                       *(c / scale[n] if n in scale else c for n, c in zip(names, sums[2:], strict=True))]
            out.write_table(pa.table([pa.array(c).cast(f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
            rest, written = [column[end:] for column in rest], written + len(sums[0])
            before, last = [int(column[-1]) for column in sums[2:]], int(sums[0][-1])
    return written
