"""scatter(raw file) -> user buckets: reads, types and checks every row; what is dropped is kept with reason and line."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recllm.config import Config
from recllm.data.columns import interaction_columns, required_columns
from recllm.data.rules import first_broken, row_rules
from recllm.data.sources.files import columns_of, literal, quote
from recllm.data.sources.scan import scan
from recllm.errors import DataError, did_you_mean

SEEN = "recllm_seen"  # our own columns beside the file's, under a name that no file has


@dataclass(frozen=True)
class ScatterTask:
    config: Config
    path: str
    index: int
    folder: Path | None
    buckets: int


@dataclass(frozen=True)
class ScatterResult:
    rows: int
    dropped: dict[str, int]
    mended: dict[str, int]  # kept rows with a value that could not be read and is unknown now, by field
    problems: list[tuple[int, str, str]]  # (line, rule, row) of the first dropped rows


def connect(zone: str = "UTC", threads: int = 1) -> duckdb.DuckDBPyConnection:
    """An in-memory database that reads naive times in `zone` and reports rows in the file's order."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone={literal(zone)}; SET threads={threads}; SET enable_progress_bar=false")
    return connection


def check_columns(found: list[str], needed: dict[str, str], where: str) -> None:
    """Raise DataError naming the first column that the schema wants and the file lacks."""
    for key, column in needed.items():
        if column not in found:
            raise DataError(f'column "{column}" is not in {where} (has: {", ".join(found)}).{did_you_mean(column, found)} Schema: {key}')


def load_raw(connection: duckdb.DuckDBPyConnection, config: Config, path: str) -> int:
    """Table `typed`: line, raw (JSON text), broken (rule or NULL) and one column per role. Returns the number of rows read."""
    needed = required_columns(config.columns)
    relation = scan(connection, path, format=config.data.format, delimiter=config.data.delimiter, wanted=tuple(needed.values()))
    check_columns(columns_of(connection, relation, path), needed, path)
    try:
        connection.execute(f"CREATE TEMP TABLE raw AS SELECT row_number() OVER () AS {SEEN}, * FROM {relation}")
    except duckdb.Error as error:
        raise DataError(f"{path}: could not be read to its end: {str(error).splitlines()[0]}") from None
    rejects = rejected_lines(connection)
    # the k-th row that was read stands on line k + 1 (header) + the rejected lines before it
    connection.execute("CREATE TEMP TABLE rejected(line BIGINT, content VARCHAR)")
    if rejects:
        connection.executemany("INSERT INTO rejected VALUES (?, ?)", rejects)
    typed = ", ".join(f"{sql} AS {quote(name)}" for name, sql in interaction_columns(config.columns).items())
    raw = ", ".join(f"{quote(n)} := {quote(n)}" for n in columns_of(connection, "raw", path) if n != SEEN)
    connection.execute(f"""
        CREATE TEMP TABLE typed AS SELECT *, {first_broken(row_rules(config.columns, config.data.rules))} AS broken FROM (
          SELECT {SEEN} + 1 + {SEEN}_rejected AS line, to_json(struct_pack({raw})) AS raw, {typed}
          FROM (SELECT raw.*, coalesce(r.{SEEN}_count, 0) AS {SEEN}_rejected
                FROM raw ASOF LEFT JOIN (SELECT line - 1 - row_number() OVER (ORDER BY line) AS {SEEN}_before,
                                                row_number() OVER (ORDER BY line) AS {SEEN}_count FROM rejected) r
                ON raw.{SEEN} > r.{SEEN}_before))""")
    return int(connection.execute("SELECT count(*) FROM raw").fetchall()[0][0]) + len(rejects)


def rejected_lines(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, str]]:
    """Lines that the CSV reader refused; empty for other formats, which have no such table."""
    tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "reject_errors" not in tables:
        return []
    rows = connection.execute("SELECT line, any_value(csv_line) FROM reject_errors GROUP BY line ORDER BY line").fetchall()
    return [(int(line), content or "") for line, content in rows]


def _mended(connection: duckdb.DuckDBPyConnection, config: Config) -> dict[str, int]:
    """Kept rows whose context number was text, NaN or infinite: the row stays, the value is unknown."""
    counts = {}
    for name, spec in config.columns.context.items():
        if spec.kind == "number":
            raw = f"json_extract_string(raw, {literal('$.' + quote(spec.column or name))})"
            sql = f"SELECT count(*) FROM typed WHERE broken IS NULL AND {quote(name)} IS NULL AND NULLIF(TRIM({raw}), '') IS NOT NULL"
            counts[f"unreadable_{name}"] = int(connection.execute(sql).fetchall()[0][0])
    return {name: n for name, n in counts.items() if n}


def scatter(task: ScatterTask) -> ScatterResult:
    """Write the file's kept rows by user bucket and its dropped rows with their reason; without a folder it only counts."""
    connection = connect(task.config.columns.time.zone)
    rows = load_raw(connection, task.config, task.path)
    file = literal(task.path)
    dropped_sql = f"""SELECT {file} AS file, line, broken AS reason, CAST(raw AS VARCHAR) AS row FROM typed WHERE broken IS NOT NULL
                      UNION ALL SELECT {file}, line, 'malformed_line', content FROM rejected"""
    dropped = dict(connection.execute(f"SELECT reason, count(*) FROM ({dropped_sql}) GROUP BY reason").fetchall())
    problems = connection.execute(f"SELECT line, reason, row FROM ({dropped_sql}) ORDER BY line LIMIT 20").fetchall()
    if task.folder is not None:
        target = task.folder / "dropped" / f"scatter-{task.index}.parquet"
        connection.execute(f"COPY ({dropped_sql} ORDER BY line) TO {literal(target)}")
        connection.execute(f"""COPY (SELECT {file} AS file, * EXCLUDE (broken), ('0x' || md5("user")[:8])::BIGINT % {task.buckets} AS bucket
                                     FROM typed WHERE broken IS NULL)
                               TO {literal(task.folder / 'buckets' / str(task.index))} (FORMAT parquet, PARTITION_BY (bucket))""")
    return ScatterResult(rows, dropped, _mended(connection, task.config), problems)
