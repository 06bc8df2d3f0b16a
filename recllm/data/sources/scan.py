"""The one door to raw tables: a file in any known format, or a table out of the folder of a published log.

An adapter of a published log is a module with FILES (table -> names of its files, for errors), `files(folder, table)` and
`rows(connection, relation, folder, table)`; it gets a line in ADAPTERS.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from recllm.data.sources import deskdrop, kuairand
from recllm.data.sources.files import scan_file
from recllm.errors import DataError

ADAPTERS = {"kuairand": kuairand, "deskdrop": deskdrop}


def scan(connection: duckdb.DuckDBPyConnection, path: str | Path, *, format: str = "auto", delimiter: str | None = None,
         table: str = "interactions", wanted: Sequence[str] = (), typed: bool = False) -> str:
    """A table expression over one local file (recllm/data/sources/stage.py makes any source one), or over one `table` of a published
    log's folder; all columns VARCHAR, or with `typed` those of Parquet and Arrow in their own types.

    `wanted` names the columns that will be read: paths into nested ones (`device.os`, `items[0].id`) are offered under that name.
    Raises DataError when a file is missing, empty, or cannot be read in its format.
    """
    path = Path(path)
    if format not in ADAPTERS:
        return scan_file(connection, path, format=format, delimiter=delimiter, wanted=wanted, typed=typed)
    adapter = ADAPTERS[format]
    if not path.is_dir():
        raise DataError(f"expected the folder of {format} at {path}, found none: README says where it is had (RECLLM_DATA is its root)")
    found = adapter.files(path, table)
    if not found:
        names = " or ".join(adapter.FILES.get(table, ("no table of that name",)))
        raise DataError(f"{path}: expected {names} of {format}, found neither: README says where they are had")
    parts = [f"SELECT * FROM {scan_file(connection, file)}" for file in found]
    return adapter.rows(connection, f"({' UNION ALL BY NAME '.join(parts)})", path, table)
