"""CSV, JSON Lines, Parquet and `datasets` folders as DuckDB table expressions.

Ids stay text end to end: "0017" keeps its zeros and a 64-bit id never passes through a float.
"""

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa

from recllm.errors import DataError

SUFFIXES = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".inter": "recbole", ".item": "recbole", ".user": "recbole",
            ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet", ".pq": "parquet"}


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """An SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def detect(path: Path, declared: str) -> str:
    """Format of a file by its name, unless it was declared."""
    if declared not in ("auto", "simulate"):
        return declared
    if path.is_dir():
        return "datasets"
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    kind = SUFFIXES.get(suffixes[-1].lower()) if suffixes else None
    if kind is None:
        raise DataError(f"{path}: expected a name that ends in {', '.join(sorted(SUFFIXES))}, or data.format in the config")
    return kind


def _csv(path: Path, delimiter: str | None) -> str:
    # quotes are declared, never guessed: a sample without one would make later quoted fields malformed
    delim = f"delim={literal(delimiter)}, " if delimiter else ""
    return (f"read_csv({literal(path)}, all_varchar=true, store_rejects=true, null_padding=false, strict_mode=true, {delim}"
            f"quote='\"', escape='\"', header=true)")


def _jsonl(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    sniffed = connection.sql(f"DESCRIBE SELECT * FROM read_json({literal(path)}, format='newline_delimited', sample_size=-1)").fetchall()
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name, *_ in sniffed)
    return f"read_json({literal(path)}, format='newline_delimited', columns={{{columns}}})"


def _datasets(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A folder of `Dataset.save_to_disk` (Arrow streams, mapped and not copied), or one of Parquet files."""
    arrows = sorted(p for p in path.rglob("*.arrow") if not p.name.startswith("cache-"))
    if not arrows:
        parquets = sorted(path.rglob("*.parquet"))
        if not parquets:
            raise DataError(f"{path}: expected a datasets folder with .arrow or .parquet files, found none")
        return f"read_parquet([{', '.join(literal(p) for p in parquets)}], union_by_name=true)"
    tables = [pa.ipc.open_stream(pa.memory_map(str(arrow))).read_all() for arrow in arrows]
    name = "recllm_" + hashlib.md5(str(path).encode()).hexdigest()[:12]  # several folders may be read in one statement
    connection.register(name, pa.concat_tables(tables))
    return name


def as_text_relation(connection: duckdb.DuckDBPyConnection, relation: str, but: str = "") -> str:
    """Every column as text, except `but`; lists and structs as JSON text; whole floats without their `.0`."""
    parts = []
    for name, kind, *_ in connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall():
        value = quote(name)
        if name == but:
            parts.append(value)
            continue
        if "[" in kind or kind.startswith(("STRUCT", "MAP")):
            value = f"to_json({value})"
        text = f"CAST({value} AS VARCHAR)"
        if kind in ("DOUBLE", "FLOAT"):  # pandas makes 17 a 17.0 as soon as one id is missing
            whole = f"abs({value}) < 9e15 AND {value} = floor({value})"
            text = f"CASE WHEN {whole} THEN CAST(CAST({value} AS BIGINT) AS VARCHAR) ELSE {text} END"
        parts.append(f"{text} AS {quote(name)}")
    return f"(SELECT {', '.join(parts)} FROM {relation})"


def scan_file(connection: duckdb.DuckDBPyConnection, path: str | Path, *, format: str = "auto", delimiter: str | None = None,
              typed: bool = False) -> str:
    """A table expression over one file; all columns VARCHAR, unless `typed`: then Parquet and Arrow columns keep their type.

    Raises DataError when the file is missing, empty, or cannot be read in its format.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"expected a file at {path}, found none: check the path in the config's data section (RECLLM_DATA is its root)")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: expected rows, found an empty file")
    kind = detect(path, format)
    try:
        if kind == "datasets":
            return _datasets(connection, path) if typed else as_text_relation(connection, _datasets(connection, path))
        if kind == "parquet":
            relation = f"read_parquet({literal(path)})"
            return relation if typed else as_text_relation(connection, relation)
        if kind == "jsonl":
            return _jsonl(connection, path)
        if kind == "recbole":
            from recllm.data.sources.recbole import scan_atomic

            return scan_atomic(connection, path)
        return _csv(path, delimiter or ("\t" if path.suffix == ".tsv" else None))
    except duckdb.Error as error:
        raise DataError(f"{path}: expected {kind}, could not read it: {str(error).splitlines()[0]}") from None


def columns_of(connection: duckdb.DuckDBPyConnection, relation: str, path: str | Path) -> list[str]:
    """Column names of a table expression."""
    try:
        return [row[0] for row in connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    except duckdb.Error as error:
        raise DataError(f"{path}: could not read it: {str(error).splitlines()[0]}") from None
