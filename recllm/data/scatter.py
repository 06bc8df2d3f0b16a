"""scatter(part of a raw file) -> user buckets: reads, types and checks every row once, in a stream; what is dropped keeps its reason.

A row is known by its number `row`, see partition. Rows leave as Arrow streams, one a bucket.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow.parquet as pq

from recllm.config import Config
from recllm.data.columns import INTEGERS, Columns
from recllm.data.engine import connect
from recllm.data.partition import ENTRY, FILE, Partition, RawFile, rejected_lines
from recllm.data.pseudonyms import Forgotten, Ids, raw_struct
from recllm.data.rules import first_broken, row_rules
from recllm.data.shapes import is_odd, lists, lowered, raw_columns, shape, typed_columns
from recllm.data.sources.files import as_text, as_text_relation, columns_of, detect, literal, quote, reading
from recllm.data.sources.lines import mended
from recllm.data.sources.places import key_values
from recllm.data.sources.scan import ADAPTERS, scan
from recllm.data.sources.watch import Unchanged
from recllm.errors import DataError, did_you_mean

SEEN = "recllm_seen"  # our own columns beside the file's, under names that no file has
ROWS_PER_TASK = 2_000_000  # of one Parquet file; larger ones are read in parts
HEADERLESS = ("jsonl", "parquet", "datasets", "arrow", "sqlite")


@dataclass(frozen=True)
class ScatterTask:
    config: Config
    path: str
    label: str  # the source as it is named to the user
    file: int  # place of the file in the log
    index: int  # place of this task among all
    folder: Path | None  # None: only count
    buckets: int
    memory: int | None = None  # bytes
    rows: tuple[int, int] | None = None  # first and behind the last row of this part; None: the whole file
    late: int | None = None  # UTC ms: older rows are kept out, for the item counts have closed that period
    only: tuple[str, ...] = ()  # raw ids: rows of these users alone


@dataclass(frozen=True)
class ScatterResult:
    rows: int
    dropped: dict[str, int]
    mended: dict[str, int]  # kept rows with a value that could not be read and is unknown now, by field
    problems: list[tuple[int, str, str]]  # (line, rule, row) of the first dropped rows
    hours: dict[int, int] = field(default_factory=dict)  # kept rows by hour since 1970
    kept: int = 0


def check_columns(found: list[str], needed: dict[str, str], where: str) -> None:
    """Raise DataError naming the first column that the schema wants and the file lacks."""
    for key, column in needed.items():
        if column not in found:
            twin = next((name for name in found if re.fullmatch(rf"(?i){re.escape(column)}_\d+", name)), None)
            if twin and column.casefold() in [name.casefold() for name in found]:  # the reader has renamed the second one
                raise DataError(f'{where}: expected columns that differ by more than case, found "{column}" and another that differs by '
                                f"case only: rename one in the file. Schema: {key}")
            raise DataError(f'column "{column}" is not in {where} (has: {", ".join(found)}).{did_you_mean(column, found)} Schema: {key}')


def raw_file(config: Config, path: str, place: int, label: str) -> RawFile:
    """The file as dropped rows name it: `label` is the source, where the path is its staged form."""
    staged = Path(path).suffix == ".parquet"
    headerless = config.data.format not in ADAPTERS and (staged or detect(Path(path), config.data.format) in HEADERLESS)
    return RawFile(place, label, 0 if headerless else 1)


def parts(config: Config, path: str) -> list[tuple[int, int] | None]:
    """Row ranges of a large Parquet file, along its row groups; one None for everything else."""
    file = Path(path)
    if config.data.format in ADAPTERS or file.suffix not in (".parquet", ".pq") or not file.is_file() or key_values(file):
        return [None]
    try:
        meta = pq.ParquetFile(file).metadata
    except (OSError, ValueError):
        return [None]  # scan says what is wrong with it
    ends, start, seen = [0], 0, 0
    for group in range(meta.num_row_groups):
        seen += meta.row_group(group).num_rows
        if seen - start >= ROWS_PER_TASK:
            ends.append(seen)
            start = seen
    ends = [*ends, seen] if ends[-1] < seen else ends
    return list(zip(ends[:-1], ends[1:], strict=True)) if len(ends) > 2 else [None]


class _LinesLost(Exception):
    """A quote that nobody closed swallowed lines, or the file's line ends are of several kinds: it can be read line by line."""


def _numbered(connection: duckdb.DuckDBPyConnection, task: ScatterTask) -> tuple[str, dict[str, str]]:
    """A table expression with SEEN (from 0) before the raw columns, and their types."""
    data, wanted = task.config.data, tuple(raw_columns(task.config.columns).values())
    if task.rows:
        first, end = task.rows
        relation = f"read_parquet({literal(task.path)}, file_row_number=true)"
        numbered = (f"(SELECT file_row_number AS {SEEN}, * EXCLUDE (file_row_number) FROM {relation} "
                    f"WHERE file_row_number >= {first} AND file_row_number < {end})")
    else:
        relation = scan(connection, task.path, format=data.format, delimiter=data.delimiter, wanted=wanted, typed=True)
        numbered = f"(SELECT row_number() OVER () - 1 AS {SEEN}, * FROM {relation})"
    schema = task.config.columns
    check_columns(columns_of(connection, relation, task.path), raw_columns(schema), task.path)
    if is_odd(schema):  # shapes read text
        numbered = as_text_relation(connection, numbered, but=SEEN)
    types = {name: kind for name, kind, *_ in connection.sql(f"DESCRIBE SELECT * FROM {numbered}").fetchall()}
    return shape(connection, numbered, schema), {name: kind for name, kind in types.items() if name != SEEN}


