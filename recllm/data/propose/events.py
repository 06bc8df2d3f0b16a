"""A column that says what was done: which of its values is what was shown, which follow it, and within how many days (event_type)."""

import re
from dataclasses import dataclass
from math import ceil
from typing import Any

from recllm.data.propose.evidence import DAY, Evidence, Finding
from recllm.data.propose.pairs import TIME
from recllm.data.propose.profile import Column
from recllm.data.propose.words import concepts
from recllm.data.sources.files import literal, quote
from recllm.schema import RESERVED
from recllm.schema.base import RESERVED_OUTCOMES

TAKEN = {"click", "purchase", "engaged", "cart", "view"}  # concepts of what somebody did to what was shown
BOUGHT = {"click", "purchase", "cart"}  # of these, what makes a page that was looked at an offer
NEARER = 0.7  # share of the follow-ups whose nearest exposure is the one before them; chance gives a half
FEWEST = 20  # rows of a follow-up in the sample, below which it has no outcome of its own
WINDOWS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7, 14, 30)  # days
COVERED = 0.95  # share of the follow-ups that a window should reach


@dataclass(frozen=True)
class Types:
    """`shown`: values of what was there to be taken; `taken`: value -> outcomes of which it is a 1; the others are history only.

    `offer`: whether a row of `shown` may have been taken or not; else the log holds what people chose to look at.
    """

    column: str
    shown: list[str]
    taken: dict[str, list[str]]
    others: list[str]
    offer: bool

    @property
    def outcomes(self) -> dict[str, list[str]]:
        """Outcome -> the values that make it 1."""
        names = dict.fromkeys(name for outcomes in self.taken.values() for name in outcomes)
        return {name: [value for value, outcomes in self.taken.items() if name in outcomes] for name in names}

    @property
    def label(self) -> str:
        """SQL: 1 for a row of what was taken, 0 for what was shown."""
        taken, shown = (", ".join(map(literal, values)) for values in (self.taken, self.shown))
        return f"CASE WHEN {quote(self.column)} IN ({taken}) THEN 1 WHEN {quote(self.column)} IN ({shown}) THEN 0 END"


def types_of(evidence: Evidence, column: Column) -> Types | None:
    """What the values mean, by their names and by what comes after what; None where nothing follows an exposure."""
    known = {value: concepts(value) for value in column.top}
    shown = [v for v, c in known.items() if "shown" in c and not c & {"negative", *BOUGHT}] or [
        v for v, c in known.items() if "view" in c and not c & {"negative", "engaged", *BOUGHT}]
    taken = [v for v, c in known.items() if v not in shown and c & TAKEN and "negative" not in c]
    if not shown or not taken or not _follow(evidence, column, shown, taken):
        return None
    exposure = any("shown" in known[v] for v in shown)
    offer = exposure or any(known[v] & BOUGHT for v in taken)
    return Types(column.name, shown, _outcomes(column, known, taken, offer), [v for v in known if v not in (*shown, *taken)], offer)


def _outcomes(column: Column, known: dict[str, frozenset[str]], taken: list[str], offer: bool) -> dict[str, list[str]]:
    """Value -> its outcomes. The first step after an offer is the click, and so is all that goes beyond it."""
    bought = [v for v in taken if "purchase" in known[v] and "click" not in known[v]]
    steps = sorted((v for v in taken if v not in bought), key=lambda v: ("click" not in known[v], "view" not in known[v]))
    main = ["click"] if offer and steps else []
    found = {}
    for value in taken:
        own = ["purchase"] if value in bought else [_name(value)] if not offer or value != steps[0] else []
        enough = value in bought or column.top[value] >= FEWEST
        found[value] = main + [name for name in own if enough and name not in main]
    return found


def _name(value: str) -> str:
    name = re.sub(r"\W+", "_", value).strip("_").lower() or "done"
    return f"did_{name}" if name in RESERVED | RESERVED_OUTCOMES or name.endswith("_within") else name


def _near(evidence: Evidence, column: str, shown: list[str]) -> str:
    """SQL: each row's value `v` and moment `t`, and the nearest exposures of its user and item before it (or then) and after it."""
    names = ", ".join(map(literal, shown))
    at, whose = f"CASE WHEN {quote(column)} IN ({names}) THEN {TIME} END", f"{quote(evidence.user or '')}, {quote(evidence.item or '')}"
    window = f"OVER (PARTITION BY {whose} ORDER BY {TIME} RANGE BETWEEN"
    return (f"SELECT {quote(column)} AS v, {TIME} AS t, max({at}) {window} UNBOUNDED PRECEDING AND CURRENT ROW) AS before, "
            f"min({at}) {window} 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS after FROM {evidence.log.name} WHERE {TIME} IS NOT NULL")


