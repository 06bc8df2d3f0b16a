"""Cleaning rules, one row of a table each: name, reason, SQL condition over the typed columns. The first that holds drops the row.

A user's own rules come last, out of `data.rules.custom`. Rules that need more than one row stand in prepare.sql, with their reasons here.
"""

from dataclasses import dataclass

from recllm.config import Rules, utc_ms
from recllm.data.sources.files import literal, quote
from recllm.schema import Outcome, Schema

OTHER_RULES = {
    "malformed_line": "the line has another number of columns than the header, or is no text",
    "duplicate": "an exact copy of an earlier row",
    "unknown_item": "the item is not in the items table (rules.unknown_items: drop)",
    "unknown_user": "the user is not in the users table (rules.unknown_users: drop)",
    "forgotten": "the user was forgotten (recllm forget): only the line's place is kept",
    "late": "appended when the item counts had closed its period (--rewrite takes it in)",
    "bot": "the user has more rows in one day than rules.max_events_per_day",
}


@dataclass(frozen=True)
class Rule:
    name: str
    reason: str
    sql: str


def _misshapen(name: str, reason: str) -> Rule:
    """A rule that `shapes` has already judged, while it made the row plain."""
    return Rule(name, reason, f"misshapen = {literal(name)}")


def shape_rules(schema: Schema) -> list[Rule]:
    """Rules of the odd roles."""
    rules = []
    if schema.impressions:
        rules += [_misshapen("empty_impressions", "the list of candidates is empty, no list, or longer than 4,000"),
                  _misshapen("bad_impression", "an entry of the list is empty, or has no item or no label of 0 or 1"),
                  _misshapen("clicked_not_listed", "what was clicked is not in the list")]
    if schema.event_type and schema.event_type.other == "drop":
        rules.append(_misshapen("unknown_event_type", "the type is not in schema.event_type.values"))
    if schema.time.zone_column:
        rules.append(_misshapen("bad_zone", "the time is local and its zone is no IANA name or offset"))
    return rules


def outcome_rules(name: str, spec: Outcome, limits: Rules) -> list[Rule]:
    """Rules of one outcome."""
    column = quote(name)
    rules = [Rule(f"bad_{name}", f"{name} is not a {'number' if spec.kind == 'duration' else '0 or 1'}", f"isnan({column})")]
    if spec.kind == "duration":
        rules.append(Rule(f"negative_{name}", f"{name} is below 0", f"{column} < 0"))
        rules.append(Rule(f"absurd_{name}", f"{name} is over {limits.max_duration:g} s", f"{column} > {limits.max_duration}"))
    if spec.given:
        rules.append(Rule(f"{name}_without_{spec.given}", f"{name} is 1 where {spec.given} is 0",
                          f"{column} = 1 AND {quote(spec.given)} = 0"))
    return rules


def row_rules(schema: Schema, limits: Rules, late: int | None = None) -> list[Rule]:
    """Rules that one row decides by itself, in the order in which they are tried. Of appended files rows before `late` (UTC ms) go."""
    latest = utc_ms(limits.max_time) if limits.max_time else "epoch_ms(now()::TIMESTAMP) + 86400000"
    rules = [
        *shape_rules(schema),
        Rule("missing_user", "user id is empty", "user IS NULL"),
        Rule("missing_item", "item id is empty", "item IS NULL"),
        Rule("bad_time", "time is empty or unreadable", "time IS NULL"),
        Rule("time_out_of_range", f"time is before {limits.min_time} or after {limits.max_time or 'tomorrow'}",
             f"time < {utc_ms(limits.min_time)} OR time > {latest}"),
    ]
    if schema.scored:
        rules.append(Rule("bad_scored", "scored is not 0 or 1", "isnan(scored)"))
    for name, spec in schema.outcomes.items():
        rules += [] if spec.derived else outcome_rules(name, spec, limits)
    # a condition that cannot be computed for a row (a text that is no number, say) does not hold for it
    rules += [Rule(own.name, own.reason, f"TRY((\n{own.sql}\n))") for own in limits.custom]
    return rules if late is None else [*rules, Rule("late", OTHER_RULES["late"], f"time < {late}")]


def first_broken(rules: list[Rule]) -> str:
    """An SQL expression: the name of the first broken rule, or NULL."""
    return "CASE " + " ".join(f"WHEN {rule.sql} THEN {literal(rule.name)}" for rule in rules) + " END"


def reasons(schema: Schema, limits: Rules) -> dict[str, str]:
    """Every rule that can drop a row of the log -> what it means, in words."""
    return {rule.name: rule.reason for rule in row_rules(schema, limits)} | OTHER_RULES
