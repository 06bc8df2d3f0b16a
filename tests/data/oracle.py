"""What preparation must give, in plain Python: one function a concept of DESIGN 3 and 4, one row at a time, nothing clever.

`expect` takes the raw rows as they stand in the files (text or None) and a Config. It knows no SQL and no numpy, and was written from the
design and the docstrings. It says nothing of `negatives` and of files that are malformed as files.
"""

import hashlib
import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

from recllm.config import Config
from recllm.schema import CategoryField, Outcome, Schema, TimeColumn

Row = dict[str, Any]
EPOCH, MS, DAY = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1), 86_400_000
BLANKS = " \t\n\r\f\v"


@dataclass
class Expected:
    read: int
    rows: list[Row]  # by user, in the order of their timelines
    dropped: dict[str, int]
    mended: dict[str, int]
    merged: int
    counts: list[Row]  # cumulative item counts by period
    times: list[int]  # of all rows that break no rule by themselves, sorted

    @property
    def log_end(self) -> int:
        return self.times[-1]


# ---- one cell


def text(cell: str | None) -> str | None:
    """Trimmed; empty is unknown; True and False in lower case."""
    value = (cell or "").strip(BLANKS)
    return (value.lower() if value.lower() in ("true", "false") else value) or None


def number(cell: str | None) -> float | None:
    """A finite number; text, NaN and infinity are unknown."""
    try:
        value = float(text(cell) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def flag(cell: str | None) -> float | None:
    """0, 1, None for unknown, NaN for what is neither."""
    value = text(cell)
    if value is None:
        return None
    if value.lower() in ("true", "yes", "t") or number(value) == 1:
        return 1.0
    return 0.0 if value.lower() in ("false", "no", "f") or number(value) == 0 else math.nan


def moment(cell: str | None, spec: TimeColumn) -> tuple[int | None, int | None]:
    """(UTC milliseconds, minutes east of UTC there), None for what is no moment."""
    value, amount = text(cell), number(cell)
    if value is None:
        return None, None
    if spec.unit != "iso" and amount is not None:
        size = {"s": 1e3, "ms": 1, "us": 1e-3}.get(spec.unit) or (1e3 if abs(amount) < 1e11 else 1 if abs(amount) < 1e14 else 1e-3)
        ms = math.floor(amount * size + 0.5)
        if abs(amount * size) >= 9e15:
            return None, None
        return ms, _zone_offset(ms, spec.zone)
    try:
        found = datetime.fromisoformat(value) if spec.unit in ("auto", "iso") else None
    except ValueError:
        found = None
    if found is None:
        return None, None
    if found.tzinfo is not None:  # the text says its own zone
        return (found - EPOCH) // MS, int(found.utcoffset().total_seconds() // 60)
    # the later one of an hour that a clock change doubles
    later = max((found.replace(tzinfo=ZoneInfo(spec.zone), fold=fold) for fold in (0, 1)), key=lambda reading: reading - EPOCH)
    ms = (later - EPOCH) // MS
    return ms, _zone_offset(ms, spec.zone)


def _zone_offset(ms: int, zone: str) -> int | None:
    try:
        return int((EPOCH + ms * MS).astimezone(ZoneInfo(zone)).utcoffset().total_seconds() // 60)
    except OverflowError:  # outside of the calendar: a rule drops the row
        return None


def field(cell: str | None, spec: CategoryField) -> Any:
    """A context field by its kind."""
    if spec.list:
        value = text(cell) or ""
        parts = [str(part) for part in json.loads(value)] if value.startswith("[") else value.split(spec.separator)
        return [part.strip(" ") for part in parts if part.strip(" ")] or None
    return number(cell) if spec.kind == "number" else text(cell)


def outcome(cell: str | None, spec: Outcome) -> float | None:
    """0 or 1, or seconds; None for unknown, NaN for unreadable."""
    if spec.derived or spec.every_row:
        return None if spec.derived else 1.0
    if spec.kind == "binary" and spec.at_least is None:
        return flag(cell)
    value = number(cell)
    if value is None:
        return None if text(cell) is None else math.nan
    return float(value >= spec.at_least) if spec.at_least is not None else value / (1000 if spec.unit == "ms" else 1)


# ---- one row


def typed(cells: dict[str, str | None], schema: Schema) -> Row:
    """One raw row by role."""
    time, offset = moment(cells[schema.time.column], schema.time)
    scored = flag(cells[schema.scored]) if schema.scored else 1.0
    row: Row = {"user": text(cells[schema.user]), "item": text(cells[schema.item]), "time": time, "utc_offset": offset,
                "request": text(cells[schema.request]) if schema.request else None,
                "weight": number(cells[schema.weight]) if schema.weight else 1.0,
                "session": text(cells[schema.session]) if schema.session else None,
                "scored": 1.0 if scored is None else scored,
                "known": moment(cells[schema.known_at.column], schema.known_at)[0] if schema.known_at else None}  # fmt: skip
    row |= {name: field(cells[spec.column or name], spec) for name, spec in schema.context.items()}
    return row | {name: outcome(cells.get(spec.column or name), spec) for name, spec in schema.outcomes.items()}


def broken(row: Row, config: Config) -> str | None:
    """The first rule that a row breaks by itself."""
    limits, schema = config.data.rules, config.columns
    first = utc(limits.min_time)
    last = utc(limits.max_time) if limits.max_time else (datetime.now(UTC) - EPOCH) // MS + DAY
    if row["user"] is None or row["item"] is None:
        return "missing_user" if row["user"] is None else "missing_item"
    if row["time"] is None:
        return "bad_time"
    if not first <= row["time"] <= last:
        return "time_out_of_range"
    if math.isnan(row["scored"]):
        return "bad_scored"
    for name, spec in schema.outcomes.items():
        value = row[name]
        if value is None:
            continue
        if math.isnan(value):
            return f"bad_{name}"
        if spec.kind == "duration" and value < 0:
            return f"negative_{name}"
        if spec.kind == "duration" and value > limits.max_duration:
            return f"absurd_{name}"
        if spec.given and value == 1 and row[spec.given] == 0:
            return f"{name}_without_{spec.given}"
    return None


def utc(iso: str) -> int:
    found = datetime.fromisoformat(iso)
    return ((found if found.tzinfo else found.replace(tzinfo=UTC)) - EPOCH) // MS


# ---- many rows


def judge(pairs: list[tuple[dict, Row]], config: Config, items: set[str], users: set[str]) -> list[str | None]:
    """The rules that need more than one row, or the tables beside the log: a reason for each (raw, typed) row, or None."""
    limits, seen, reasons = config.data.rules, set(), []
    busy = Counter((row["user"], row["time"] // DAY) for _, row in pairs)
    bots = {user for (user, _), n in busy.items() if n > limits.max_events_per_day}
    for cells, row in pairs:
        copy = tuple(sorted((name, cell) for name, cell in cells.items() if cell is not None))
        reasons.append("duplicate" if copy in seen else
                       "unknown_item" if limits.unknown_items == "drop" and row["item"] not in items else
                       "unknown_user" if limits.unknown_users == "drop" and row["user"] not in users else
                       "bot" if row["user"] in bots else None)
        seen.add(copy)
    return reasons


def merge(rows: list[Row], schema: Schema) -> list[Row]:
    """Rows equal in user, time and item are one: binary outcomes by max, duration by sum, other fields the first known value."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["user"], row["time"], row["item"]].append(row)
    merged = []
    for group in groups.values():
        one = {name: next((row[name] for row in group if row[name] is not None), None) for name in group[0]}
        one["scored"] = any(row["scored"] > 0 for row in group)
        one["known"] = max((row["known"] for row in group if row["known"] is not None), default=None)
        for name, spec in schema.outcomes.items():
            values = [row[name] for row in group if row[name] is not None]
            one[name] = (max(values) if spec.kind == "binary" else sum(values)) if values else None
        merged.append(one)
    return merged


def timelines(rows: list[Row]) -> list[list[Row]]:
    """Each user's rows in their total order, which no outcome enters."""
    users = defaultdict(list)
    for row in rows:
        users[row["user"]].append(row)
    return [sorted(users[user], key=lambda r: (r["time"], hashlib.md5(r["item"].encode()).hexdigest())) for user in sorted(users)]


def known_at(row: Row, schema: Schema) -> int:
    measured = schema.duration if schema.duration and not schema.outcomes[schema.duration].derived else None
    after = math.floor((row[measured] or 0) * 1000) if measured else 0
    usual = row["time"] + after + int(schema.outcome_delay * 1000)
    return max(row["time"], usual if row["known"] is None else row["known"])


def n_before(timeline: list[Row], time: int) -> int:
    """The leading run of rows that are earlier, and known, at a moment."""
    for n, row in enumerate(timeline):
        if row["time"] >= time or row["known_at"] > time:
            return n
    return len(timeline)


def derived_duration(row: Row, timeline: list[Row], spec: Outcome, end: float) -> float | None:
    """Seconds to the next event of the user, or of the session; unknown where the split's end hides it."""
    if spec.session and row["session"] is None:
        return None
    later = [r["time"] for r in timeline if r["time"] > row["time"] and (not spec.session or r["session"] == row["session"])]
    if not later or min(later) >= end:
        return None
    seconds = (min(later) - row["time"]) / 1000
    return min(seconds, spec.clip) if spec.session or seconds <= spec.clip else None


def label_within(row: Row, timeline: list[Row], name: str, window: int, end: float) -> float | None:
    """1 where the outcome comes with the row or within its window; unknown while the window is open at the split's end."""
    if row["time"] + window >= end:
        return None
    near = [r[name] for r in timeline if r["item"] == row["item"] and row["time"] < r["time"] <= row["time"] + window]
    return max((value for value in [row[name], *near] if value is not None), default=None)


def finish(timeline: list[Row], schema: Schema, cuts: tuple[int, int], log_end: int) -> list[Row]:
    """Order, visibility, split and labels of one user's rows."""
    for pos, row in enumerate(timeline):
        row |= {"pos": pos, "known_at": known_at(row, schema)}
        row["split"] = "train" if row["time"] < cuts[0] else "validation" if row["time"] < cuts[1] else "test"
    for row in timeline:
        row["n_before"] = n_before(timeline, row["time"])
        end = {"train": cuts[0], "validation": cuts[1]}.get(row["split"])
        for name, spec in schema.outcomes.items():
            if spec.derived:
                row[name] = derived_duration(row, timeline, spec, math.inf if end is None else end)
            if spec.window:
                row[f"{name}_within"] = label_within(row, timeline, name, int(spec.window * DAY), log_end + 1 if end is None else end)
    return timeline


def first_moments(times: list[int], validation: float, test: float) -> tuple[int, int]:
    """First moments of validation and test by fractions of the rows: the discrete quantiles of their sorted times."""
    shares = (1 - validation - test, 1 - test)
    first, second = (times[max(math.ceil(round(share * len(times), 9)) - 1, 0)] for share in shares)
    return first, second


def milliseconds(value: float) -> float:
    """What counts hold of a value: sums of whole milliseconds are equal in any order."""
    return math.floor(value * 1000 + 0.5) / 1000


def item_counts(rows: list[Row], config: Config) -> list[Row]:
    """Events and outcome sums of each item up to each period's end in which they changed; booked when they are known."""
    names = [name for name, spec in config.columns.outcomes.items() if not spec.derived]
    period, booked = config.data.period * 1000, defaultdict(list)
    for row in rows:
        if any(row[name] is not None for name in names):
            booked[row["item"]].append((row["known_at"] // period * period + period, row))
    counts = []
    for item in sorted(booked):
        for end in sorted({e for e, _ in booked[item]}):
            known = [row for e, row in booked[item] if e <= end]
            values = {name: [milliseconds(row[name]) for row in known if row[name] is not None] for name in names}
            counts.append({"item": item, "period_end": end, "events": len(known)}
                          | {f"{n}_n": len(v) for n, v in values.items()} | {f"{n}_sum": sum(v) for n, v in values.items()})
    return counts


def mended(pairs: list[tuple[dict, Row]], schema: Schema) -> dict[str, int]:
    """Kept rows with a number that could not be read, by field."""
    found = Counter(f"unreadable_{name}" for cells, row in pairs for name, spec in schema.context.items()
                    if spec.kind == "number" and row[name] is None and text(cells[spec.column or name]) is not None)
    return dict(found)


def expect(raw: list[dict[str, str | None]], config: Config, cuts: tuple[int, int], items: set[str] | None = None,
           users: set[str] | None = None) -> Expected:
    """Everything that preparation makes of raw rows, in the order of their files and lines. `cuts` are the splits' first moments;
    `items` and `users` the ids that the tables beside the log list."""
    schema = config.columns
    pairs, reasons = [(cells, typed(cells, schema)) for cells in raw], Counter()
    judged = [(pair, broken(pair[1], config)) for pair in pairs]
    reasons.update(reason for _, reason in judged if reason)
    kept = [pair for pair, reason in judged if reason is None]
    unknown, times = mended(kept, schema), sorted(row["time"] for _, row in kept)
    verdicts = judge(kept, config, items or set(), users or set())
    reasons.update(reason for reason in verdicts if reason)
    events = [row for (_, row), reason in zip(kept, verdicts, strict=True) if reason is None]
    single = merge(events, schema)
    rows = [row for timeline in timelines(single) for row in finish(timeline, schema, cuts, times[-1])]
    return Expected(len(raw), rows, dict(reasons), unknown, len(events) - len(single), item_counts(rows, config), times)


# ---- what was prepared


def prepared_rows(folder: Path) -> list[Row]:
    """All rows of a prepared folder, in order, each with its split."""
    rows = []
    for path in sorted((folder / "data").glob("*.parquet")):
        rows += [row | {"split": path.name.split("-")[0]} for row in pq.read_table(path).to_pylist()]
    return sorted(rows, key=lambda row: (row["user"], row["pos"]))


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    return found == expected


def differences(folder: Path, report: Any, expected: Expected) -> list[str]:
    """One line for every quantity of a prepared folder that is not what was expected."""
    wanted = {"read": expected.read, "dropped": expected.dropped, "mended": expected.mended, "merged": expected.merged,
              "rows": len(expected.rows)}  # fmt: skip
    wrong = [f"{name}: expected {want}, found {getattr(report, name)}" for name, want in wanted.items() if getattr(report, name) != want]
    tables = [("row", prepared_rows(folder), expected.rows),
              ("item count", pq.read_table(folder / "item_counts.parquet").to_pylist(), expected.counts)]
    for table, found, wanted in tables:
        if len(found) != len(wanted):
            wrong.append(f"{table}s: expected {len(wanted)}, found {len(found)}")
            continue
        for k, (got, want) in enumerate(zip(found, wanted, strict=True)):
            names = [name for name in want if name not in ("session", "known")]
            wrong += [f"{table} {k} {want['item']!r} {name}: expected {want[name]!r}, found {got.get(name)!r}"
                      for name in names if not equal(got.get(name), want[name])]
    return wrong
