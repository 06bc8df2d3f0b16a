"""Logs of an odd shape made plain: each odd role is a transformation of the raw relation, before the roles' columns are read.

`shape` adds columns of our own (event types, lists of candidates, decimal commas, places, devices, zones) and `lowered` is the schema
that reads them; a schema without such a role goes through unchanged. What could not be made is named in two more columns:
`misshapen`, the rule that drops the row, and `unreadable`, the fields that are unknown now.
"""

import duckdb

from recllm.data.columns import Columns, Types, required_columns, text
from recllm.data.shapes.lists import event_types, exploded, impressions, lowered_lists
from recllm.data.shapes.numbers import lowered_numbers, numbers
from recllm.data.shapes.part import Part, own
from recllm.data.shapes.places import lowered_places, made_fields
from recllm.data.shapes.zones import zones
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema

MISSHAPEN, UNREADABLE = own("misshapen"), own("unreadable")


def is_odd(schema: Schema) -> bool:
    """Whether a schema has a role that needs the raw relation transformed."""
    return bool(schema.event_type or schema.impressions or schema.decimal == "," or schema.time.zone_column or schema.extra
                or any(spec.made for spec in schema.context.values()))


def shape(connection: duckdb.DuckDBPyConnection, relation: str, schema: Schema) -> str:
    """A table expression whose own columns the roles of `lowered(schema)` read; the relation itself where no role is odd.

    Every other column goes through: a number of the line, say, which all rows made out of one line keep.
    """
    if not is_odd(schema):
        return relation
    relation = exploded(relation, schema)
    steps, moments = zones(connection, schema)
    parts = [impressions(schema), event_types(schema), Part(numbers(schema, "interactions")), made_fields(connection, schema), moments,
             _position(schema)]
    for name, sql in steps.items():
        relation = f"(SELECT *, {sql} AS {quote(name)} FROM {relation})"
    columns = {name: sql for part in parts for name, sql in part.columns.items()}
    if columns:
        relation = f"(SELECT *, {', '.join(f'{sql} AS {quote(name)}' for name, sql in columns.items())} FROM {relation})"
    broken = " ".join(f"WHEN {sql} THEN {literal(rule)}" for part in parts for rule, sql in part.broken.items())
    found = ", ".join(f"CASE WHEN {sql} THEN {literal(name)} END" for part in parts for name, sql in part.unreadable.items())
    misshapen = f"CASE {broken} END" if broken else "CAST(NULL AS VARCHAR)"
    unreadable = f"list_filter([{found}], lambda x: x IS NOT NULL)" if found else "CAST([] AS VARCHAR[])"
    return f"(SELECT *, {misshapen} AS {quote(MISSHAPEN)}, {unreadable} AS {quote(UNREADABLE)} FROM {relation})"


def _position(schema: Schema) -> Part:
    """The show position of a plain column, unreadable where it is no whole number from 1 on."""
    if schema.position is None:
        return Part()
    value, number = text(schema.position), f"TRY_CAST({text(schema.position)} AS DOUBLE)"
    whole = f"{number} >= 1 AND {number} < 1e9 AND {number} = floor({number})"
    return Part({own("position"): f"CASE WHEN {whole} THEN CAST(CAST({number} AS BIGINT) AS VARCHAR) END"},
                unreadable={"unreadable_position": f"{value} IS NOT NULL AND {own('position')} IS NULL"})


def lowered(schema: Schema) -> Schema:
    """The schema of the shaped relation: plain roles only."""
    plain = lowered_places(lowered_numbers(lowered_lists(schema)))
    if schema.time.zone_column is None:
        return plain
    time = schema.time.model_copy(update={"column": own("time"), "unit": "iso", "zone_column": None})
    return plain.model_copy(update={"time": time})


def typed_columns(schema: Schema, types: Types | None = None) -> dict[str, str]:
    """Name in the prepared table -> SQL over the shaped relation; with `misshapen` and `unreadable` where a role is odd."""
    columns = Columns(types).interaction(lowered(schema))
    columns |= {name: f"CAST({quote(own(name))} AS INTEGER)" for name in schema.extra}
    return columns | ({"misshapen": quote(MISSHAPEN), "unreadable": quote(UNREADABLE)} if is_odd(schema) else {})


def raw_columns(schema: Schema) -> dict[str, str]:
    """Schema key -> raw column that interactions must have."""
    needed = required_columns(schema)
    lists, types = schema.impressions, schema.event_type
    if lists:
        needed.pop("item")
        needed |= {"impressions": lists.column} | ({"impressions.clicked": lists.clicked} if lists.clicked else {})
    if types:
        needed["event_type"] = types.column
    for name in types.outcomes if types else [lists.outcome] if lists else []:
        needed.pop(f"outcomes.{name}", None)
    for name, spec in schema.context.items():
        if spec.made:
            needed.pop(f"context.{name}")
            needed |= {f"context.{spec.made.field} ({column})": column for column in spec.made.columns}
    optional = {"time.zone_column": schema.time.zone_column, "position": schema.position}
    return needed | {key: column for key, column in optional.items() if column}
