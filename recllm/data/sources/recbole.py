"""RecBole's atomic files (`.inter`, `.user`, `.item`): tab-separated, header of `name:type`.

Source: https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from pathlib import Path

import duckdb


def scan_atomic(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A table expression whose names have lost their `:type`; all columns text. Quotes are ordinary characters in these files."""
    text = str(path).replace("'", "''")
    relation = f"read_csv('{text}', all_varchar=true, header=true, delim='\t', quote='', escape='', store_rejects=true)"
    names = [row[0] for row in connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    return "(SELECT " + ", ".join(f'"{n}" AS "{n.split(":")[0]}"' for n in names) + f" FROM {relation})"
