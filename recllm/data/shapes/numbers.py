"""Numbers with a decimal comma, `1.234,56`, as those with a point. An element of a vector has a point in any log."""

from recllm.data.columns import text
from recllm.data.shapes.part import own
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema

GROUPS = r"[. \x{00A0}\x{202F}]"  # between thousands: a point, a blank, and the two blanks that do not break
WRITTEN = rf"[+-]?(([0-9]+|[0-9]{{1,3}}({GROUPS}[0-9]{{3}})+)(,[0-9]*)?|,[0-9]+)([eE][+-]?[0-9]+)?"


def with_point(column: str) -> str:
    """SQL: the number in a text column with a decimal comma, as text with a point; a word that no reader takes for a number where it
    is none, `1.5` included: it would be 15 or 1.5, and nobody could tell."""
    value = text(column)
    plain = f"replace(regexp_replace({value}, {literal(GROUPS)}, '', 'g'), ',', '.')"
    return f"CASE WHEN {value} IS NULL THEN NULL WHEN regexp_full_match({value}, {literal(WRITTEN)}) THEN {plain} ELSE 'unreadable' END"


def _columns(schema: Schema, table: str) -> list[str]:
    """Raw columns of a table that hold numbers, each once."""
    if table == "items":
        found = [f.column or n for n, f in schema.item_number.items()]
    elif table == "users":
        found = [s.column or n for n, s in schema.profile.items() if s.kind == "number"]
    elif table == "relations":
        found = []
    else:
        found = [s.column or n for n, s in schema.context.items() if s.kind == "number"]
        found += [o.column or n for n, o in schema.outcomes.items() if (o.kind == "duration" and not o.derived) or o.at_least is not None]
        found += [schema.weight] if schema.weight else []
    return list(dict.fromkeys(found)) if schema.decimal == "," else []


def numbers(schema: Schema, table: str) -> dict[str, str]:
    """Own column -> SQL, for every number of a table in a log with a decimal comma."""
    return {own(column): with_point(column) for column in _columns(schema, table)}


def relation_with_numbers(relation: str, schema: Schema, table: str) -> str:
    """A table beside the log with its numbers as `lowered_numbers` reads them; the same relation where there is nothing to do."""
    made = "".join(f", {sql} AS {quote(name)}" for name, sql in numbers(schema, table).items())
    return f"(SELECT *{made} FROM {relation})" if made else relation


def lowered_numbers(schema: Schema) -> Schema:
    """The schema with each number read from the own column that holds it with a point."""
    if schema.decimal != ",":
        return schema

    def moved(fields: dict, numeric: list[str]) -> dict:
        return {n: f.model_copy(update={"column": own(f.column or n)}) if (f.column or n) in numeric and n in wanted else f
                for n, f in fields.items()}

    changed: dict = {}
    for name, table in (("context", "interactions"), ("outcomes", "interactions"), ("profile", "users"), ("item_number", "items")):
        fields = getattr(schema, name)
        wanted = [n for n, f in fields.items() if _is_number(name, f)]
        changed[name] = moved(fields, _columns(schema, table))
    weight = own(schema.weight) if schema.weight else None
    return schema.model_copy(update={**changed, "weight": weight})


def _is_number(role: str, spec: object) -> bool:
    """A field that is read as a number: a category over the same column keeps the text as it is."""
    if role == "outcomes":
        return getattr(spec, "kind", "") == "duration" or getattr(spec, "at_least", None) is not None
    return role == "item_number" or getattr(spec, "kind", "") == "number"
