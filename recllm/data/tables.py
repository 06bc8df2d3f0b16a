"""The tables beside the log: items.parquet and users.parquet, one row per id, log ids without an entry included (`listed` false)."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from recllm.config import Config
from recllm.data.columns import Columns
from recllm.data.engine import connect
from recllm.data.partition import rejected_lines
from recllm.data.scatter import check_columns
from recllm.data.shapes.numbers import lowered_numbers, relation_with_numbers
from recllm.data.sources.files import columns_of, literal, quote
from recllm.data.sources.scan import scan
from recllm.data.stopped import stopped
from recllm.data.whole import whole_file
from recllm.errors import DataError
from recllm.schema import Schema

TEXT = Columns()  # tables are read as text

LATEST = 2**41 - 1  # ms, in the year 2039: keys of (item, moment) hold no later one


def item_columns(schema: Schema) -> dict[str, str]:
    """Field -> SQL over the raw items table. A name declared in several roles is stored once, in its most precise form."""
    columns = {name: TEXT.field(name, f) for name, f in (schema.item_text | schema.item_category).items()}
    columns |= {name: TEXT.number(f.column or name) for name, f in schema.item_number.items()}
    columns |= {name: f"list_transform({TEXT.values(f.column or name, f.separator)}, lambda x: TRY_CAST(x AS DOUBLE))"
                for name, f in schema.item_vector.items()}
    # no precise form of its own: a field that has another role keeps that one's
    columns = {name: TEXT.field(name, f) for name, f in schema.item_info.items()} | columns
    return columns | ({"published": TEXT.moment(schema.published)} if schema.published else {})


def item_needs(schema: Schema) -> dict[str, str]:
    """Schema key -> raw column that the items table must have."""
    groups = {"item_text": schema.item_text, "item_category": schema.item_category,
              "item_number": schema.item_number, "item_vector": schema.item_vector, "item_info": schema.item_info}
    needed = {"item": schema.item} | {f"{group}.{n}": f.column or n for group, fields in groups.items() for n, f in fields.items()}
    return needed | ({"published": schema.published.column} if schema.published else {})


def user_columns(schema: Schema) -> dict[str, str]:
    return {name: TEXT.field(name, spec) for name, spec in schema.profile.items()}


def user_needs(schema: Schema) -> dict[str, str]:
    return {"user": schema.user} | {f"profile.{n}": s.column or n for n, s in schema.profile.items()}


def relation_needs(schema: Schema) -> dict[str, str]:
    spec = schema.relations
    return {"relations.user": spec.user, "relations.other": spec.other, "relations.since": spec.since.column} if spec else {}


def _checked(connection: duckdb.DuckDBPyConnection, config: Config, path: str, needed: dict[str, str], table: str) -> str:
    """Table expression of one file that has every declared column."""
    format = "auto" if config.data.format == "simulate" else config.data.format
    relation = scan(connection, path, format=format, delimiter=config.data.delimiter, table=table, wanted=tuple(needed.values()))
    check_columns(columns_of(connection, relation, path), needed, path)
    return relation_with_numbers(relation, config.columns, table)


def _load(connection: duckdb.DuckDBPyConnection, config: Config, paths: list[str], key: str, columns: dict[str, str],
          needed: dict[str, str], table: str) -> None:
    """Table `loaded`: file, line, broken, id and fields of every row of the files."""
    parts = []
    for path in paths:
        relation = _checked(connection, config, path, needed, table)
        fields = "".join(f", {sql} AS {quote(name)}" for name, sql in columns.items())
        parts.append(f"SELECT {literal(path)} AS file, row_number() OVER () + 1 AS line, {TEXT.text(key)} AS id{fields} FROM {relation}")
    union = " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)
    try:
        connection.execute(f"""CREATE TEMP TABLE loaded AS SELECT *, CASE WHEN id IS NULL THEN 'missing_id'
        WHEN row_number() OVER (PARTITION BY id ORDER BY file, line) > 1 THEN 'duplicate_id' END AS broken FROM ({union})""")
    except duckdb.Error as error:
        raise stopped(error) or DataError(f"{', '.join(paths)}: could not be read to the end: {str(error).splitlines()[0]}") from None


def check_tables(config: Config) -> None:
    """Raise DataError for a users' or items' table that is missing, or lacks a declared column."""
    for table, paths, needed in (("items", config.data.items, item_needs(config.columns)),
                                 ("users", config.data.users, user_needs(config.columns)),
                                 ("relations", config.data.relations, relation_needs(config.columns))):
        for path in paths:
            _checked(connect(), config, path, needed, table)


def _refused(connection: duckdb.DuckDBPyConnection) -> str:
    """SQL of the lines that the CSV reader refused, as dropped rows."""
    refused = rejected_lines(connection) or "SELECT 0::BIGINT AS line, '' AS content WHERE false"
    connection.execute(f"CREATE TEMP TABLE refused AS {refused}")
    return "SELECT '' AS file, line, 'malformed_line' AS reason, content AS row FROM refused"


def _dropped(connection: duckdb.DuckDBPyConnection, refused: str, path: Path) -> dict[str, int]:
    """Write the broken rows of `loaded` and the refused lines, if there are any. Returns their number by reason."""
    rows = f"""SELECT file, line, broken AS reason, CAST(to_json(recllm_row) AS VARCHAR) AS row FROM loaded AS recllm_row
               WHERE broken IS NOT NULL
               UNION ALL {refused}"""
    counts = dict(connection.execute(f"SELECT reason, count(*) FROM ({rows}) GROUP BY reason ORDER BY reason").fetchall())
    if counts:
        with whole_file(path) as part:
            connection.execute(f"COPY ({rows} ORDER BY file, line) TO {literal(part)} (FORMAT parquet)")
    return counts


def write_relations(config: Config, folder: Path) -> dict[str, int]:
    """Write `relations.parquet` (user, other, since in UTC ms). Returns dropped rows by reason. Raises DataError as `write_table`."""
    spec = config.columns.relations
    if spec is None:
        return {}
    connection = connect(spec.since.zone, threads=2)
    needed = relation_needs(config.columns)
    ids = f'{TEXT.text(spec.user)} AS "user", {TEXT.text(spec.other)} AS other'
    parts = [f"""SELECT {literal(path)} AS file, row_number() OVER () + 1 AS line, {ids}, {TEXT.moment(spec.since)} AS since
                 FROM {_checked(connection, config, path, needed, 'relations')}"""
             for path in config.data.relations]
    try:
        connection.execute(f"""CREATE TEMP TABLE loaded AS SELECT *, CASE WHEN "user" IS NULL OR other IS NULL THEN 'missing_id'
            WHEN since IS NULL OR since < 0 OR since >= {LATEST} THEN 'bad_since' WHEN "user" = other THEN 'self' END AS broken
            FROM ({' UNION ALL '.join(f'SELECT * FROM ({part})' for part in parts)})""")
    except duckdb.Error as error:
        said = f"{', '.join(config.data.relations)}: could not be read to the end: {str(error).splitlines()[0]}"
        raise stopped(error) or DataError(said) from None
    refused = _refused(connection)
    kept = 'SELECT "user", other, min(since) AS since FROM loaded WHERE broken IS NULL GROUP BY ALL ORDER BY ALL'
    with whole_file(folder / "relations.parquet") as part:
        connection.execute(f"COPY ({kept}) TO {literal(part)} (FORMAT parquet, COMPRESSION zstd)")
    return _dropped(connection, refused, folder / "dropped" / "relations.parquet")


@dataclass(frozen=True)
class TablesTask:
    config: Config
    folder: Path
    index: int = 0


@dataclass(frozen=True)
class TablesResult:
    tables: dict[str, dict[str, int]]  # table -> dropped rows by reason


def write_tables(task: TablesTask) -> TablesResult:
    """The tables beside the log: what is listed of items and users, and `relations.parquet`."""
    counts = {f"{side}s": write_table(task.config, task.folder, side) for side in ("item", "user")}
    return TablesResult(counts | {"relations": write_relations(task.config, task.folder)})


def write_table(config: Config, folder: Path, side: str) -> dict[str, int]:
    """Write `listed-items.parquet` or `listed-users.parquet` (`side`: item or user), the rows of the table. Returns dropped rows by reason.

    Raises DataError for a missing file or column.
    """
    schema = config.columns
    paths, key = (config.data.items, schema.item) if side == "item" else (config.data.users, schema.user)
    columns = item_columns(lowered_numbers(schema)) if side == "item" else user_columns(lowered_numbers(schema))
    connection = connect((schema.published or schema.time).zone if side == "item" else schema.time.zone, threads=2)
    names = ", ".join(quote(n) for n in columns)
    counts: dict[str, int] = {}
    if paths:
        _load(connection, config, paths, key, columns, item_needs(schema) if side == "item" else user_needs(schema),
              f"{side}s")
        counts = _dropped(connection, _refused(connection), folder / "dropped" / f"{side}s.parquet")
        listed = f"SELECT id AS {quote(side)}, true AS listed{', ' + names if names else ''} FROM loaded WHERE broken IS NULL"
    else:
        listed = f"SELECT CAST(NULL AS VARCHAR) AS {quote(side)}, true AS listed WHERE false"
    with whole_file(folder / f"listed-{side}s.parquet") as part:
        connection.execute(f"COPY ({listed} ORDER BY {quote(side)}) TO {literal(part)} (FORMAT parquet, COMPRESSION lz4)")
    return counts


def complete_table(connection: duckdb.DuckDBPyConnection, folder: Path, side: str) -> tuple[int, int]:
    """Write `items.parquet` or `users.parquet`: what is listed, and the ids of kept rows that are not.

    Returns (ids in kept rows, those that are not listed)."""
    listed = f"read_parquet({literal(folder / f'listed-{side}s.parquet')})"
    log = f"SELECT DISTINCT {quote(side)} FROM read_parquet({literal(folder / 'partial' / f'{side}s-*.parquet')})"
    with whole_file(folder / f"{side}s.parquet") as part:
        connection.execute(f"""COPY (SELECT * FROM {listed} UNION ALL BY NAME
                                     SELECT {quote(side)}, false AS listed FROM ({log}) ANTI JOIN {listed} USING ({quote(side)})
                                     ORDER BY {quote(side)}) TO {literal(part)} (FORMAT parquet, COMPRESSION zstd)""")
    found = connection.execute(f"SELECT count(*) FROM ({log})").fetchall()[0][0]
    target = literal(folder / f"{side}s.parquet")
    unlisted = connection.execute(f"SELECT count(*) FROM read_parquet({target}) WHERE NOT listed").fetchall()[0][0]
    return int(found), int(unlisted)
