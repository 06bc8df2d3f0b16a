"""Fields of the moment that are made out of other columns: cells of a place, levels of a place, the device of a user agent."""

from functools import lru_cache

import duckdb

from recllm.data.columns import BLANKS, text
from recllm.data.shapes.numbers import with_point
from recllm.data.shapes.part import Part, own, register
from recllm.data.sources.agents import device_of
from recllm.data.sources.cells import cell_of
from recllm.data.sources.files import literal
from recllm.schema import Made, Schema


@lru_cache(maxsize=100_000)
def _of_agent(agent: str | None, part: int) -> str | None:
    return None if agent is None else device_of(agent)[part]


def _agent(made: Made) -> str:
    return f"recllm_agent({text(made.columns[0])}, {0 if made.of == 'device' else 1})"


def _cell(made: Made, decimal: str | None) -> str:
    """H3 cell of a row's latitude and longitude, NULL where one of them is missing or no such number."""
    read = with_point if decimal == "," else text
    latitude, longitude = (f"TRY_CAST({read(column)} AS DOUBLE)" for column in made.columns)
    return f"recllm_cell({latitude}, {longitude}, {made.level})"


def _level(made: Made) -> str:
    """The names down to a level, joined by `/`; NULL where the level itself is empty."""
    if made.separator is None:
        names = [text(column) for column in made.columns[: made.level + 1]]
    else:
        parts = f"string_split({text(made.columns[0])}, {literal(made.separator)})"
        names = [f"NULLIF(TRIM({parts}[{k + 1}], {BLANKS}), '')" for k in range(made.level + 1)]
    return f"CASE WHEN {names[-1]} IS NOT NULL THEN concat_ws('/', {', '.join(names)}) END"


def made_fields(connection: duckdb.DuckDBPyConnection, schema: Schema) -> Part:
    """Every field of the context that is made, and where one could not be though its columns hold something."""
    part = Part()
    for name, spec in schema.context.items():
        made = spec.made
        if made is None:
            continue
        if made.of == "cell":
            register(connection, "recllm_cell", cell_of, ["DOUBLE", "DOUBLE", "INTEGER"])
            sql = _cell(made, schema.decimal)
        elif made.of == "level":
            sql = _level(made)
        else:
            register(connection, "recllm_agent", _of_agent, ["VARCHAR", "INTEGER"])
            sql = _agent(made)
        part.columns[own(name)] = sql
        if made.of != "level":  # a level that is not named is unknown, and nothing is unreadable in it
            written = " OR ".join(f"{text(column)} IS NOT NULL" for column in made.columns)
            part.unreadable[f"unreadable_{made.field}"] = f"({written}) AND {own(name)} IS NULL"
    return part


def lowered_places(schema: Schema) -> Schema:
    """The schema with each made field read from the column that was made for it."""
    context = {n: s.model_copy(update={"column": own(n)}) if s.made else s for n, s in schema.context.items()}
    return schema.model_copy(update={"context": context})
