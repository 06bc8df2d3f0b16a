"""CSV, JSON Lines, Parquet, Arrow and `datasets` folders as DuckDB table expressions.

Ids stay text end to end: "0017" keeps its zeros and a 64-bit id never passes through a float.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from recllm.data.sources.arrow import scan_arrow, scan_arrows
from recllm.data.sources.lines import dialect
from recllm.data.sources.nested import is_path, with_paths
from recllm.data.sources.places import key_values, readable
from recllm.data.sources.text import require_whole
from recllm.data.stopped import stopped
from recllm.errors import DataError

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".inter": "recbole", ".item": "recbole", ".user": "recbole",
            ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet",
            ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".db": "sqlite", ".sqlite": "sqlite", ".sqlite3": "sqlite"}
FLOATS = {"FLOAT", "DOUBLE"}


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """An SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def parquet(paths: Sequence[Path]) -> str:
    """A table expression over the rows of all these Parquet files."""
    return f"read_parquet([{', '.join(map(literal, paths))}])"


def as_text(column: str, kind: str) -> str:
    """SQL: a column of a DuckDB type as untrimmed text; lists and structs as JSON text, whole floats without their `.0`."""
    value = quote(column)
    if kind == "VARCHAR":
        return value
    if "[" in kind or kind.startswith(("STRUCT", "MAP")):
        value = f"to_json({value})"
    text = f"CAST({value} AS VARCHAR)"
    if kind in FLOATS:  # pandas makes 17 a 17.0 as soon as one id is missing
        whole = f"abs({value}) < 9e15 AND {value} = floor({value})"
        text = f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) ELSE {text} END"
    return text


def _suffix(path: Path) -> str:
    """`.csv` of `log.csv` and of `log.csv.gz`."""
    return next((s.lower() for s in reversed(path.suffixes) if s not in (".gz", ".zst")), "")


def _partitions(path: Path) -> str:
    """Options that make the `day=2026-01-01` folders of a path columns of text."""
    return ", hive_partitioning=true, hive_types_autocast=false" if key_values(path) else ", hive_partitioning=false"


def detect(path: Path, declared: str) -> str:
    """Format of a file by its name, unless it was declared."""
    if declared not in ("auto", "simulate"):
        return declared
    if path.is_dir():
        return "datasets"
    kind = SUFFIXES.get(_suffix(path))
    if kind is None:
        raise DataError(f"{path}: expected a name that ends in {', '.join(sorted(SUFFIXES))}, or data.format in the config")
    return kind


def _csv(path: Path, delimiter: str | None, wanted: Sequence[str]) -> str:
    # quotes are declared, never guessed: a sample without one would make later quoted fields malformed
    options = f"delim={literal(delimiter)}, all_varchar=true" if delimiter else "all_varchar=true"
    if found := dialect(path, delimiter, wanted):
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in found[1])
        options = f"delim={literal(found[0])}, auto_detect=false, columns={{{columns}}}"
    return (f"read_csv({literal(path)}, {options}, store_rejects=true, null_padding=false, strict_mode=true, "
            f"quote='\"', escape='\"', header=true{_partitions(path)})")


def _jsonl(connection: duckdb.DuckDBPyConnection, path: Path, wanted: Sequence[str]) -> str:
    options = f"format='newline_delimited'{_partitions(path)}"
    sniffed = connection.sql(f"SELECT * FROM read_json({literal(path)}, {options}, sample_size=-1)")
    keys = {pair.split("=")[0] for pair in key_values(path)}
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in sniffed.columns if name not in keys)
    text = f"read_json({literal(path)}, {options}, columns={{{columns}}})"
    return with_paths(text, sniffed, wanted, as_text=True)


def _datasets(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A folder of `Dataset.save_to_disk` (Arrow streams, mapped and not copied), or one of Parquet files."""
    arrows = sorted(p for p in path.rglob("*.arrow") if not p.name.startswith("cache-"))
    if arrows:
        return scan_arrows(connection, path, arrows)
    parquets = sorted(path.rglob("*.parquet"))
    if not parquets:
        raise DataError(f"{path}: expected a datasets folder with .arrow or .parquet files, found none")
    return f"read_parquet([{', '.join(literal(p) for p in parquets)}], union_by_name=true)"


def as_text_relation(connection: duckdb.DuckDBPyConnection, relation: str, but: str = "") -> str:
    """Every column as text, except `but`."""
    kinds = connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    parts = [quote(name) if name == but else f"{as_text(name, kind)} AS {quote(name)}" for name, kind, *_ in kinds]
    return f"(SELECT {', '.join(parts)} FROM {relation})"


def _native(connection: duckdb.DuckDBPyConnection, path: Path, kind: str) -> str:
    """A relation in the file's own types."""
    if kind == "arrow":
        return scan_arrow(connection, path)
    if path.is_dir():
        return _datasets(connection, path)
    return f"read_parquet({literal(path)}{_partitions(path)})"


def _with_paths(connection: duckdb.DuckDBPyConnection, relation: str, native: str, wanted: Sequence[str], *, as_text: bool = True) -> str:
    """`with_paths`; the look at the types is only paid for where a name can be a path."""
    if not any(map(is_path, wanted)):
        return relation
    return with_paths(relation, connection.sql(f"SELECT * FROM {native}"), wanted, as_text=as_text)


def scan_file(connection: duckdb.DuckDBPyConnection, path: str | Path, *, format: str = "auto", delimiter: str | None = None,
              wanted: Sequence[str] = (), typed: bool = False) -> str:
    """A table expression over one file; all columns VARCHAR, or with `typed` in the types that the format itself has.

    `wanted` names columns; those that are paths into a nested one (`device.os`, `items[0].id`) are offered under that name, as text.
    Raises DataError when the file is missing, empty, or cannot be read in its format.
    """
    path = Path(path)
    if not readable(path):
        raise DataError(f"expected a file at {path}, found none: check the path in the config's data section (RECLLM_DATA is its root)")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: expected rows, found an empty file")
    # a table that was staged is Parquet, whatever its source was
    kind = "parquet" if format in ("datasets", "arrow", "sqlite") and _suffix(path) == ".parquet" else detect(path, format)
    if kind == "sqlite":
        raise DataError(f"{path}: a database is read through its staged form (recllm.data.sources.stage)")
    try:
        if kind in ("datasets", "parquet", "arrow"):
            native = _native(connection, path, kind)
            return _with_paths(connection, native if typed else as_text_relation(connection, native), native, wanted, as_text=not typed)
        require_whole(path)
        if kind == "jsonl":
            return _jsonl(connection, path, wanted)
        if kind == "recbole":
            from recllm.data.sources.recbole import scan_atomic

            relation = scan_atomic(connection, path)
        else:
            relation = _csv(path, delimiter or ("\t" if _suffix(path) == ".tsv" else None), wanted)
        return _with_paths(connection, relation, relation, wanted)
    except duckdb.Error as error:
        raise DataError(f"{path}: expected {kind}, could not read it: {str(error).splitlines()[0]}") from None


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Around a statement that reads a scanned file: DuckDB finds only then what is wrong further down, and says it as a DataError."""
    try:
        yield
    except duckdb.Error as error:
        raise stopped(error) or DataError(f"{path}: could not be read to its end: {str(error).splitlines()[0]}") from None


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str, path: str | Path) -> list[str]:
    """Column names of a table expression."""
    with reading(path):
        return [row[0] for row in connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
