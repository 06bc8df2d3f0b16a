"""Segments of users for reports, from the train split only: by behaviour (recency, frequency, value) and by dominant context.

They are no input of the model: what it reads of a user's past are the counters at the request (DESIGN 4).
Recency, frequency and value follow Hughes, "Strategic Database Marketing" (1994), with tertiles for quintiles.
"""

from pathlib import Path

from recllm.config import Config
from recllm.data.scatter import connect
from recllm.data.sources.files import literal, quote

# part of the day until this local hour, the one table that names dayparts for reports
DAYPARTS = ((6, "night"), (11, "morning"), (17, "midday"), (22, "evening"), (24, "night"))
DAYPART = "CASE " + " ".join(f"WHEN hour < {end} THEN '{name}'" for end, name in DAYPARTS) + " END"


def write_segments(config: Config, folder: Path) -> dict[str, dict[str, int]]:
    """Write `segments.parquet` (user, recency_days, frequency, value, behaviour, dominant_*). Returns users per segment.

    `behaviour`: `loyal` (upper third by frequency, seen in the last third), `valuable` (upper third by value among the
    rest), `lapsed` (least recent third), else `occasional`. Value is the number of positives of the last binary outcome.
    """
    schema = config.columns
    value = quote(schema.binary[-1])
    context = {n for n, spec in schema.context.items() if spec.kind in ("category", "place") and not spec.list}
    dominant = "".join(f", mode({quote(n)}) AS {quote('dominant_' + n)}" for n in schema.context if n in context)
    target = literal(folder / "segments.parquet")
    connection = connect(threads=1)  # of values that are equally frequent mode() takes the first: two threads have two of them
    connection.execute(f"""COPY (
        WITH rows AS (SELECT *, (time // 60000 + utc_offset) // 60 % 24 AS hour
                      FROM read_parquet({literal(folder / 'data' / 'train-*.parquet')})),
        users AS (SELECT "user", ((SELECT max(time) FROM rows) - max(time)) / 864e5 AS recency_days, count(*) AS frequency,
                         coalesce(sum({value}), 0) AS value, mode({DAYPART}) AS dominant_daypart{dominant} FROM rows GROUP BY "user"),
        edges AS (SELECT quantile_disc(recency_days, [1/3, 2/3]) AS r, quantile_disc(frequency, 2/3) AS f,
                         quantile_disc(value, 2/3) AS v FROM users)
        SELECT users.*, CASE WHEN frequency >= f AND recency_days <= r[1] THEN 'loyal'
            WHEN value > v THEN 'valuable' WHEN recency_days > r[2] THEN 'lapsed' ELSE 'occasional' END AS behaviour
        FROM users, edges ORDER BY "user") TO {target} (FORMAT parquet, COMPRESSION zstd)""")
    shares = {}
    for column in ("behaviour", "dominant_daypart", *(f"dominant_{n}" for n in schema.context if n in context)):
        rows = connection.execute(f"""SELECT coalesce({quote(column)}, 'unknown'), count(*) AS n FROM read_parquet({target})
                                      GROUP BY 1 ORDER BY n DESC, 1 LIMIT 8""").fetchall()
        shares[column] = {str(name): int(n) for name, n in rows}
    return shares
