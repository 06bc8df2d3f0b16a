"""Segments of users for reports, from the train split only: by behaviour (recency, frequency, value) and by dominant context.

They are no input of the model: what it reads of a user's past are the counters at the request (DESIGN 4).
Recency, frequency and value follow Hughes, "Strategic Database Marketing" (1994), with tertiles for quintiles.
"""

from pathlib import Path

import duckdb

from recllm.config import Config
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema

# part of the day until this local hour, the one table that names dayparts for reports
DAYPARTS = ((6, "night"), (11, "morning"), (17, "midday"), (22, "evening"), (24, "night"))
DAYPART = "CASE " + " ".join(f"WHEN hour < {end} THEN '{name}'" for end, name in DAYPARTS) + " END"


def _contexts(schema: Schema) -> list[str]:
    return [n for n, spec in schema.context.items() if spec.kind in ("category", "place") and not spec.list]


def users_sql(config: Config, train: str) -> str:
    """SELECT of one row per user of train rows (a table expression): last moment, frequency, value, dominant daypart and context."""
    schema = config.columns
    dominant = "".join(f", mode({quote(n)}) AS {quote('dominant_' + n)}" for n in _contexts(schema))
    return f"""SELECT "user", max(time) AS last, count(*) AS frequency, coalesce(sum({quote(schema.binary[-1])}), 0) AS value,
                      mode({DAYPART}) AS dominant_daypart{dominant}
               FROM (SELECT *, (time // 60000 + utc_offset) // 60 % 24 AS hour FROM {train}) GROUP BY "user" ORDER BY 1"""


def write_segments(connection: duckdb.DuckDBPyConnection, config: Config, users: str, target: Path) -> dict[str, dict[str, int]]:
    """Write (user, recency_days, frequency, value, behaviour, dominant_*) from the rows of `users_sql`. Returns users per segment.

    `behaviour`: `loyal` (upper third by frequency, seen in the last third), `valuable` (upper third by value among the
    rest), `lapsed` (least recent third), else `occasional`. Value is the number of positives of the last binary outcome.
    """
    contexts = _contexts(config.columns)
    dominant = "".join(f", {quote('dominant_' + n)}" for n in ("daypart", *contexts))
    connection.execute(f"""COPY (
        WITH users AS (SELECT "user", ((SELECT max(last) FROM {users}) - last) / 864e5 AS recency_days, frequency, value{dominant}
                       FROM {users}),
        edges AS (SELECT quantile_disc(recency_days, [1/3, 2/3]) AS r, quantile_disc(frequency, 2/3) AS f,
                         quantile_disc(value, 2/3) AS v FROM users)
        SELECT users.*, CASE WHEN frequency >= f AND recency_days <= r[1] THEN 'loyal'
            WHEN value > v THEN 'valuable' WHEN recency_days > r[2] THEN 'lapsed' ELSE 'occasional' END AS behaviour
        FROM users, edges ORDER BY "user") TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)""")
    shares = {}
    for column in ("behaviour", "dominant_daypart", *(f"dominant_{n}" for n in contexts)):
        rows = connection.execute(f"""SELECT coalesce({quote(column)}, 'unknown'), count(*) AS n FROM read_parquet({literal(target)})
                                      GROUP BY 1 ORDER BY n DESC, 1 LIMIT 8""").fetchall()
        shares[column] = {str(name): int(n) for name, n in rows}
    return shares
