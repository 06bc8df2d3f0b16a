"""KuaiRand-Pure (Gao et al., CIKM 2022): the folder of the publisher's CSV files, or a slice of it as Parquet.

https://kuairand.com; the archive's `data` folder holds `log_standard_*_pure.csv`, `user_features_pure.csv` and
`video_features_basic_pure.csv`. A slice holds `interactions`, `users`, `items` and, for the time before it, `history.parquet`: what
each user was shown, without times, context and outcomes.
"""

from pathlib import Path

import duckdb

from recllm.data.sources.files import literal

FILES = {"interactions": ("interactions.parquet", "log_standard_*_pure.csv"), "users": ("users.parquet", "user_features_pure.csv"),
         "items": ("items.parquet", "video_features_basic_pure.csv")}
SIGNALS = ("is_like", "is_follow", "is_comment", "is_forward")


def files(folder: Path, table: str) -> list[Path]:
    """The files of one table: a slice's, or the publisher's in the folder itself or in its `data`."""
    sliced, published = FILES[table]
    found = [folder / sliced] if (folder / sliced).is_file() else []
    return found or sorted({*folder.glob(published), *folder.glob(f"data/{published}")})


def rows(connection: duckdb.DuckDBPyConnection, relation: str, folder: Path, table: str) -> str:
    """What the log means: impressions with their older history, or videos; users as the publisher has them."""
    if table == "items":  # a length of 0 is unknown
        return f"(SELECT * REPLACE (NULLIF(NULLIF(video_duration, '0'), '0.0') AS video_duration) FROM {relation})"
    return relation if table == "users" else _interactions(relation, folder / "history.parquet")


def _interactions(relation: str, history: Path) -> str:
    """One row per impression, `engaged` being a like, follow, comment or forward; then what was shown before the log.

    Older rows have an order and no times: they become history-only events some milliseconds before the last of them.
    """
    logged = f"SELECT *, greatest({', '.join(SIGNALS)}) AS engaged, '1' AS scored, NULL AS past FROM {relation}"
    if not history.is_file():
        return f"({logged})"
    # `watch_seq` is in order of time; k counts from its end
    older = f"""SELECT user_id, CAST(watch_seq[p] AS VARCHAR) AS video_id, '0' AS scored,
                  CAST(last_time_ms - (len(watch_seq) - p) AS VARCHAR) AS time_ms,
                  CASE WHEN list_contains(like_seq, watch_seq[p]) THEN 'liked'
                       WHEN list_contains(long_watch_seq, watch_seq[p]) THEN 'watched long' ELSE 'shown' END AS past
                FROM (SELECT * REPLACE (CAST(user_id AS VARCHAR) AS user_id), unnest(range(1, len(watch_seq) + 1)) AS p
                      FROM read_parquet({literal(history)}))"""
    return f"({logged} UNION ALL BY NAME {older})"
