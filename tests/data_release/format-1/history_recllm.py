"""The parts of a raw request: moments, declared fields, and a history in the order and form of a prepared timeline."""

import hashlib
import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from .errors_recllm import RequestError, nearest
from .fields_recllm import as_number, as_text


def parse_time(value: Any, zone: str, unit: str, where: str) -> tuple[int, int]:
    """(UTC milliseconds, minutes east of UTC) of ISO 8601 text, a datetime, or a number; naive times are in `zone`.

    Raises RequestError for anything else.
    """
    if isinstance(value, str) and not _is_number(value):
        try:
            value = datetime.fromisoformat(_plain_zone(value.strip()))
        except ValueError:
            raise RequestError(f'{where}: expected a time such as "2026-11-24T21:00:00+01:00", found {value!r}') from None
    if isinstance(value, datetime):
        # the later of a doubled hour; a moment that a clock change skips counts from before it and is told in the offset after it: both
        # as DuckDB reads them in preparation
        before, after = (value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
        offset, value = after.utcoffset(), min(before, after, key=lambda reading: reading.utcoffset() or timedelta())
        whole = round((value - datetime.fromisoformat("1970-01-01T00:00:00+00:00")).total_seconds() * 1000)
        return whole, int(offset.total_seconds() // 60) if offset else 0
    number = as_number(value, where) if not isinstance(value, bool) else math.nan
    scale = {"s": 1e3, "ms": 1.0, "us": 1e-3}.get(unit) or (1e3 if abs(number) < 1e11 else 1.0 if abs(number) < 1e14 else 1e-3)
    try:
        moment = math.floor(number * scale + 0.5)
        offset = datetime.fromtimestamp(moment / 1000, tz=ZoneInfo(zone)).utcoffset()
    except (ValueError, OverflowError, OSError):  # not a number, or no year of the calendar
        raise RequestError(f"{where}: expected a time, found {value!r}: ISO 8601 text, or seconds or milliseconds since 1970") from None
    return moment, int(offset.total_seconds() // 60) if offset else 0


def _plain_zone(text: str) -> str:
    """ISO 8601 with an offset as Python reads it, for what preparation reads too: a small `z`, `UTC`, blanks before the offset."""
    text = re.sub(r"^(\d+-\d+-\d+[Tt ]\d[\d:.,]*)\s+(?=[+-]\d\d(?::?\d\d)?$)", r"\1", text)
    return re.sub(r"(?<=\d)\s*(?:[Zz]|UTC|GMT)$", "+00:00", text)


def _is_number(text: str) -> bool:
    return text.strip().replace(".", "", 1).removeprefix("-").isdigit()


def known_keys(given: Any, known: list[str], where: str) -> dict[str, Any]:
    """`given` as a dict with declared keys only. Raises RequestError naming the first undeclared one."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise RequestError(f"{where}: expected a dict, found {type(given).__name__}")
    for key in given:
        if key not in known:
            raise RequestError(f'{where}: undeclared field "{key}" (declared: {", ".join(known)}).{nearest(key, known)}')
    return given


def listed(fields: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    """Fields with the text of list fields split at their separator, as preparation splits a cell."""
    many = {n for n, spec in specs.items() if spec["list"]}
    return {n: v.split(specs[n]["separator"]) if n in many and isinstance(v, str) else v for n, v in fields.items()}


def read_history(history: Sequence[Any], schema: dict[str, Any], context: list[str]) -> list[dict[str, Any]]:
    """Events (dicts with time in UTC ms, offset in minutes, item_id, context, outcomes as numbers, known_at in ms or -1) sorted by time
    and md5 of the item id. An exact copy of an event counts once; others equal in time and item are merged as preparation merges them.

    Raises RequestError naming the event at fault.
    """
    merged: dict[tuple[int, str, str], dict[str, Any]] = {}
    copies: dict[tuple[int, str, str], list[Any]] = {}
    for place, event in enumerate(history):
        read = _event(event, schema, context, f"history[{place}]")
        key = (read["time"], hashlib.md5(read["item_id"].encode()).hexdigest(), read["item_id"])
        if event in copies.setdefault(key, []):
            continue
        copies[key].append(event)
        merged[key] = _merge(merged[key], read, schema["outcomes"]) if key in merged else read
    return [merged[key] for key in sorted(merged)]


def _event(event: Any, schema: dict[str, Any], context: list[str], where: str) -> dict[str, Any]:
    """One checked event."""
    outcomes, column = schema["outcomes"], schema["known_at"]
    event = known_keys(event, ["item_id", "time", *context, *outcomes, *(["known_at"] if column else [])], where)
    item = as_text(event.get("item_id"))
    if item is None:
        raise RequestError(f"{where}: expected an item_id, found {event.get('item_id')!r}")
    moment, offset = parse_time(event.get("time"), schema["time"]["zone"], schema["time"]["unit"], f"{where}.time")
    known = -1
    if column and event.get("known_at") is not None:
        known = parse_time(event["known_at"], column["zone"], column["unit"], f"{where}.known_at")[0]
    numbers = {name: _outcome(event.get(name), outcome["kind"], f"{where}.{name}") for name, outcome in outcomes.items()}
    for name, outcome in outcomes.items():
        if outcome["given"] and numbers[name] == 1 and numbers[outcome["given"]] == 0:
            raise RequestError(f"{where}: expected {name} only where {outcome['given']} is 1, found {name} 1 and {outcome['given']} 0")
    return {**listed(event, schema["context"]), **numbers, "item_id": item, "time": moment, "offset": offset, "known_at": known}


def _outcome(value: Any, kind: str, where: str) -> float:
    number = as_number(value, where)
    if number < 0 or (kind == "binary" and number == number and number not in (0.0, 1.0)):
        raise RequestError(f"{where}: expected {'0 or 1' if kind == 'binary' else 'seconds'}, found {number:g}")
    return number


def _merge(first: dict[str, Any], second: dict[str, Any], outcomes: dict[str, Any]) -> dict[str, Any]:
    """Two rows of one event: fields of the first, binary outcomes by max, duration by sum, the later known_at."""
    both = {**second, **{k: v for k, v in first.items() if v is not None}, "known_at": max(first["known_at"], second["known_at"])}
    for name, outcome in outcomes.items():
        known = [v for v in (first[name], second[name]) if not math.isnan(v)]
        both[name] = (max(known) if outcome["kind"] == "binary" else sum(known)) if known else math.nan
    return both
