"""The rows of some users in the raw sources, which are only read: where they are still found, and what scatter made of them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from recllm.config import Config
from recllm.data.columns import text
from recllm.data.engine import connect
from recllm.data.scatter import ScatterResult, ScatterTask, parts, scatter
from recllm.data.sources.files import literal
from recllm.data.sources.places import shown
from recllm.data.sources.scan import scan
from recllm.data.staging import staged


@dataclass
class RawRows:
    """results: by scatter's task; kept: by bucket; found: rows of the users by source, tables beside the log included."""

    results: dict[int, list[ScatterResult]] = field(default_factory=dict)
    kept: Counter[int] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)


def raw_rows(config: Config, users: dict[int, list[str]]) -> RawRows:
    """Read the sources for users (bucket -> raw ids). Raises DataError where one cannot be read."""
    log, raw = staged(config), RawRows()
    ranges = [(file, path, label, rows) for file, (path, label) in enumerate(log.files) for rows in parts(config, path)]
    for index, (file, path, label, rows) in enumerate(ranges):
        for bucket, ids in users.items():
            result = scatter(ScatterTask(log.config, path, label, file, index, None, 1, rows=rows, only=tuple(ids)))
            raw.results.setdefault(index, []).append(result)
            raw.kept[bucket] += result.kept
            raw.mended.update(result.mended)
            raw.found[label] += result.rows
    schema, everyone = config.columns, [id for ids in users.values() for id in ids]
    relations: list[str] = [schema.relations.user, schema.relations.other] if schema.relations else []
    tables: list[tuple[str, list[str]]] = [("users", [schema.user]), ("items", [schema.item] if schema.relations else []),
                                           ("relations", relations)]
    for table, columns in tables:
        for path in getattr(log.config.data, table) if columns else []:
            raw.found[shown(path)] += _rows(log.config, path, table, columns, everyone)
    raw.found += Counter()  # without zeros
    return raw


def _rows(config: Config, path: str, table: str, columns: list[str], users: list[str]) -> int:
    """Rows of a table beside the log that hold one of the users."""
    connection, listed = connect(), ", ".join(map(literal, users))
    format: Any = "auto" if config.data.format == "simulate" else config.data.format
    relation = scan(connection, path, format=format, delimiter=config.data.delimiter, table=table, wanted=tuple(columns))
    theirs = " OR ".join(f"coalesce({text(column)} IN ({listed}), false)" for column in columns)
    return int(connection.execute(f"SELECT count(*) FROM {relation} WHERE {theirs}").fetchall()[0][0])
