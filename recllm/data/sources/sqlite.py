"""SQLite, by the standard library: a table or a query as Parquet, read in batches, every value as text.

A source is `sqlite:///shop.db?table=events`, `sqlite:////data/shop.db?query=SELECT ...` (three slashes and a relative path, or four and
an absolute one, as in SQLAlchemy), or the plain path of a database with one table.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote

import pyarrow as pa

from recllm.data.sources.arrow import write_batches
from recllm.errors import DataError, did_you_mean

BATCH = 20_000  # rows


def parts_of(source: str) -> tuple[Path, str | None, str | None]:
    """(file, table, query). Raises DataError for what is no SQLite source."""
    if not source.lower().startswith("sqlite://"):
        return Path(source), None, None
    place, _, query = source[len("sqlite://"):].partition("?")
    options = parse_qs(query, keep_blank_values=True)
    if not place.startswith("/") or len(place) < 2 or set(options) - {"table", "query"} or len(options) > 1:
        raise DataError(f"{source}: expected sqlite:///FILE?table=NAME or sqlite:///FILE?query=SELECT ... (an absolute path has four /)")
    return Path(unquote(place[1:])), *(options.get(name, [None])[0] for name in ("table", "query"))  # type: ignore[return-value]


def state_files(source: str) -> list[Path]:
    """The files whose size and time say whether the database has changed: its own, and the log of writes beside it."""
    path = parts_of(source)[0]
    return [path, *(p for p in [path.with_name(path.name + "-wal")] if p.exists())]


def _text(value: object) -> str | None:
    """A value as text; whole floats lose their `.0`, as in every other source."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 9e15:
        return str(int(value))
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _select(connection: sqlite3.Connection, source: str, table: str | None, query: str | None) -> str:
    if query:
        return query
    names = [row[0] for row in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name")]
    if table is None and len(names) != 1:
        raise DataError(f"{source}: expected one table, found {', '.join(names) or 'none'}: choose with sqlite:///FILE?table=NAME")
    if table is not None and table not in names:
        raise DataError(f'{source}: table "{table}" is not there (has: {", ".join(names) or "none"}).{did_you_mean(table, names)}')
    return 'SELECT * FROM "' + (table or names[0]).replace('"', '""') + '"'


def _batches(cursor: sqlite3.Cursor, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while rows := cursor.fetchmany(BATCH):
        columns = [pa.array([_text(value) for value in column], pa.string()) for column in zip(*rows, strict=True)]
        yield pa.record_batch(columns, schema=schema)


def sqlite_to_parquet(source: str, target: Path) -> None:
    """Write the table or the query's rows. Raises DataError with the database's own words; opens it for reading only."""
    path, table, query = parts_of(source)
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(_select(connection, source, table, query))
            if cursor.description is None:
                raise DataError(f"{source}: expected a query that gives rows, found none")
            schema = pa.schema([(column[0], pa.string()) for column in cursor.description])
            if len(set(schema.names)) < len(schema.names):
                raise DataError(f"{source}: expected one column of each name, found {', '.join(schema.names)}: name them with AS")
            write_batches(pa.RecordBatchReader.from_batches(schema, _batches(cursor, schema)), target)
    except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
        raise DataError(f"{source}: could not read it: {' '.join(str(error).split())}") from None
