"""Which columns say what came of an event: the first binary outcome, then what is given it, how long it took, and what else is known only
after the fact. The last are left out, or proposed as outcomes in a comment: as context they would give the label away."""

import re

from recllm.data.propose import pairs
from recllm.data.propose.evidence import Evidence, Finding
from recllm.data.propose.profile import Column
from recllm.data.propose.roles import Rule, Score
from recllm.data.propose.words import concepts

AFTER = {"click", "purchase", "engaged", "view"}  # names of what somebody did
BEFORE = {"device", "place", "clock", "profile", "shown", "position", "weight"}  # names of what was so before
POSITIVES = 20  # of a further outcome in the sample, below which it is proposed in a comment only
DURATION_NAMED, DURATION_TOLD = 4, 3


def _rate(column: Column) -> float:
    return column.share["positive"]


def _given_it(evidence: Evidence, column: Column) -> bool:
    """Another flag is 1, or a number is filled or above 0, only where this one is 1."""
    label = pairs.label_sql(column.name)
    for other in evidence.left:
        if other.name == column.name or evidence.of(evidence.item, other.name) or evidence.of(evidence.user, other.name):
            continue
        if other.flag and other.distinct > 1 and pairs.implies(evidence.connection, evidence.log, pairs.label_sql(other.name), label):
            return True
        if other.numeric and not other.flag and (found := pairs.tie(evidence.connection, evidence.log, other.name, label)):
            if found.told and found.auc < 0.9999:
                return True
    return False


LABEL_RULES = [
    Rule("outcome", 5, "its name", lambda e, c: "click" in c.hints),
    Rule("outcome", 3, "named like something done", lambda e, c: bool(c.hints & AFTER) and "click" not in c.hints),
    Rule("outcome", 2, "other columns are 0 or empty wherever it is 0", _given_it),
    Rule("outcome", 1, "0 and 1 both common", lambda e, c: 0.005 <= _rate(c) <= 0.95),
    Rule("outcome", 1, "differs between a user's rows of one day", lambda e, c: (e.within_a_day(c.name) or 0) >= 0.6),
    Rule("outcome", -4, "named like a circumstance", lambda e, c: bool(c.hints & BEFORE) and not c.hints & AFTER),
    Rule("outcome", -2, "engagement beyond a click", lambda e, c: "engaged" in c.hints),
]


def flags(evidence: Evidence) -> list[Column]:
    """Columns of 0 and 1 that are no property of a user or an item."""
    return [c for c in evidence.left if c.flag and c.distinct >= 2 and 0 < _rate(c) < 1
            and not evidence.of(evidence.user, c.name) and not evidence.of(evidence.item, c.name)]


def rank_labels(evidence: Evidence) -> list[Score]:
    found = []
    for column in flags(evidence):
        parts = [(rule.weight * float(rule.holds(evidence, column)), rule.why) for rule in LABEL_RULES]
        said = sorted(((p, why) for p, why in parts if p), reverse=True)
        found.append(Score(column.name, sum(p for p, _ in parts), ", ".join(w for p, w in said if p > 0),
                           ", ".join(w for p, w in said if p < 0)))
    return sorted(found, key=lambda s: (-s.points, -_rate(evidence.log[s.column])))


def event_type(evidence: Evidence) -> Column | None:
    """A column whose values name what was done: view, cart, buy."""
    def share(column: Column) -> float:
        return sum(n for value, n in column.top.items() if concepts(value) & {*AFTER, "shown"}) / max(column.n, 1)

    return next((c for c in evidence.left if c.top and c.share["letters"] > 0.95 and c.filled > 0.95 and share(c) >= 0.8
                 and not evidence.of(evidence.item, c.name)), None)


def outcome_name(column: Column) -> str:
    """`click` or `purchase` where the name says so, else the column's own name without `is_`."""
    own = re.sub(r"\W+", "_", re.sub(r"^(is|has|was)_", "", column.name)).strip("_") or "outcome"
    return "click" if "click" in column.hints else "purchase" if "purchase" in column.hints else own


def threshold(column: Column) -> float | None:
    """A rating from which on it counts as liked: the upper fifth of its scale, or its middle where that holds too few or too many rows."""
    if column.high is None or not column.top:
        return None
    wanted = round(0.8 * column.high * 2) / 2
    for at_least in (wanted, column.middle or wanted):
        share = sum(n for value, n in column.top.items() if _number(value) >= at_least) / max(column.n, 1)
        if 0.05 <= share <= 0.95:
            return int(at_least) if at_least == int(at_least) else at_least
    return None


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("-inf")


