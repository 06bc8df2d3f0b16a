"""Leads the judging: time, user and item first, then what came of events, then the fields of the moment, of users and of items."""

import re
from dataclasses import dataclass, field, replace

from recllm.data.engine import connect
from recllm.data.propose import clock, outcomes, pairs, roles
from recllm.data.propose.evidence import Evidence, Finding, key_of
from recllm.data.propose.fields import kind_of
from recllm.data.propose.notes import notes
from recllm.data.propose.optional import optional
from recllm.data.propose.profile import Column, Table, sample
from recllm.data.propose.roles import Score
from recllm.data.propose.words import concepts
from recllm.data.scatter import check_columns
from recllm.schema import RESERVED, RESERVED_EVENTS

SUSPICIOUS = 0.8  # AUC of one circumstance alone
TABLES = {"profile": "users", "item": "items"}


@dataclass(frozen=True)
class Proposal:
    """All findings, the required roles that could not be told (with their candidates, best first), and what the reader should know."""

    findings: list[Finding]
    missing: dict[str, list[Score]]
    notes: list[str]
    log: Table
    items: str | None  # path of the items' table; the log's own where items' fields stand in it
    users: str | None
    negatives: bool = False
    asked: dict[str, str] = field(default_factory=dict)  # data.format and data.delimiter as given

    def role(self, role: str) -> Finding | None:
        return next((f for f in self.findings if f.role == role and f.active), None)


def propose(path: str, *, items: str | None = None, users: str | None = None, format: str = "auto", delimiter: str | None = None,
            told: dict[str, str] | None = None) -> Proposal:
    """Read samples of the files and say what each column is. `told` holds what is known: user, item, time, outcome -> column.

    Raises DataError where a file cannot be read, or lacks a column that was told.
    """
    connection, told = connect(threads=2), told or {}
    log = sample(connection, path, "log", format, delimiter)
    for role, column in told.items():
        check_columns([c.name for c in log.columns], {role: column}, path)
    evidence = Evidence(connection, log, sample(connection, items, "items", format, delimiter) if items else None,
                        sample(connection, users, "users", format, delimiter) if users else None)
    missing = _required(evidence, told)
    positives = _outcomes(evidence, missing, told.get("outcome"))
    for left in evidence.left:
        evidence.findings += [found] if (found := optional(evidence, left)) else []
    for left in evidence.left:
        evidence.findings.append(_field_of_log(evidence, left))
    for side, table, key in (("item", evidence.items, evidence.item), ("profile", evidence.users, evidence.user)):
        if table:
            _fields_of_table(evidence, table, side, key)
    findings = _own_names(evidence.findings)
    used = {f.table for f in findings if f.active}
    asked = {key: value for key, value in (("format", format), ("delimiter", delimiter)) if value not in (None, "auto")}
    return Proposal(findings, missing, notes(evidence), log, (items or path) if "items" in used else None,
                    (users or path) if "users" in used else None, positives, asked)


def _required(evidence: Evidence, told: dict[str, str]) -> dict[str, list[Score]]:
    """Judge time, user and item. Returns those that could not be told."""
    missing = {}
    for role in ("time", "user", "item"):
        ranked = [s for s in roles.rank(evidence, role) if s.column not in told.values()]
        if role in told:
            ranked = [Score(told[role], roles.CLEAR, "as you say", "")]
        if not roles.chosen(ranked, role):
            missing[role] = ranked
            continue
        best = ranked[0]
        column = evidence.log[best.column]
        setattr(evidence, role, best.column)
        spec, why = {}, f"{best.why}; {column.distinct:,} values"
        if role == "time":
            pairs.add_time(evidence.connection, evidence.log, best.column, column.unit or "auto")
            spec, why = {"column": best.column, "unit": column.unit or "auto"}, f"{best.why}; {clock.described(evidence, column)}"
        second = ""
        if len(ranked) > 1 and roles.how_sure(ranked) != "yes":
            second = ranked[1].column + (f" ({ranked[1].why})" if ranked[1].why else "")
        evidence.findings.append(Finding(best.column, role, why, roles.how_sure(ranked), role, spec, second))
    return missing


def _outcomes(evidence: Evidence, missing: dict[str, list[Score]], told: str | None) -> bool:
    """Judge what came of events. Returns whether the log holds positives only."""
    types = outcomes.event_type(evidence)
    ranked = outcomes.rank_labels(evidence) or outcomes.hollow(evidence)
    first, positives = outcomes.first(evidence, ranked, told), False
    if first:
        evidence.findings.append(first)
        evidence.label = pairs.label_sql(first.column, first.spec.get("at_least"))
    elif [s for s in ranked if s.points >= 0] or types and any("shown" in concepts(value) for value in types.top):
        missing["outcome"] = ranked
    else:
        positives = True
    if types:
        evidence.findings.append(_event_type(evidence, types, positives))
    elif positives:
        evidence.findings.append(Finding(
            "(every row)", "outcome", "no column says 0 or 1: each row is a 1, and data.negatives draws the zeros", "guess", "click",
            {"kind": "binary", "every_row": True}, "name a 0/1 column if the log holds what was shown and not taken, too"))
    evidence.findings += outcomes.durations(evidence)
    evidence.findings += outcomes.further(evidence, first.name if first else "click")
    return positives