def _typed(task: ScatterTask, shaped: str, types: dict[str, str], ids: Ids) -> str:
    """SELECT of one row per raw row: row, bucket (`buckets` for a dropped one), content, reason, raw, mended, and the typed columns.

    `content` is equal for exact copies, in whatever format they came; `raw` is the row as JSON, of dropped rows only.
    """
    config, columns = task.config, Columns(types)
    roles = typed_columns(config.columns, types)
    typed = ", ".join(f"{sql} AS {quote(name)}" for name, sql in roles.items())
    numeric = _read_as_numbers(config)
    content = ", ".join(columns.double(name) if name in numeric else as_text(name, types[name]) for name in sorted(types))
    raw = raw_struct(ids.kept_raw(types, raw_columns(config.columns).values()))
    only = f"WHERE \"user\" IN ({', '.join(map(literal, task.only))})" if task.only else ""
    unread = []
    for bit, (name, spec) in enumerate(_numbers(config).items()):
        column = spec.column or name
        if types.get(column) not in INTEGERS:
            unread.append(f"(CASE WHEN {quote(name)} IS NULL AND {quote(f'{SEEN}_unread_{name}')} IS NOT NULL THEN {2 ** bit} ELSE 0 END)")
            typed += f", {columns.text(column)} AS {quote(f'{SEEN}_unread_{name}')}"
    names = ", ".join(quote(n) for n in roles if n != "misshapen")
    place = f"coalesce({lists.ENTRY}.place, 0)" if config.columns.impressions else "0"
    broken = first_broken(row_rules(config.columns, config.data.rules, task.late))
    return f"""
        SELECT {task.file} * {2 ** FILE} + {SEEN} * {2 ** ENTRY} + {SEEN}_place AS row,
               CASE WHEN {SEEN}_broken IS NULL THEN ('0x' || md5("user")[:8])::BIGINT % {task.buckets} ELSE {task.buckets} END AS bucket,
               {SEEN}_content AS content, {SEEN}_broken AS reason,
               CASE WHEN {SEEN}_broken IS NOT NULL THEN CAST(to_json({SEEN}_raw) AS VARCHAR) END AS raw,
               CAST({' + '.join(unread) or '0'} AS INTEGER) AS mended, {names}
        FROM (SELECT *, {broken} AS {SEEN}_broken
              FROM (SELECT {SEEN}, {place} AS {SEEN}_place, hash({content}) AS {SEEN}_content, struct_pack({raw}) AS {SEEN}_raw, {typed}
                    FROM {shaped}) {only})"""


def _read_as_numbers(config: Config) -> set[str]:
    """Raw columns that are compared as numbers: equal in every format, and cheaper than their text."""
    schema = config.columns
    found = {spec.column or name for name, spec in schema.context.items() if spec.kind == "number"}
    found |= {spec.column or name for name, spec in schema.outcomes.items() if not (spec.derived or spec.every_row)}
    return found - {field.column or name for name, field in schema.context.items() if field.kind != "number"}


def _numbers(config: Config) -> dict:
    return {name: spec for name, spec in lowered(config.columns).context.items() if spec.kind == "number"}


def _swallowed(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the reader refused several lines as one."""
    refused = rejected_lines(connection) or "SELECT '' AS content WHERE false"
    return bool(connection.execute(f"SELECT count(*) FROM ({refused}) WHERE contains(content, chr(10))").fetchall()[0][0])


def scatter(task: ScatterTask) -> ScatterResult:
    """Write the rows that are kept by user bucket, and the dropped ones with their reason; without a folder it only counts."""
    data = task.config.data
    try:
        return _scattered(task, may_mend=data.format not in ADAPTERS and detect(Path(task.path), data.format) == "csv")
    except _LinesLost:
        with TemporaryDirectory(dir=task.folder and task.folder / "spill") as folder:
            copy = mended(Path(task.path), data.delimiter, tuple(raw_columns(task.config.columns).values()), Path(folder))
            return _scattered(replace(task, path=str(copy or task.path)), may_mend=False)


def _scattered(task: ScatterTask, *, may_mend: bool) -> ScatterResult:
    """Raises _LinesLost where the file should be read again, from a mended copy."""
    spill = task.folder / "spill" if task.folder else None
    connection = connect(task.config.columns.time.zone, memory=task.memory, spill=spill)
    ids = Ids.of(task.config, task.folder and task.folder.parent)
    ids = replace(ids, forgotten=Forgotten()) if task.only else ids
    with Unchanged(task.path), Partition(task.folder, task.index, task.buckets, ids) as out, reading(task.label):
        try:
            for batch in connection.sql(_typed(task, *_numbered(connection, task), ids)).to_arrow_reader(Partition.ROWS):
                out.add(batch)
        except duckdb.Error as error:
            if may_mend and "state machine" in str(error):
                raise _LinesLost from None
            raise
        if may_mend and _swallowed(connection):
            raise _LinesLost
        if not task.only:  # nobody knows whose a line is that could not be read
            out.refuse(connection, raw_file(task.config, task.path, task.file, task.label))
    unread = {f"unreadable_{name}": out.mended[bit] for bit, name in enumerate(_numbers(task.config)) if out.mended[bit]}
    return ScatterResult(out.rows, dict(out.dropped), unread | dict(out.unreadable), out.problems, dict(out.hours), out.kept)


def total(counts: list[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(c) for c in counts), Counter()))