def rating(evidence: Evidence) -> tuple[Column, str] | None:
    """A column of ratings, and how sure: by its name, or the one short scale of a log that has nothing else to learn from."""
    scales = [c for c in evidence.left if c.numeric and not c.flag and 3 <= c.distinct <= 24 and (c.low or 0) >= 0 and (c.high or 0) <= 100
              and not c.hints & BEFORE and not evidence.of(evidence.user, c.name) and not evidence.of(evidence.item, c.name)
              and threshold(c) is not None]
    named = [c for c in scales if "rating" in c.hints]
    if named:
        return named[0], "likely"
    return (scales[0], "guess") if len(scales) == 1 and len(evidence.left) <= 2 and (evidence.within_a_day(scales[0].name) or 0) > 0.6 else None


def further(evidence: Evidence, first: str) -> list[Finding]:
    """Other flags: an outcome `given` the first where each of its ones is one of the first's; else a comment, never context."""
    found: list[Finding] = []
    for column in flags(evidence):
        label = pairs.label_sql(column.name)
        subset = bool(evidence.label) and pairs.implies(evidence.connection, evidence.log, label, evidence.label or "")
        ones = round(_rate(column) * column.n)
        spec = {"kind": "binary", "column": column.name} | ({"given": first} if subset else {})
        name, rate = outcome_name(column), f"1 in {_rate(column):.1%} of the rows"
        named = "purchase" in column.hints
        if subset and not column.hints & AFTER:
            name = "purchase"
        taken = any(f.name == name for f in [*found, *evidence.findings])
        active = (named or subset) and ones >= POSITIVES and not taken and not any(f.active for f in found)
        why = f"{rate}{f', only where {first} is 1' if subset else ''}"
        if (column.hints & BEFORE and not column.hints & AFTER) and not subset:
            continue
        if column.hints & AFTER or subset:
            few = "" if ones >= POSITIVES else f"; {ones} ones are too few to learn from"
            found.append(Finding(column.name, "outcome", why + few, "yes" if named else "likely" if subset else "guess", name, spec,
                                 "" if active else "known only after the fact, so never context; uncomment to learn it too", active))
        else:
            found.append(Finding(column.name, "left out", f"{rate}; may be known only after the fact", "guess", column.name, {},
                                 f"an outcome ({name}: {{kind: binary, column: ...}}), or context if it was known before", False))
    return found


def durations(evidence: Evidence) -> list[Finding]:
    """Numbers that measure what followed: the best is the duration, the others are left out. A rating is one of the latter."""
    found: list[tuple[float, Column, str]] = []
    for column in evidence.left:
        if not column.numeric or column.distinct < 2 or evidence.of(evidence.item, column.name) or evidence.of(evidence.user, column.name):
            continue
        tie = evidence.tie(column.name)
        told = tie.told if tie else None
        points = (DURATION_NAMED if "duration" in column.hints and "rating" not in column.hints else 0) + (DURATION_TOLD if told else 0)
        if points and (column.low or 0) >= 0 and not column.share["iso"]:
            found.append((points + column.share["nonzero"], column, told or "its name"))
    found.sort(key=lambda f: -f[0])
    return [_duration(column, why, rank == 0 and not any(f.name == "duration" for f in evidence.findings))
            for rank, (_, column, why) in enumerate(found)]


def _duration(column: Column, why: str, first: bool) -> Finding:
    milliseconds = "ms" in column.hints or (column.middle or 0) > 1500
    high = (column.high or 0) / (1000 if milliseconds else 1)
    spec = {"kind": "duration", "column": column.name} | ({"unit": "ms"} if milliseconds else {})
    spec |= {"clip": _clip((column.middle or 0) / (1000 if milliseconds else 1))}
    measured = column.distinct > 24 and "rating" not in column.hints and "duration" in column.hints
    counted = column.distinct > 24 and "rating" not in column.hints
    if first and (measured or counted):
        values = f"{'milliseconds' if milliseconds else 'seconds'} up to {high:,.0f} s"
        return Finding(column.name, "outcome", f"{why}; {values}", "likely" if measured else "guess", "duration", spec,
                       "" if measured else "leave it out if it is no duration", True)
    return Finding(column.name, "left out", f"known only after the fact: {why}" if why != "its name" else "named like what followed", "likely",
                   column.name, {}, "an outcome of its own, never context: it would give the label away", False)


def _clip(middle: float) -> float:
    """Seconds over which durations are all alike: a round number well over the middle of those that were seen."""
    return next((c for c in (60, 120, 300, 600, 1800, 3600) if c >= 4 * middle), 7200)


def typed_text(evidence: Evidence, column: Column) -> str | None:
    """Why a column that is no number is known only after the fact, or None."""
    tie = evidence.tie(column.name)
    if tie and tie.told:
        return tie.told
    return "its name" if column.hints & {"rating"} and not column.hints & BEFORE else None

