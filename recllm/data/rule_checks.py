"""What is asked of rules: that a user's own are sound before any row is read, and that none drops a great part of the log unnoticed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb

from recllm.config import Config, CustomRule
from recllm.data.engine import connect
from recllm.data.pseudonyms import FORGOTTEN
from recllm.data.rules import OTHER_RULES, reasons, row_rules
from recllm.data.shapes import raw_columns, shape, typed_columns
from recllm.data.sources.files import literal, quote
from recllm.errors import ConfigError, StoppedError, did_you_mean
from recllm.schema import Schema

PARTS = {"FUNCTION", "CONJUNCTION", "COMPARISON", "CONSTANT", "COLUMN_REF", "OPERATOR", "CAST", "TYPE", "CASE", "BETWEEN", "LAMBDA",
         "COLLATE"}
MACROS = {"nullif", "if", "list_sum", "list_avg", "list_min", "list_max"}  # those of DuckDB's macros that only compute
SURROUNDINGS = {"now", "today", "age", "getvariable", "in_search_path", "transaction_timestamp", "localtime", "localtimestamp"}
PLAIN_QUERY = ("where_clause", "having", "sample", "qualify", "group_expressions", "group_sets")
LINES_SHOWN = 3


def check_rules(config: Config) -> None:
    """Raise ConfigError for a rule of the user that cannot be one, or a confirmed rule that does not exist."""
    limits = config.data.rules
    names = [rule.name for rule in row_rules(config.columns, limits)] + [*OTHER_RULES]
    for rule in limits.custom:
        if names.count(rule.name) > 1:
            raise ConfigError(f'data.rules.custom: expected a name that no other rule has, found "{rule.name}": choose another')
    for name in limits.confirmed:
        if name not in names:
            raise ConfigError(f'data.rules.confirmed: expected one of {", ".join(names)}, found "{name}".{did_you_mean(name, names)}')
    if limits.custom:
        connection = _empty_log(config.columns)
        for rule in limits.custom:
            _check_expression(connection, rule)
            _check_type(connection, rule, list(typed_columns(config.columns)))


def _empty_log(schema: Schema) -> duckdb.DuckDBPyConnection:
    """A database with the table `typed` of a log without rows."""
    connection = connect(schema.time.zone)
    raw = ", ".join(f"CAST(NULL AS VARCHAR) AS {quote(column)}" for column in dict.fromkeys(raw_columns(schema).values()))
    connection.execute(f"CREATE TEMP TABLE raw AS SELECT {raw} WHERE false")
    typed = ", ".join(f"{sql} AS {quote(name)}" for name, sql in typed_columns(schema).items())
    connection.execute(f"CREATE TEMP TABLE typed AS SELECT {typed} FROM {shape(connection, 'raw', schema)}")
    return connection


def _where(rule: CustomRule) -> str:
    return f"data.rules.custom.{rule.name}"


def _check_expression(connection: duckdb.DuckDBPyConnection, rule: CustomRule) -> None:
    """One expression that reads nothing but the row: no statement beside it, no subquery, no function with effects or surroundings."""
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{rule.sql}\n)"]).fetchall()[0][0])
    if tree["error"]:
        raise ConfigError(f"{_where(rule)}: expected one SQL condition over a row, found {rule.sql!r}: "
                          f"{str(tree['error_message']).splitlines()[0]}")
    nodes = [statement["node"] for statement in tree["statements"]]
    node = nodes[0]
    plain = (len(nodes) == 1 and node["type"] == "SELECT_NODE" and len(node["select_list"]) == 1 and node["from_table"]["type"] == "EMPTY"
             and not node["modifiers"] and not node["cte_map"]["map"] and not any(node.get(part) for part in PLAIN_QUERY))
    if not plain:
        raise ConfigError(f"{_where(rule)}: expected one SQL condition over a row, found a statement of its own in {rule.sql!r}")
    allowed = _functions(connection)
    for part in _parts(node["select_list"][0]):
        kind, name = part["class"], str(part.get("function_name", "")).lower()
        if kind not in PARTS:
            raise ConfigError(f"{_where(rule)}: expected a condition over one row, found a {kind.lower()} in {rule.sql!r}: leave it out")
        if kind == "FUNCTION" and (name not in allowed or part.get("schema") or part.get("catalog")):
            raise ConfigError(f'{_where(rule)}: expected functions that compute something of the row, found "{name}" in {rule.sql!r}.'
                              f"{did_you_mean(name, sorted(allowed))}")


def _functions(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Functions that give the same for the same row at any time, and do nothing else."""
    rows = connection.execute("""SELECT lower(function_name), bool_and(function_type = 'scalar' AND stability <> 'VOLATILE')
                                 FROM duckdb_functions() GROUP BY 1""").fetchall()
    return {name for name, pure in rows if pure and name not in SURROUNDINGS
            and not name.startswith(("current_", "get_current_", "recllm_"))} | MACROS


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression of a parsed one, itself included."""
    if isinstance(tree, dict):
        if isinstance(tree.get("class"), str):
            yield tree
        tree = list(tree.values())
    for part in tree if isinstance(tree, list) else []:
        yield from _parts(part)


def _check_type(connection: duckdb.DuckDBPyConnection, rule: CustomRule, columns: list[str]) -> None:
    try:
        kind = connection.execute(f"DESCRIBE SELECT TRY((\n{rule.sql}\n)) FROM typed").fetchall()[0][1]
        connection.execute(f"SELECT 1 FROM typed WHERE (\n{rule.sql}\n)")
    except duckdb.Error as error:
        raise ConfigError(f"{_where(rule)}: expected a condition over {', '.join(columns)}, found {rule.sql!r}: "
                          f"{str(error).splitlines()[0]}") from None
    if kind != "BOOLEAN":
        raise ConfigError(f"{_where(rule)}: expected a condition that is true or false, found {rule.sql!r} of type {kind}")


def check_shares(config: Config, read: int, dropped: dict[str, int], folder: Path) -> None:
    """Raise StoppedError where a rule dropped more than `rules.max_dropped` of the rows read and is not confirmed.

    `folder` holds the dropped rows as Parquet (file, line, reason, row): the first of them are shown.
    """
    limits = config.data.rules
    over = [rule for rule, n in dropped.items() if n > limits.max_dropped * read and rule not in (*limits.confirmed, FORGOTTEN)]
    if not over:
        return
    words, figures, lines = reasons(config.columns, limits), [], []
    for rule in sorted(over, key=lambda name: -dropped[name]):
        figures.append(f"{rule} ({words.get(rule, rule)}): {dropped[rule]:,} of {read:,}, {dropped[rule] / read:.1%}")
        lines += _first_lines(rule, folder)
    raise StoppedError(f"data.rules.max_dropped: expected each rule to drop at most {limits.max_dropped:.0%} of the rows read, found "
                    f"{'; '.join(figures)}. Correct the log or its schema, or confirm that these rows may go: data.rules.confirmed: "
                    f"[{', '.join(over)}]. First of them: {'; '.join(lines)}")


def _first_lines(rule: str, folder: Path) -> list[str]:
    """`file:line: row` of the first rows that a rule dropped."""
    rows = connect().execute(f"""SELECT file, line, "row" FROM read_parquet({literal(folder / '*-*.parquet')}, union_by_name=true)
                                 WHERE reason = {literal(rule)} ORDER BY file, line LIMIT {LINES_SHOWN}""").fetchall()
    return [f"{file}:{line}: {' '.join(str(row or '').split())[:120]}" for file, line, row in rows]
