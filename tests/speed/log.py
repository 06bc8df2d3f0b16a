"""A log of any size out of a seed: twelve columns, in order of time, users and items by a power law, a few outcomes unknown."""

from pathlib import Path

import duckdb

ZIPF_USERS, ZIPF_ITEMS = 1.5, 2.5
DAYS, START = 90, 1_700_000_000_000  # ms
SCHEMA = {
    "user": "user_id", "item": "item_id", "time": {"column": "ts", "unit": "ms"},
    "context": {"device": {}, "place": {"kind": "place"}, "surface": {}, "temperature": {"kind": "number"}, "slot": {"kind": "number"},
                "campaign": {}},
    "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary"}, "duration": {"kind": "duration"}},
}  # fmt: skip
SPLIT = {"validation": "2024-01-25", "test": "2024-02-04"}


def write_log(path: Path, events: int, seed: int = 0, heavy: float = 0.0) -> Path:
    """Write `events` rows as Parquet; `heavy` is the share of them that one user has. The same file for the same arguments."""
    connection = duckdb.connect()
    connection.execute("SET threads=2; SET memory_limit='2GB'; SET enable_progress_bar=false")
    connection.execute(f"CREATE MACRO r(i, k) AS (hash(i * 31 + k + {seed} * 1000003) >> 11) / 9007199254740992.0")
    users, step = max(events // 100, 10), DAYS * 86_400_000_000 // events
    user = f"'u' || CAST(floor({users} * pow(r(i, 1), {ZIPF_USERS})) AS BIGINT)"
    connection.execute(f"""COPY (SELECT
        CASE WHEN r(i, 14) < {heavy} THEN 'heavy' ELSE {user} END AS user_id,
        'i' || CAST(floor(20000 * pow(r(i, 2), {ZIPF_ITEMS})) AS BIGINT) AS item_id,
        {START} + (i * {step}) // 1000 AS ts,
        ['mobile', 'desktop', 'tv', 'tablet'][1 + CAST(floor(4 * r(i, 4) * r(i, 4)) AS INT)] AS device,
        'city' || CAST(floor(200 * r(i, 5) * r(i, 5)) AS INT) AS place,
        ['home', 'search', 'related', 'mail', 'push'][1 + CAST(floor(5 * r(i, 6)) AS INT)] AS surface,
        (CAST(floor(r(i, 7) * 350) AS INT) - 50) / 10.0 AS temperature,
        CAST(floor(r(i, 8) * 24) AS INT) AS slot,
        CASE WHEN r(i, 9) >= 0.02 THEN CAST(r(i, 10) < 0.2 AS TINYINT) END AS click,
        CAST(r(i, 10) < 0.03 AS TINYINT) AS purchase,
        CASE WHEN r(i, 10) < 0.2 THEN CAST(floor(-600 * ln(r(i, 11) + 1e-9)) AS INT) / 10.0 ELSE 0.0 END AS duration,
        CASE WHEN r(i, 12) < 0.5 THEN 'campaign' || CAST(floor(r(i, 13) * 50) AS INT) END AS campaign
        FROM range({events}) t(i)) TO '{path}' (FORMAT parquet, COMPRESSION zstd)""")
    return path
