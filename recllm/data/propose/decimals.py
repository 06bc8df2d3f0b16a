"""Whether the numbers of a log have decimal commas: schema.decimal is one for all of its tables."""

from dataclasses import dataclass, replace

import duckdb

from recllm.data.propose.profile import ABSENT, Column, Table, describe
from recllm.data.shapes.numbers import with_point
from recllm.data.sources.files import literal, quote


@dataclass(frozen=True)
class Decimals:
    """The tables with points in their numbers; `sign`: a comma where that is how they are written; `note`: why it is none."""

    tables: list[Table]
    sign: str | None = None
    note: str = ""


def _commas(column: Column) -> bool:
    """Numbers, some of them with a decimal comma."""
    return column.n > 0 and column.share["written"] + column.share["absent"] >= 0.98 and column.share["comma"] >= 0.05


def _points(column: Column) -> bool:
    """Numbers with a decimal point that no thousands explain."""
    return column.n > 0 and column.numeric and column.share["point"] >= 0.05 and column.share["written"] < 0.98 and column.unit is None


def decimals(connection: duckdb.DuckDBPyConnection, tables: list[Table]) -> Decimals:
    """Judge all tables together. With decimal commas the samples' numbers are rewritten with points, for all that is judged after."""
    commas = [(t, c) for t in tables for c in t.columns if _commas(c)]
    points = [(t, c) for t in tables for c in t.columns if _points(c)]
    if not commas:
        return Decimals(tables)
    if points:
        return Decimals(tables, None, f'"{commas[0][1].name}" of {commas[0][0].path} has decimal commas, "{points[0][1].name}" of '
                                      f"{points[0][0].path} decimal points: schema.decimal is one for all, write one of them otherwise")
    return Decimals([_with_points(connection, table) for table in tables], ",")


def _with_points(connection: duckdb.DuckDBPyConnection, table: Table) -> Table:
    changed = [c.name for c in table.columns if _commas(c)]
    for name in changed:
        connection.execute(f"""UPDATE {table.name} SET {quote(name)} = nullif({with_point(name)}, 'unreadable')
                               WHERE NOT coalesce(lower({quote(name)}) IN ({', '.join(map(literal, ABSENT))}), false)""")
    again = {c.name: c for c in describe(connection, table.name, table.rows, changed)} if changed else {}
    # how they were written stays known: it is the evidence
    return replace(table, columns=[replace(again[c.name], share=again[c.name].share | {"comma": c.share["comma"]})
                                   if c.name in again else c for c in table.columns])
