"""What one odd role adds to a raw relation: columns in a form that the roles of a plain log read, what is broken, what is unreadable."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa


@dataclass(frozen=True)
class Part:
    """SQL over the raw relation. `broken`: rule -> condition under which its row is dropped; `unreadable`: name under which a kept row
    is counted -> condition under which a value of it could not be read and is unknown."""

    columns: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def own(name: str) -> str:
    """A column of our own beside the file's, under a name that no file has."""
    return f"recllm_shape_{name}"


def register(connection: duckdb.DuckDBPyConnection, name: str, function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Make a function of plain values, which returns text or None, callable in SQL as `name`. A second call changes nothing."""
    if connection.execute("SELECT count(*) FROM duckdb_functions() WHERE function_name = ?", [name]).fetchall()[0][0]:
        return

    def over_arrays(*columns: pa.Array) -> pa.Array:  # of one batch
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array([function(*row) for row in rows], pa.string())

    names = [inspect.Parameter(f"argument_{k}", inspect.Parameter.POSITIONAL_ONLY) for k in range(len(arguments))]
    over_arrays.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]  # DuckDB counts a function's parameters
    connection.create_function(name, over_arrays, list(arguments), "VARCHAR", type="arrow", null_handling="special")  # type: ignore[call-overload]