def _follow(evidence: Evidence, column: Column, shown: list[str], taken: list[str]) -> bool:
    """Whether what was taken comes after an exposure of the same item to the same user, more often than before one."""
    if not (evidence.user and evidence.item and evidence.time):
        return False
    mine = f"({_near(evidence, column.name, shown)}) WHERE v IN ({', '.join(map(literal, taken))})"
    nearer, met = evidence.connection.execute(f"""
        SELECT count(*) FILTER (before IS NOT NULL AND (after IS NULL OR t - before <= after - t)),
               count(*) FILTER (before IS NOT NULL OR after IS NOT NULL) FROM {mine}""").fetchall()[0]
    return bool(met) and nearer >= NEARER * met


def _window(evidence: Evidence, types: Types, values: list[str]) -> tuple[float, str, bool]:
    """Days within which nearly all of these follow the exposure before them, why, and whether that holds for most of them."""
    mine = f"({_near(evidence, types.column, types.shown)}) WHERE v IN ({', '.join(map(literal, values))})"
    gap, met, same = evidence.connection.execute(f"""
        SELECT quantile_disc(t - before, {COVERED}) FILTER (before < t), count(*) FILTER (before < t), count(*) FILTER (before = t)
        FROM {mine}""").fetchall()[0]
    at_once = f"; {same:,} came in the very moment of one, which no window counts: is there a finer time?" if same else ""
    if gap is None:
        return 1.0, f"no gap could be measured, a day is a guess{at_once}", False
    found = next((w for w in WINDOWS if w >= gap / DAY), WINDOWS[-1])
    most = [w for w in WINDOWS if w <= max(_room(evidence), WINDOWS[0])][-1]
    cut = f", cut to {most:g} days: half of what validation or test lasts, for a label is known once its window is closed"
    why = f"{COVERED:.0%} of {met:,} came within {_span(gap / DAY)} of the {' or '.join(types.shown)} before them, rounded up"
    return float(min(found, most)), f"{why}{cut if found > most else ''}{at_once}", met >= same


def _room(evidence: Evidence) -> float:
    """Half of the days that the shorter of validation and test lasts, with a tenth of the rows each."""
    first, second, last = evidence.connection.execute(f"""SELECT quantile_disc({TIME}, 0.8), quantile_disc({TIME}, 0.9), max({TIME})
                                                          FROM {evidence.log.name}""").fetchall()[0]
    return min(second - first, last - second) / DAY / 2


def _span(days: float) -> str:
    seconds = days * 86_400
    return f"{days:.1f} days" if days >= 2 else f"{seconds / 3600:.1f} hours" if seconds >= 5_400 else f"{ceil(seconds):,} s"


def findings(evidence: Evidence, types: Types) -> list[Finding]:
    """The role event_type, and an outcome for each thing that was done."""
    column = evidence.log[types.column]
    counts = ", ".join(f"{value} {n / max(column.n, 1):.0%}" for value, n in list(column.top.items())[:5])
    values: dict[str, dict[str, Any]] = {value: {"scored": True} for value in types.shown}
    values |= {value: dict.fromkeys(outcomes, 1) for value, outcomes in types.taken.items()} | {value: {} for value in types.others}
    why = f"says what was done ({counts}): {', '.join(types.shown)} is what was there, {', '.join(types.taken)} follow it"
    why += f"; {', '.join(types.others)}: history without outcomes" if types.others else ""
    found = [Finding(types.column, "event_type", why, "likely", "event_type", {"column": types.column, "values": values})]
    windows: dict[str, float] = {}
    for name, kinds in types.outcomes.items():
        days, reason, most = _window(evidence, types, kinds)
        windows[name] = days
        base = "click" if name != "click" and (not types.offer or days <= windows.get("click", 0)) else None
        spec = {"kind": "binary", "window": days} | ({"given": base} if base else {})
        rows = sum(column.top[kind] for kind in kinds)
        why = f"{rows:,} rows of {', '.join(kinds)}; window: {reason}"
        found.append(Finding(types.column, "outcome", why, "likely" if most else "guess", name, spec))
    return found
