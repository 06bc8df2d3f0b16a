"""What kind of field a column is, of the moment, the user or the item: a number, a category, a list, a text, a vector."""

from dataclasses import dataclass, field
from typing import Any

import duckdb

from recllm.data.propose.profile import Column, Table
from recllm.data.sources.files import literal, quote

SEPARATORS = {"|": 1000, ";": 1000, ",": 1000, "/": 1000, " ": 60}  # and how many different parts are no free text
CODES = 20  # whole numbers with no more values than this are taken for codes, not quantities
CATEGORIES = 1000  # values of a category of the moment or the user
AGAIN = 5  # times that a part of a list comes again on average, at least


@dataclass(frozen=True)
class Kind:
    """`kind`: number, category, list, text, vector, place, moment, link or none; `why` it is none, or what speaks for it."""

    kind: str
    why: str
    spec: dict[str, Any] = field(default_factory=dict)
    sure: str = "likely"
    instead: str = ""


def separator(connection: duckdb.DuckDBPyConnection, table: Table, column: Column) -> tuple[str, int] | None:
    """(separator, number of different parts) of a column of lists: splitting must give far fewer values than there are cells' values."""
    for mark, most_parts in SEPARATORS.items():
        parts = f"string_split({quote(column.name)}, {literal(mark)})"
        cells, total, different, most = connection.execute(f"""
            SELECT count(*) FILTER (len(parts) > 1) / nullif(count(*), 0), sum(len(parts)), (SELECT count(DISTINCT trim(p)) FROM
                   (SELECT unnest({parts}) AS p FROM {table.name})), max(len(parts))
            FROM (SELECT {parts} AS parts FROM {table.name} WHERE {quote(column.name)} IS NOT NULL)""").fetchall()[0]
        if cells and cells >= 0.05 and most >= 3 and different < column.distinct and different <= most_parts and total >= AGAIN * different:
            return mark, int(different)
    return None


def _vector(connection: duckdb.DuckDBPyConnection, table: Table, column: Column) -> int | None:
    """Length of the vectors in a column of JSON lists or of numbers with separators, where all have one length of four or more."""
    value = f"TRY_CAST(TRY_CAST({quote(column.name)} AS JSON) AS DOUBLE[])"
    low, high, n = connection.execute(f"SELECT min(len({value})), max(len({value})), count({value}) FROM {table.name}").fetchall()[0]
    return int(low) if low and low == high and low >= 4 and n >= 0.95 * column.n else None


def kind_of(connection: duckdb.DuckDBPyConnection, table: Table, column: Column, side: str) -> Kind:
    """How a column of `side` (context, profile or item) is read. The first that fits of the rows below."""
    if column.distinct <= 1:
        return Kind("none", "empty" if not column.distinct else f"one value only ({next(iter(column.top), '')[:20]})", sure="yes")
    if column.share["comma"] >= 0.05 and not column.numeric and not column.share["letters"]:
        return Kind("none", "numbers with decimal commas, where others have points: schema.decimal is one", instead="{kind: number}")
    if column.unit and (column.unit == "iso" or column.hints & {"time", "born"}):
        return Kind("moment", f"moments ({'ISO 8601' if column.unit == 'iso' else column.unit})")
    if column.share["json"] > 0.9 and (length := _vector(connection, table, column)):
        return Kind("vector", f"{length} numbers in each cell", {"list": True})
    if column.share["json"] > 0.9:
        return Kind("list", "JSON lists", {"list": True})
    if column.share["url"] > 0.9:
        return Kind("link", "links")
    if not column.numeric and column.share["agent"] < 0.5 and (found := separator(connection, table, column)):
        mark, different = found
        return Kind("list", f'{different} values split at "{mark}"', {"list": True} | ({} if mark == "|" else {"separator": mark}))
    return _number(column) if column.numeric else _words(column, side)


def _number(column: Column) -> Kind:
    identifies = "id" in column.hints
    spread = f"{_short(column.low)} to {_short(column.high)}{', with decimal commas' if column.share['comma'] >= 0.05 else ''}"
    if column.whole and column.distinct <= CODES:
        return Kind("category", f"{column.distinct} whole numbers, {spread}", {}, "likely" if column.flag else "guess",
                    "" if column.flag else "{kind: number} if it is a quantity")
    if identifies and column.share["whole"] > 0.9 and column.fresh > 0.5:
        return Kind("none", "an id that hardly repeats")
    if identifies and column.share["whole"] > 0.9:
        return Kind("category", f"an id of {column.distinct:,} values")
    return Kind("number", f"numbers, {spread}", {"kind": "number"}, "likely" if not column.whole or column.distinct > 50 else "guess",
                "" if not column.whole or column.distinct > 50 else "a category if these are codes")


def _words(column: Column, side: str) -> Kind:
    if column.share["agent"] > 0.5 and side == "context":
        return Kind("device", f"{column.distinct:,} user agents: the device of each (pip install 'recllm[devices]')", {"kind": "device"},
                    instead="kind: system for the operating system")
    many = column.distinct > CATEGORIES or column.fresh > 0.5 and column.distinct > 50
    if "place" in column.hints and not many:
        return Kind("place", f"{column.distinct:,} places", {"kind": "place"})
    if side == "item" and (column.words >= 2 or "text" in column.hints) and column.fresh > 0.05:
        return Kind("text", f"free text, {column.words:.0f} words on average" if column.words >= 2 else "its name")
    if side == "context" and many and column.words >= 1.5:
        return Kind("text", f"free text, {column.words:.1f} words on average", {"kind": "text"}, "guess",
                    "leave it out if it was written afterwards")
    if many and side == "item" and column.length >= 3 and not column.hints & {"id"}:
        return Kind("text", f"{column.distinct:,} different words", sure="guess", instead="leave it out if it is a code")
    if many:
        return Kind("none", f"{column.distinct:,} values in {column.n:,} rows: too many for a category")
    return Kind("category", f"{column.distinct:,} values")


def _short(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}" if value == int(value) else f"{value:.4g}"
