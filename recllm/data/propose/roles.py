"""Which column is the user, the item, the moment: a table of rules. A new required role is a gate and some rows."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from recllm.data.propose import pairs
from recllm.data.propose.evidence import Evidence
from recllm.data.propose.profile import EPOCH, Column

OTHERS = {"request", "session", "event", "place", "device", "purchase", "position", "clock", "duration", "profile", "text", "rating"}


@dataclass(frozen=True)
class Rule:
    """One piece of evidence: `holds` gives how far it is there (0 to 1, or a bool), `weight` what it counts, `why` what is said."""

    role: str
    weight: float
    why: str
    holds: Callable[[Evidence, Column], float]


@dataclass(frozen=True)
class Score:
    column: str
    points: float
    why: str  # for it
    against: str


def span(column: Column) -> tuple[datetime, datetime] | None:
    """First and last moment of a numeric time."""
    if column.unit not in EPOCH or column.low is None or column.high is None:
        return None
    low, high = (datetime.fromtimestamp(min(max(v / EPOCH[column.unit], 0), 4e9), UTC) for v in (column.low, column.high))
    return low, high


def _years(column: Column) -> float:
    moments = span(column)
    return (moments[1] - moments[0]).days / 365 if moments else 0.0


def _finest(evidence: Evidence, column: Column) -> bool:
    return column.distinct >= 0.9 * max(c.distinct for c in evidence.log.columns if c.unit)


def _moment(column: Column) -> str:
    return f"recllm_at_{column.name}"


def _earliest(evidence: Evidence, column: Column) -> bool:
    """Not later than any other moment that is about as fine: what follows an event carries its own, later moment."""
    rivals = [c for c in evidence.log.columns if c.unit and c.name != column.name and c.distinct >= 0.3 * column.distinct]
    return bool(rivals) and all(pairs.not_after(evidence.connection, evidence.log, _quoted(column), _quoted(c)) >= 0.99 for c in rivals)


def _quoted(column: Column) -> str:
    return pairs.quote(_moment(column))


def _part_of_another(evidence: Evidence, column: Column) -> bool:
    """Each value lies within one value of a coarser column that bursts too: a session of a user, not the user."""
    return any(o.name != column.name and 10 <= o.distinct < column.distinct and evidence.of(column.name, o.name)
               and evidence.bursts(o.name) >= 0.5 * evidence.bursts(column.name) for o in candidates(evidence, "user"))


def _made_of_finer(evidence: Evidence, column: Column) -> bool:
    """A function of a finer candidate: an item's author or category, not the item."""
    return any(o.name != column.name and column.distinct < o.distinct and evidence.of(o.name, column.name)
               for o in candidates(evidence, "item"))


def _named(*concepts: str) -> Callable[[Evidence, Column], bool]:
    return lambda _, column: bool(column.hints & set(concepts))


def _most_values(evidence: Evidence, column: Column) -> bool:
    return column.distinct == max((c.distinct for c in candidates(evidence, "item") if not evidence.of(c.name, evidence.user)),
                                  default=-1)


RULES = [
    Rule("time", 3, "reads as moments", lambda e, c: c.unit is not None),
    Rule("time", 2, "its name", _named("time")),
    Rule("time", 1.5, "finest of the times", _finest),
    Rule("time", 1, "rises with the file's rows", lambda e, c: pairs.rising(e.connection, e.log, _quoted(c)) >= 0.95),
    Rule("time", 1.5, "not after the other times", _earliest),
    Rule("time", -3, "empty in some rows", lambda e, c: c.filled < 0.98),
    Rule("time", -3, "spans more than 15 years", lambda e, c: _years(c) > 15),
    Rule("time", -2, "named like another moment", _named("born", "known", "click", "purchase", "session")),
    Rule("time", -2, "named like an id", _named("id", "user", "item")),
    Rule("user", 5, "its name", _named("user")),
    Rule("user", 0.5, "named like an id", _named("id")),
    Rule("user", 6, "its values are keys of the users' table", lambda e, c: e.found_in(e.users, c.name) >= 0.5),
    Rule("user", 3, "its events come in bursts", lambda e, c: max(e.bursts(c.name), 0)),
    Rule("user", -4, "its values are keys of the items' table",
         lambda e, c: e.found_in(e.items, c.name) > e.found_in(e.users, c.name) + 0.3),
    Rule("user", -4, "named like something else", _named("item", *OTHERS)),
    Rule("user", -2, "few values", lambda e, c: c.distinct < 10 and c.n > 300),
    Rule("user", -3, "each value lies within one of a coarser column", _part_of_another),
    Rule("item", 5, "its name", _named("item")),
    Rule("item", 0.5, "named like an id", _named("id")),
    Rule("item", 6, "its values are keys of the items' table", lambda e, c: e.found_in(e.items, c.name) >= 0.5),
    Rule("item", 2, "many values, each met by several users", lambda e, c: c.distinct >= 10 and not e.of(c.name, e.user)),
    Rule("item", 1, "the most values", _most_values),
    Rule("item", -4, "each value belongs to one user", lambda e, c: e.of(c.name, e.user)),
    Rule("item", -4, "named like something else", _named("user", *OTHERS)),
    Rule("item", -2, "a function of the user", lambda e, c: e.of(e.user, c.name)),
    Rule("item", -2, "a function of a finer column", _made_of_finer),
    Rule("item", -2, "few values", lambda e, c: c.distinct < 10 and c.n > 300),
]
LEAST = {"time": 2.5, "user": 1.2, "item": 2.0}  # points below which a column is no guess
MARGIN = 1.0  # points by which the first must lead the second
CLEAR = 2.5  # points that make it sure


def candidates(evidence: Evidence, role: str) -> list[Column]:
    """Columns whose values admit the role."""
    if role == "time":
        return [c for c in evidence.log.columns if c.unit]
    return [c for c in evidence.log.columns if c.filled >= 0.9 and c.distinct >= 2 and not c.flag and c.name != evidence.time
            and not (c.numeric and not c.whole) and c.share["iso"] < 0.5 and c.words < 2.5 and c.share["agent"] < 0.5
            and not c.share["json"] > 0.5 and c.fresh < 0.98]


def score(evidence: Evidence, column: Column, rules: list[Rule]) -> Score:
    """What the rules say of a column: points, the evidence for it and against it in order of weight."""
    parts = [(rule.weight * float(rule.holds(evidence, column)), rule.why) for rule in rules]
    said = [(points, why) for points, why in sorted(parts, reverse=True) if abs(points) >= 0.4]
    return Score(column.name, sum(points for points, _ in parts), ", ".join(why for points, why in said if points > 0),
                 ", ".join(why for points, why in said if points < 0))


def rank(evidence: Evidence, role: str) -> list[Score]:
    """The candidates of a role, best first."""
    if role == "time":
        for column in candidates(evidence, role):
            pairs.add_time(evidence.connection, evidence.log, column.name, column.unit or "auto", _moment(column))
    rules = [rule for rule in RULES if rule.role == role]
    found = [score(evidence, column, rules) for column in candidates(evidence, role) if column.name not in evidence.judged]
    return sorted(found, key=lambda s: -s.points)


def chosen(ranked: list[Score], role: str) -> bool:
    """Whether the first is far enough ahead to be taken."""
    lead = ranked[0].points - ranked[1].points if len(ranked) > 1 else CLEAR
    return bool(ranked) and ranked[0].points >= LEAST[role] and lead >= MARGIN


def how_sure(ranked: list[Score]) -> str:
    lead = ranked[0].points - ranked[1].points if len(ranked) > 1 else CLEAR
    return "yes" if lead >= CLEAR else "likely"
