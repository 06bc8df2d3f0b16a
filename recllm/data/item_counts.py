"""Booking of item counts: one small table (item, period_end, cumulative events and outcome sums), only where it changed.

A row reads the last period closed before its time, so a count never holds an event that was not known then (DESIGN 4).
"""

from pathlib import Path

from recllm.config import Config
from recllm.data.scatter import connect
from recllm.data.sources.files import literal, quote


def measured_outcomes(config: Config) -> list[str]:
    """Outcomes that enter counters: all but a derived duration, which is a label only."""
    return [name for name, spec in config.columns.outcomes.items() if not spec.derived]


def booking_sql(config: Config) -> str:
    """Sums of one shard by item and period of known_at. An outcome is counted only where it is known (`_n` counts those rows)."""
    names = measured_outcomes(config)
    sums = "".join(f", count({quote(n)}) AS {quote(n + '_n')}, coalesce(sum({quote(n)}), 0) AS {quote(n + '_sum')}" for n in names)
    known = " OR ".join(f"{quote(n)} IS NOT NULL" for n in names)
    period = config.data.period * 1000
    return (f"SELECT item, (known_at // {period} + 1) * {period} AS period_end, count(*) AS events{sums} "
            f"FROM shard WHERE {known} GROUP BY ALL ORDER BY ALL")


def merge_counts(config: Config, folder: Path) -> int:
    """Add the shards' partial counts and write `item_counts.parquet`, cumulative over each item's periods. Returns its rows."""
    connection = connect(threads=1)  # two threads add durations in any order, and the last bit differs from run to run
    columns = ["events", *(f"{n}_{part}" for n in measured_outcomes(config) for part in ("n", "sum"))]
    added = ", ".join(f"sum({quote(c)}) AS {quote(c)}" for c in columns)
    running = ", ".join(f"sum({quote(c)}) OVER w AS {quote(c)}" for c in columns)
    table = f"""SELECT item, period_end, {running} FROM (
                  SELECT item, period_end, {added} FROM read_parquet({literal(folder / 'partial' / '*.parquet')}) GROUP BY ALL)
                WINDOW w AS (PARTITION BY item ORDER BY period_end) ORDER BY item, period_end"""
    connection.execute(f"COPY ({table}) TO {literal(folder / 'item_counts.parquet')} (FORMAT parquet, COMPRESSION zstd)")
    return int(connection.execute(f"SELECT count(*) FROM read_parquet({literal(folder / 'item_counts.parquet')})").fetchall()[0][0])
