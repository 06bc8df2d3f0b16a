"""Which columns say what came of an event: the first binary outcome, then what is given it, how long it took, and what else is known only
after the fact. The last are left out, or proposed as outcomes in a comment: as context they would give the label away."""

import re
from typing import Any

from recllm.data.propose import pairs
from recllm.data.propose.evidence import Evidence, Finding
from recllm.data.propose.profile import Column
from recllm.data.propose.roles import Rule, Score, score
from recllm.data.propose.words import concepts
from recllm.data.sources.files import quote
from recllm.errors import DataError

AFTER = {"click", "purchase", "engaged", "view"}  # names of what somebody did
BEFORE = {"device", "place", "clock", "profile", "shown", "position", "weight"}  # names of what was so before
LEAST = 2.0  # points below which a flag is no guess of the first outcome
POSITIVES = 20  # of a further outcome in the sample, below which it is proposed in a comment only
DURATION_NAMED, DURATION_TOLD = 4, 3
CLIPS = (30, 60, 120, 300, 600, 1800, 3600, 7200)  # seconds over which durations are all alike


def _rate(column: Column) -> float:
    return column.share["positive"]


def _given_it(evidence: Evidence, column: Column) -> bool:
    """Another flag is 1, or a number is filled or above 0, only where this one is 1."""
    others = [c.name for c in evidence.left if c.name != column.name and c.distinct > 1 and (c.flag or c.numeric and not c.unit)
              and not evidence.of(evidence.item, c.name) and not evidence.of(evidence.user, c.name)]
    found = pairs.ties(evidence.connection, evidence.log, others, pairs.label_sql(column.name))
    return _rate(column) < 0.9 and any(tie.only if evidence.log[name].flag else tie.told for name, tie in found.items())


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
    """The candidates of the first outcome, best first."""
    found = [score(evidence, column, LABEL_RULES) for column in flags(evidence)]
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
    alone = len(scales) == 1 and len(evidence.left) <= 2 and (evidence.within_a_day(scales[0].name) or 0) > 0.6
    return (scales[0], "guess") if alone else None


def hollow(evidence: Evidence) -> list[Score]:
    """Columns of 1 or nothing: whether nothing means 0 or unknown is not for us to say."""
    return [Score(c.name, 0.0, "1 or empty", "an empty cell is unknown: write 0 where nothing came of it") for c in evidence.left
            if c.flag and c.distinct == 1 and _rate(c) == 1 and c.filled < 0.98]


def ones(column: Column) -> str:
    """`4,217 rows with a 1 (44.8%)`."""
    rate = _rate(column)
    return f"{round(rate * column.n):,} rows with a 1 ({rate:.{1 if rate >= 0.001 else 3}%})"


def first(evidence: Evidence, ranked: list[Score], told: str | None) -> Finding | None:
    """The first binary outcome: the column that was told, a flag that leads the others, or a rating as a stand-in; None otherwise.

    Raises DataError where the column that was told is neither 0 and 1 nor a scale.
    """
    lead = ranked[0].points - ranked[1].points if len(ranked) > 1 else 9.0
    led = bool(ranked) and ranked[0].points >= LEAST and (lead >= 0.5 or bool(evidence.log[ranked[0].column].hints & AFTER))
    best = Score(told, 9.0, "as you say", "") if told else ranked[0] if led else None
    if best and evidence.log[best.column].flag:
        column = evidence.log[best.column]
        name = outcome_name(column) if column.hints & AFTER else "click"
        sure = "yes" if told or "click" in column.hints else "likely" if best.points >= 4 else "guess"
        return Finding(column.name, "outcome", f"{best.why}; {ones(column)}", sure, name, {"kind": "binary", "column": column.name},
                       "context if it was known before" if sure == "guess" else "")
    scale = (evidence.log[told], "likely") if told else rating(evidence)
    least = threshold(scale[0]) if scale else None
    if scale is None or least is None:
        if told:
            raise DataError(f'{evidence.log.path}: expected 0 and 1, or ratings, in the outcome "{told}", found '
                            f"{', '.join(evidence.log[told].top) or f'{evidence.log[told].distinct:,} values'}")
        return None
    column, sure = scale
    why = f"{column.distinct} ratings from {column.low:g} to {column.high:g}; a stand-in: {least} and more is a click"
    return Finding(column.name, "outcome", why, sure, "click", {"kind": "binary", "column": column.name, "at_least": least},
                   "another at_least")


