"""Cleaning rules, one row of a table each: name, reason, SQL condition over the typed columns. The first that holds drops the row."""

from dataclasses import dataclass

from recllm.config import Rules
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema


@dataclass(frozen=True)
class Rule:
    name: str
    reason: str
    sql: str


def row_rules(schema: Schema, limits: Rules) -> list[Rule]:
    """Rules that one row decides by itself, in the order in which they are tried."""
    latest = f"epoch_ms(TIMESTAMP {literal(limits.max_time)})" if limits.max_time else "epoch_ms(now()::TIMESTAMP) + 86400000"
    rules = [
        Rule("missing_user", "user id is empty", "user IS NULL"),
        Rule("missing_item", "item id is empty", "item IS NULL"),
        Rule("bad_time", "time is empty or unreadable", "time IS NULL"),
        Rule("time_out_of_range", f"time is before {limits.min_time} or after {limits.max_time or 'tomorrow'}",
             f"time < epoch_ms(TIMESTAMP {literal(limits.min_time)}) OR time > {latest}"),
    ]
    if schema.scored:
        rules.append(Rule("bad_scored", "scored is not 0 or 1", "isnan(scored)"))
    for name, spec in schema.outcomes.items():
        if spec.derived:
            continue
        column = quote(name)
        rules.append(Rule(f"bad_{name}", f"{name} is not a {'number' if spec.kind == 'duration' else '0 or 1'}", f"isnan({column})"))
        if spec.kind == "duration":
            rules.append(Rule(f"negative_{name}", f"{name} is below 0", f"{column} < 0"))
            rules.append(Rule(f"absurd_{name}", f"{name} is over {limits.max_duration:g} s", f"{column} > {limits.max_duration}"))
        if spec.given:
            rules.append(Rule(f"{name}_without_{spec.given}", f"{name} is 1 where {spec.given} is 0",
                              f"{column} = 1 AND {quote(spec.given)} = 0"))
    return rules


def first_broken(rules: list[Rule]) -> str:
    """An SQL expression: the name of the first broken rule, or NULL."""
    return "CASE " + " ".join(f"WHEN {rule.sql} THEN {literal(rule.name)}" for rule in rules) + " END"
