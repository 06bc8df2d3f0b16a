"""Leads the judging: time, user and item first, then what came of events, then the fields of the moment, of users and of items."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from recllm.config import DataConfig, explain
from recllm.data.engine import connect
from recllm.data.propose import clock, events, lists, outcomes, pairs, places, roles
from recllm.data.propose.decimals import Decimals, decimals
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
PLAIN = ("position", "decimal", "event_type", "impressions", "zone", "longitude", "clicked")  # roles whose findings need no own name
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
            encoding: str | None = None, told: dict[str, str] | None = None) -> Proposal:
    """Read samples of the files and say what each column is. `told` holds what is known: user, item, time, outcome -> column.

    Raises DataError where a file cannot be read, or lacks a column that was told.
    """
    told, given = told or {}, {"format": format, "delimiter": delimiter, "encoding": encoding}
    asked = {key: value for key, value in given.items() if value not in (None, "auto")}
    evidence, decimal = _samples({"log": path, "items": items, "users": users}, asked)
    log = evidence.log
    for role, column in told.items():
        check_columns([c.name for c in log.columns], {role: column}, path)
    missing = _required(evidence, told)
    _outcomes(evidence, missing, told.get("outcome"))
    evidence.findings += places.place(evidence)
    for left in evidence.left:
        evidence.findings += [found] if (found := optional(evidence, left)) else []
    for left in evidence.left:
        evidence.findings.append(_field_of_log(evidence, left))
    for side, table, key in (("item", evidence.items, evidence.item or _entries(evidence)), ("profile", evidence.users, evidence.user)):
        if table:
            _fields_of_table(evidence, table, side, key)
    findings = _own_names(evidence.findings)
    used = {f.table for f in findings if f.active}
    guessed = [t.encoding for t in (log, evidence.items, evidence.users) if t and t.encoding]
    asked |= {"encoding": guessed[0]} if guessed else {}
    return Proposal(findings, missing, [*([decimal.note] if decimal.note else []), *notes(evidence)], log,
                    (items or path) if "items" in used else None, (users or path) if "users" in used else None, evidence.positives, asked)


def _samples(paths: dict[str, str | None], asked: dict[str, Any]) -> tuple[Evidence, Decimals]:
    """Samples of the log and of the tables beside it, numbers with points."""
    connection, found = connect(threads=2), {}
    for name, path in paths.items():
        if path:
            try:
                data = DataConfig.model_validate({"interactions": path, **asked})
            except ValidationError as error:
                raise explain(error, "data", DataConfig) from None
            found[name] = sample(connection, path, name, data)
    judged = decimals(connection, list(found.values()))
    tables = dict(zip(found, judged.tables, strict=True))
    evidence = Evidence(connection, tables["log"], tables.get("items"), tables.get("users"))
    if judged.sign:
        names = [c.name for t in judged.tables for c in t.columns if c.share["comma"] >= 0.05 and c.numeric]
        evidence.findings.append(Finding("(numbers)", "decimal", f"how numbers are written in {', '.join(names)}", "likely", "decimal",
                                         {}, table="all"))
    return evidence, judged


def _entries(evidence: Evidence) -> str | None:
    """The items' name where they are the entries of lists."""
    return next((f.column for f in evidence.findings if f.role == "item"), None)


def _required(evidence: Evidence, told: dict[str, str]) -> dict[str, list[Score]]:
    """Judge time, user and item. Returns those that could not be told."""
    missing = {}
    for role in ("time", "user", "item"):
        if role == "item" and role not in told and (found := lists.impressions(evidence)):
            evidence.findings += lists.findings(evidence, found, key_of(evidence.items))
            break
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
            if zone := clock.zone_column(evidence):
                spec |= {"zone_column": zone.name}
                evidence.findings.append(Finding(zone.name, "zone", f"names each row's own zone, {zone.distinct} of them", "likely"))
        second = ""
        if len(ranked) > 1 and roles.how_sure(ranked) != "yes":
            second = ranked[1].column + (f" ({ranked[1].why})" if ranked[1].why else "")
        evidence.findings.append(Finding(best.column, role, why, roles.how_sure(ranked), role, spec, second))
    return missing


def _outcomes(evidence: Evidence, missing: dict[str, list[Score]], told: str | None) -> None:
    """Judge what came of events, and whether the log holds positives only."""
    if any(f.role == "impressions" for f in evidence.findings):
        return
    types = outcomes.event_type(evidence)
    ranked = outcomes.rank_labels(evidence) or outcomes.hollow(evidence)
    first = outcomes.first(evidence, ranked, told)
    done = events.types_of(evidence, types) if types and not first else None
    if first:
        evidence.findings.append(first)
        evidence.label = pairs.label_sql(first.column, first.spec.get("at_least"))
    elif not (done and done.offer) and ([s for s in ranked if s.points >= 0]
                                        or types and any("shown" in concepts(value) for value in types.top)):
        missing["outcome"] = ranked
    else:
        evidence.positives = not (done and done.offer)
    if done and done.outcomes:
        evidence.findings += events.findings(evidence, done)
        evidence.label = done.label if done.offer else None
    if types and not (done and done.offer):
        evidence.findings.append(_event_type(evidence, types, done))
    elif evidence.positives:
        evidence.findings.append(Finding(
            "(every row)", "outcome", "no column says 0 or 1: each row is a 1, and data.negatives draws the zeros", "guess", "click",
            {"kind": "binary", "every_row": True}, "name a 0/1 column if the log holds what was shown and not taken, too"))
    evidence.findings += outcomes.durations(evidence)
    main = first.name if first else next(iter(done.outcomes)) if done and done.offer else "click"
    evidence.findings += outcomes.further(evidence, main)


def _event_type(evidence: Evidence, column: Column, done: events.Types | None) -> Finding:
    """The column that names what was done: all that is logged was done by somebody."""
    shares = ", ".join(f"{value} {n / max(column.n, 1):.0%}" for value, n in list(column.top.items())[:4])
    if not evidence.positives:
        return Finding(column.name, "left out", f"says what was done ({shares}): known only after the fact", "likely",
                       instead="outcomes of their own, never context", active=False)
    strict = "each row is a click" if done and done.outcomes else (
        f"each event counts as a click: keep only the {next(iter(column.top))} rows to be strict")
    why = f"says what was done ({shares}), nothing was shown and not taken: a log of positives only; {strict}"
    return Finding(column.name, "outcome", why, "likely", "click", {"kind": "binary", "every_row": True})


def _field_of_log(evidence: Evidence, column: Column) -> Finding:
    """A column of the log that has no role yet: a property of the item or the user, or a circumstance of the moment."""
    told = outcomes.typed_text(evidence, column)
    for side, key in (("item", evidence.item), ("profile", evidence.user)):
        made = side == "profile" and column.share["agent"] > 0.5  # devices are made for the moment only
        if evidence.of(key, column.name) and column.distinct > 1 and not made:
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
    name = "device" if kind.kind == "device" else column.name
    return Finding(column.name, role, before + kind.why, kind.sure, name, spec, kind.instead, True, where, also)


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
        fixed = f.role in ("time", "user", "item", "request", "known_at", "weight", "published", "left out", *PLAIN)
        while not fixed and (name.casefold() in RESERVED | RESERVED_EVENTS | used or re.fullmatch(r"(?i)\w+_within", name)):
            name = f"{f.table.rstrip('s')}_{name}" if f"{f.table.rstrip('s')}_{name}".casefold() not in used else f"{name}_2"
        used |= set() if fixed else {name.casefold()}
        named.append(Finding(**{**vars(f), "name": name}))
    return named

