"""Postgres, by ADBC: a table or a query as Parquet, in Arrow batches. The only file that imports `adbc_driver_postgresql`.

A source is `postgresql://user:password@host/database?table=schema.events` or `...?query=SELECT ...`; other options go to libpq.
"""

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pyarrow as pa

from recllm.data.sources.arrow import write_batches
from recllm.data.sources.places import passwords, shown, without_secrets
from recllm.errors import DataError, MissingExtraError

SCHEMES = ("postgresql", "postgres")
ODD_PASSWORD = re.compile(r"\w+://[^:/?#@]*:([^@/]*[/?#][^=]*@|[^/?#]*@[^/?#]*@)")
STATE = """SELECT CAST(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS text)"""


def _adbc() -> Any:
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise MissingExtraError("postgresql:// needs adbc-driver-postgresql, which is not installed: "
                                "pip install 'recllm[postgres]'") from None
    return dbapi


def parts_of(source: str) -> tuple[str, str]:
    """(connection URL, SELECT). Raises DataError where neither a table nor a query is named, or both."""
    parts = urlsplit(source)
    if ODD_PASSWORD.match(source):  # libpq would print a part of it
        raise DataError(f"{shown(source)}: expected a password in which / ? # @ are written as %2F %3F %23 %40")
    options = parse_qsl(parts.query, keep_blank_values=True)
    named = [(key, value) for key, value in options if key in ("table", "query")]
    if len(named) != 1 or not named[0][1]:
        raise DataError(f"{shown(source)}: expected postgresql://user:password@host/database?table=NAME or ?query=SELECT ...")
    rest = urlencode([pair for pair in options if pair not in named], quote_via=quote)
    key, value = named[0]
    table = ".".join('"' + name.replace('"', '""') + '"' for name in value.split("."))
    return urlunsplit(parts._replace(query=rest)), value.rstrip("; \n") if key == "query" else f"SELECT * FROM {table}"


def _plain(kind: pa.DataType) -> bool:
    """Types that Arrow, Parquet and DuckDB hold alike; others (uuid, numeric, json, intervals, ranges) come as text."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_string, pa.types.is_date, pa.types.is_timestamp)
    return any(test(kind) for test in tests)


def _column(field: pa.Field) -> str:
    """A column as it is, an array as JSON text, anything else that has no plain type as the server's text."""
    name = '"' + field.name.replace('"', '""') + '"'
    if _plain(field.type):
        return name
    return f"CAST({f'to_json({name})' if pa.types.is_list(field.type) else name} AS text) AS {name}"


def _fail(source: str, error: Exception) -> DataError:
    return DataError(f"{shown(source)}: could not read it: {without_secrets(str(error), passwords(source))[:300]}")


def state_of(source: str) -> str:
    """Where the server's log of writes stands: equal means that nothing has been written; a busy server never says so."""
    dbapi = _adbc()
    url, _ = parts_of(source)
    try:
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(STATE)
            return str(cursor.fetchone()[0])
    except dbapi.Error as error:
        raise _fail(source, error) from None


def postgres_to_parquet(source: str, target: Path) -> None:
    """Write the table or the query's rows, in bounded memory. Raises DataError in one line that holds no password."""
    dbapi = _adbc()
    url, select = parts_of(source)
    try:
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            schema = cursor.adbc_execute_schema(select)
            cursor.execute(f"SELECT {', '.join(_column(field) for field in schema)} FROM ({select}) AS log")
            write_batches(cursor.fetch_record_batch(), target)
    except (dbapi.Error, pa.ArrowException) as error:
        raise _fail(source, error) from None
