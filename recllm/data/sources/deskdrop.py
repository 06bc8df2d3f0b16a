"""Deskdrop (CI&T, published on Kaggle as `articles-sharing-reading-from-cit-deskdrop`): CSV files as published, or a slice as Parquet.

A view is a click; like, bookmark, comment and follow are events of their own at their own time. Nothing is logged that was not
opened: candidates come from `data.negatives`.
"""

from pathlib import Path

import duckdb

from recllm.data.sources.agents import register_devices

FILES = {"interactions": ("interactions.parquet", "users_interactions.csv"), "items": ("articles.parquet", "shared_articles.csv")}
SITE = r"'^https?://(?:www\.)?([^/:]+)'"


def files(folder: Path, table: str) -> list[Path]:
    """The file of one table: a slice's, or the publisher's; there is no table of users."""
    return [folder / name for name in FILES.get(table, ()) if (folder / name).is_file()][:1]


def rows(connection: duckdb.DuckDBPyConnection, relation: str, folder: Path, table: str) -> str:
    """What the log means: events, or articles."""
    return _interactions(connection, relation) if table == "interactions" else _items(connection, relation)


def _interactions(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """One row per event: `click` 1 for a view and else unknown, `engaged` 0 for a view and 1 for every other event; only views are
    scored. `device` and `system` come from the user agent."""
    register_devices(connection, relation, "userAgent", "recllm_devices")
    view = "eventType = 'VIEW'"
    return f"""(SELECT log.* EXCLUDE (userAgent), device, system, CASE WHEN {view} THEN '1' END AS click,
                       CASE WHEN {view} THEN '0' ELSE '1' END AS engaged, CASE WHEN {view} THEN '1' ELSE '0' END AS scored
                FROM {relation} log LEFT JOIN recllm_devices ON log.userAgent = recllm_devices.agent)"""


def _items(connection: duckdb.DuckDBPyConnection, relation: str) -> str:
    """One row per article: its first sharing. A slice lacks `text` and the time of sharing, which are unknown then."""
    have = {row[0] for row in connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    text = "text" if "text" in have else "CAST(NULL AS VARCHAR) AS text"
    shared = "timestamp AS shared" if "timestamp" in have else "CAST(NULL AS VARCHAR) AS shared"
    order = "QUALIFY row_number() OVER (PARTITION BY contentId ORDER BY CAST(timestamp AS BIGINT)) = 1" if "timestamp" in have else ""
    first = "WHERE eventType = 'CONTENT SHARED'" if "eventType" in have else ""
    return f"""(SELECT contentId, contentType, url, title, lang, {text}, {shared},
                       regexp_extract(url, {SITE}, 1) AS site FROM {relation} {first} {order})"""
