"""Nested fields by path: a column `device.os` or `items[0].id` that no file has as such, out of the JSON text of `device`, `items`."""

import re
from collections.abc import Sequence
from typing import Any

import duckdb

PATH = re.compile(r"((?:\.[^.\[\]\"]+|\[\d+\])+)$")
STEP = re.compile(r"\.([^.\[\]\"]+)|\[(\d+)\]")


def split_path(name: str, columns: Sequence[str]) -> tuple[str, list[str | int]] | None:
    """(column, steps) of a path below the longest column that it begins with; None where there is none."""
    for column in sorted(columns, key=len, reverse=True):
        if name.startswith(column) and PATH.fullmatch(rest := name[len(column):]):
            return column, [key or int(index) for key, index in STEP.findall(rest)]
    return None


def is_path(name: str) -> bool:
    """Can a name be a path?"""
    return PATH.search(name) is not None


def _may_hold(kind: Any, steps: list[str | int]) -> bool:
    """Can a column of this DuckDB type have something at the path? Text may hold any JSON; a struct knows its fields."""
    if not steps or kind.id in ("varchar", "json", "map", "variant"):
        return True
    if kind.id == "struct":
        return any(name == steps[0] and _may_hold(child, steps[1:]) for name, child in kind.children)
    return kind.id in ("list", "array") and isinstance(steps[0], int) and _may_hold(kind.children[0][1], steps[1:])


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def with_paths(text: str, typed: duckdb.DuckDBPyRelation, wanted: Sequence[str], *, as_text: bool = True) -> str:
    """The relation `text` (`as_text`: its columns are JSON text, whatever the types of `typed`), and a text column for each wanted path
    that its rows can have and that is no plain column.

    typed: the same columns in the file's own types, where they are known.
    """
    kinds = dict(zip(typed.columns, typed.types, strict=True))
    added = []
    for name in dict.fromkeys(wanted):
        found = None if name in kinds else split_path(name, typed.columns)
        if found is None or not _may_hold(kinds[found[0]], found[1]):
            continue  # the caller names the column that is not there
        column, steps = '"' + found[0].replace('"', '""') + '"', found[1]
        value = f"TRY_CAST({column} AS JSON)" if as_text or kinds[found[0]].id == "varchar" else f"to_json({column})"
        path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in steps)
        added.append(f'json_extract_string({value}, {_literal(path)}) AS "' + name.replace('"', '""') + '"')
    return f"(SELECT *, {', '.join(added)} FROM {text})" if added else text