def further(evidence: Evidence, main: str) -> list[Finding]:
    """Other flags: an outcome `given` the main one where each of its ones is one of the main one's; else a comment, never context."""
    found: list[Finding] = []
    for column in flags(evidence):
        tie = evidence.tie(column.name)
        subset = bool(tie and tie.only)
        done, told = bool(column.hints & AFTER), subset or bool(tie and tie.told)
        if column.hints & BEFORE and not done and not told:
            continue  # a circumstance, by its name and by its values
        if not done and not told:
            why = f"{ones(column)}; nothing says whether it was known before or after the fact"
            found.append(Finding(column.name, "left out", why, "guess", instead="context if before, an outcome if after", active=False))
            continue
        named = "purchase" in column.hints
        name = outcome_name(column) if done else "purchase" if subset else outcome_name(column)
        taken = any(f.name == name for f in [*found, *evidence.findings]) or any(f.active and f.role == "outcome" for f in found)
        enough = round(_rate(column) * column.n) >= POSITIVES
        active = (named or subset) and enough and not taken
        why = ones(column) + (f", only where {main} is 1" if subset else f", {tie.told}" if told and tie else "")
        why += "" if enough else ": too few to learn from"
        why += "" if active else ". Known only after the fact, so never context; uncomment it to learn it too"
        spec = {"kind": "binary", "column": column.name} | ({"given": main} if subset else {})
        found.append(Finding(column.name, "outcome", why, "yes" if named else "likely" if told else "guess", name, spec, "", active))
    return found


def durations(evidence: Evidence) -> list[Finding]:
    """Numbers that measure what followed: the best is the duration, the others are left out. A rating is one of the latter."""
    found: list[tuple[float, Column, str]] = []
    for column in evidence.left:
        if column.flag or not column.numeric or column.distinct < 2 or column.unit or (column.low or 0) < 0 or (
                evidence.of(evidence.item, column.name) or evidence.of(evidence.user, column.name)):
            continue
        tie = evidence.tie(column.name)
        told, named = tie.told if tie else None, "duration" in column.hints and "rating" not in column.hints
        points = DURATION_NAMED * named + DURATION_TOLD * bool(told)
        if points:
            why = ", ".join([*(["its name"] if named else []), *([told] if told else [])])
            found.append((points + column.share["nonzero"], column, why))
    found.sort(key=lambda f: (not _measures(f[1]), -f[0]))
    return [_duration(evidence, column, why, best=rank == 0 and _measures(column)) for rank, (_, column, why) in enumerate(found)]


def _measures(column: Column) -> bool:
    """Many values, and no name of a rating."""
    return column.distinct > 24 and "rating" not in column.hints


def _duration(evidence: Evidence, column: Column, why: str, best: bool) -> Finding:
    named = "duration" in column.hints
    if not best:
        return Finding(column.name, "left out", f"known only after the fact ({why}): as context it would give the label away", "likely",
                       instead="an outcome", active=False)
    milliseconds = "ms" in column.hints or (column.middle or 0) > 1500
    value = f"TRY_CAST({quote(column.name)} AS DOUBLE) / {1000 if milliseconds else 1}"
    most = float(evidence.connection.execute(f"SELECT quantile_cont({value}, 0.98) FROM {evidence.log.name}").fetchall()[0][0] or 0)
    spec: dict[str, Any] = {"kind": "duration", "column": column.name} | ({"unit": "ms"} if milliseconds else {})
    spec |= {"clip": next((c for c in CLIPS if c >= most), CLIPS[-1])}
    unit = "milliseconds" if milliseconds else "seconds"
    return Finding(column.name, "outcome", f"{why}; {unit}, nearly all under {most:,.0f} s", "likely" if named else "guess", "duration",
                   spec, "" if named else "leave it out if it is no duration")


def typed_text(evidence: Evidence, column: Column) -> str | None:
    """Why a column that is no number is known only after the fact, or None."""
    tie = evidence.tie(column.name)
    if tie and tie.told:
        return tie.told
    return "its name" if column.hints & {"rating"} and not column.hints & BEFORE else None