def _event_type(evidence: Evidence, column: Column, positives: bool) -> Finding:
    """The column that names what was done: all that is logged was done by somebody."""
    shares = ", ".join(f"{value} {n / max(column.n, 1):.0%}" for value, n in list(column.top.items())[:4])
    if not positives:
        return Finding(column.name, "left out", f"says what was done ({shares}): known only after the fact", "likely",
                       instead="outcomes of their own, never context", active=False)
    why = (f"says what was done ({shares}), nothing was shown and not taken: a log of positives only. Each event counts as a click: "
           f"keep only the {next(iter(column.top))} rows to be strict")
    return Finding(column.name, "outcome", why, "likely", "click", {"kind": "binary", "every_row": True})


def _field_of_log(evidence: Evidence, column: Column) -> Finding:
    """A column of the log that has no role yet: a property of the item or the user, or a circumstance of the moment."""
    told = outcomes.typed_text(evidence, column)
    for side, key in (("item", evidence.item), ("profile", evidence.user)):
        if evidence.of(key, column.name) and column.distinct > 1:
            table = evidence.items if side == "item" else evidence.users
            if table:
                return Finding(column.name, "left out", f"constant for each {key}: belongs into {table.path}", "likely", active=False)
            once = replace(column, rows=evidence.log[key or ""].distinct, filled=1.0)  # as it were in a table with one row for each
            return _field(evidence, evidence.log, once, side, f"constant for each {key}, ")
    if told and column.distinct > 1:
        return Finding(column.name, "left out", f"known only after the fact ({told}): as context it would give the label away", "likely",
                       instead="an outcome", active=False)
    if evidence.of_the_clock(column.name):
        return Finding(column.name, "left out", "a function of the time, whose hour and weekday are fields already", "likely", active=False)
    found, tie = _field(evidence, evidence.log, column, "context", ""), evidence.tie(column.name)
    if found.active and tie and (tie.auc >= SUSPICIOUS or tie.filled_1 - tie.filled_0 >= 0.2):
        why = f"{found.why}; tells 1 from 0 suspiciously well (AUC {tie.auc:.2f})"
        return replace(found, why=why, sure="guess", instead="leave it out if it was known only afterwards")
    return found


def _field(evidence: Evidence, table: Table, column: Column, side: str, before: str) -> Finding:
    kind = kind_of(evidence.connection, table, column, side)
    where = TABLES.get(side, "interactions")
    spec = dict(kind.spec)
    role = {"item": {"number": "item_number", "text": "item_text", "vector": "item_vector", "link": "item_info",
                     "moment": "published"}.get(kind.kind, "item_category")}.get(side, side)
    if side == "item":
        spec.pop("kind", None)
    taken = role == "published" and any(f.role == "published" for f in evidence.findings)
    if taken or kind.kind == "none" or side != "item" and kind.kind in ("moment", "vector", "link"):
        why = f"{before}{kind.why}{', a second one' if taken else ''}"
        return Finding(column.name, "left out", why, kind.sure, column.name, {}, kind.instead, False, where)
    if role == "published":
        spec = {"column": column.name, "unit": column.unit}
    also = "item_text" if role == "item_category" and column.share["letters"] > 0.5 else ""
    return Finding(column.name, role, before + kind.why, kind.sure, column.name, spec, kind.instead, True, where, also)


def _fields_of_table(evidence: Evidence, table: Table, side: str, key: str | None) -> None:
    """The fields of a table beside the log, whose key must have the log's name for it."""
    own = key_of(table)
    if key is None or key not in [c.name for c in table.columns]:
        what = f'"{own}" looks like its key' if own else "no column is unique"
        why = f'it has no column "{key}", the log\'s {"item" if side == "item" else "user"} ({what}): rename it in the file'
        evidence.findings.append(Finding("(whole file)", "left out", why, "yes", active=False, table=TABLES[side]))
        return
    for column in table.columns:
        if column.name != key:
            evidence.findings.append(_field(evidence, table, column, side, ""))


def _own_names(findings: list[Finding]) -> list[Finding]:
    """Names that a schema takes: letters, digits and _, none reserved, none twice."""
    used: set[str] = set()
    named = []
    for f in findings:
        name = re.sub(r"\W+", "_", f.name).strip("_") or "field"
        fixed = f.role in ("time", "user", "item", "request", "known_at", "weight", "published", "left out")
        while not fixed and (name.casefold() in RESERVED | RESERVED_EVENTS | used or re.fullmatch(r"(?i)\w+_within", name)):
            name = f"{f.table.rstrip('s')}_{name}" if f"{f.table.rstrip('s')}_{name}".casefold() not in used else f"{name}_2"
        used |= set() if fixed else {name.casefold()}
        named.append(Finding(**{**vars(f), "name": name}))
    return named

