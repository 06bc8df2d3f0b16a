"""Roles that a log may have: one row each, tried in order. A new role is a row here, and one in `write.ROLES`."""

from collections.abc import Callable
from dataclasses import dataclass

from recllm.data.propose import pairs
from recllm.data.propose.evidence import Evidence, Finding
from recllm.data.propose.pairs import TIME
from recllm.data.propose.profile import Column
from recllm.data.sources.files import quote

TOGETHER = 60_000  # ms: rows of one request are not further apart


@dataclass(frozen=True)
class Option:
    """`holds` gives the evidence in words, or None; `active: false` leaves the column out and says so."""

    role: str
    holds: Callable[[Evidence, Column], str | None]
    sure: str = "likely"
    instead: str = ""
    active: bool = True


def _groups(evidence: Evidence, column: Column) -> tuple[float, float] | None:
    """(rows a value, share of its rows with others that lie together) of a column whose values belong to one user each."""
    if not evidence.user or not evidence.time or column.flag or column.distinct < 10 or not evidence.of(column.name, evidence.user):
        return None
    users = evidence.log[evidence.user].distinct
    if column.distinct <= users:
        return None
    rows, near = evidence.connection.execute(f"""SELECT avg(n), sum(n) FILTER (apart <= {TOGETHER}) / sum(n) FROM (
        SELECT count(*) AS n, max({TIME}) - min({TIME}) AS apart FROM {evidence.log.name} WHERE {quote(column.name)} IS NOT NULL
        GROUP BY {quote(column.name)}) WHERE n > 1""").fetchall()[0]
    return (column.n / column.distinct, near or 0.0) if rows else None


def _request(evidence: Evidence, column: Column) -> str | None:
    found = _groups(evidence, column)
    return f"{found[0]:.1f} rows a value, each of one user and one moment" if found and found[0] >= 1.1 and found[1] >= 0.9 else None


def _session(evidence: Evidence, column: Column) -> str | None:
    found = _groups(evidence, column)
    return f"each value belongs to one user, {found[0]:.1f} rows, over some time" if found and found[1] < 0.9 else None


def _unique(evidence: Evidence, column: Column) -> str | None:
    if column.fresh < 0.999 or column.n < 20 or column.filled < 0.98 or column.words > 1.5 or column.unit or column.numeric > column.whole:
        return None
    named = not column.numeric or "id" in column.hints
    numbered = named or pairs.rising(evidence.connection, evidence.log, f"TRY_CAST({quote(column.name)} AS DOUBLE)") > 0.99
    return "another value in every row: it numbers the rows" if numbered else None


def _later(evidence: Evidence, column: Column) -> str | None:
    """A second moment that is never before the event's own."""
    if not column.unit or not evidence.time or evidence.of(evidence.item, column.name) or evidence.of(evidence.user, column.name):
        return None
    share = pairs.not_after(evidence.connection, evidence.log, TIME, quote(f"recllm_at_{column.name}"))
    if share < 0.99 or column.share["iso"] and "clock" in column.hints and "time" not in column.hints:
        return None
    empty = "" if column.filled > 0.98 else f", empty in {1 - column.filled:.0%} of the rows"
    return f"moments never before {evidence.time}{empty}"


def _known_at(evidence: Evidence, column: Column) -> str | None:
    return _later(evidence, column) if "known" in column.hints and column.filled > 0.5 else None


def _other_moment(evidence: Evidence, column: Column) -> str | None:
    if not column.unit or column.flag or "id" in column.hints:
        return None
    properties = evidence.of(evidence.item, column.name) or evidence.of(evidence.user, column.name)
    return None if properties else _later(evidence, column) or "a second moment"


def _weight(evidence: Evidence, column: Column) -> str | None:
    # what is the same for each item or user is a property of it: the weight of a parcel, or of a person
    own = evidence.of(evidence.item, column.name) or evidence.of(evidence.user, column.name)
    fits = "weight" in column.hints and column.numeric and (column.low or 0) >= 0 and column.distinct > 1
    return "its name; numbers from 0 on" if fits and not own else None


def _places(evidence: Evidence, column: Column) -> bool:
    """Whole numbers of which a user's rows of one moment, or one request, have each another one, without gaps."""
    request = next((f.column for f in evidence.findings if f.role == "request"), None)
    if not evidence.user or not evidence.time:
        return False
    key = quote(request) if request else f"{quote(evidence.user)}, {TIME}"
    numbered = f"(SELECT *, TRY_CAST({quote(column.name)} AS BIGINT) AS p FROM {evidence.log.name})"
    lists, tight = evidence.connection.execute(f"""SELECT count(*), avg(CAST(apart AND high - low + 1 = n AS INTEGER)) FROM (
        SELECT count(*) AS n, count(DISTINCT p) = count(*) AS apart, max(p) AS high, min(p) AS low FROM {numbered} GROUP BY {key})
        WHERE n > 1""").fetchall()[0]
    return lists >= 20 and (tight or 0) >= 0.9


def _position(evidence: Evidence, column: Column) -> str | None:
    if not column.whole or not 2 <= column.distinct <= 1000 or column.flag or evidence.of(evidence.item, column.name):
        return None
    named, places = "position" in column.hints, _places(evidence, column)
    words = [*(["its name"] if named else []), *(["each row of a list has another, without gaps"] if places else [])]
    return f"{', '.join(words)}; from {column.low:g} to {column.high:g}" if words else None


def _show_position(evidence: Evidence, column: Column) -> str | None:
    """A place from 1 on, in a log of what was shown."""
    why = _position(evidence, column) if not evidence.positives and column.low == 1 else None
    return f"{why}: for training only, never known before a list is made" if why else None


OPTIONS = [
    Option("left out", _unique, "yes", active=False),
    Option("request", _request),
    Option("left out", _session, "likely", "`session` of an outcome {kind: duration, derived: next_event}", active=False),
    Option("known_at", _known_at, "guess", "leave it out if outcomes are known at once"),
    Option("left out", _other_moment, "likely", "known_at, if it is when the outcomes were known", active=False),
    Option("weight", _weight, "guess", "{kind: number} in context"),
    Option("position", _show_position),
    Option("left out", _position, "likely", "schema.position, counted from 1, where lists were shown", active=False),
]


def optional(evidence: Evidence, column: Column) -> Finding | None:
    """The first optional role that fits a column of the log."""
    for option in OPTIONS:
        taken = option.active and any(f.role == option.role for f in evidence.findings)
        why = None if taken else option.holds(evidence, column)
        if why:
            spec = {"column": column.name, "unit": column.unit} if option.role == "known_at" else {}
            return Finding(column.name, option.role, why, option.sure, option.role, spec, option.instead, option.active)
    return None
