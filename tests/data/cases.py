"""hypothesis strategies: whole cases for preparation, from plain logs to files that no program should have written.

A case is a configuration and its files. Where the files are well formed, `raw` holds their rows as text and the oracle says what must come
out; where they were broken on purpose, `raw` is None and only the accounts must balance.
"""

import copy
import csv
import io
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

START, DAY = 1_700_000_000, 86_400  # seconds; Tuesday evening, 14 November 2023
CUTS = (START + 6 * DAY, START + 8 * DAY)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
PLAIN = st.characters(exclude_categories=["Cs", "Cc"])
WORD = st.text(PLAIN, min_size=1, max_size=6).filter(str.strip)
HOSTILE = st.sampled_from(["🎬", "a,b", 'the "best" one', "a;b", "a|b", "a\tb", "'; DROP TABLE raw; --", "{x}", "0017", "NULL", "null",
                           "9223372036854775807", "nan", "TRUE", "two\nlines", " edge ", "[1", "#1", "\\", "%s", "$.a", "=1+1", "-", '"'])
TEXTS = st.one_of(st.sampled_from(["tv", "mobile", "Oslo"]), st.none(), WORD, HOSTILE)
NUMBERS = st.sampled_from(["3.5", "-2", "0", "1e3", " 7 ", "1e308", None, "nan", "inf", "-inf", "1e400", "warm"])
FLAGS = ["0", "1", "0", "1", "0", "1", "true", "False", "yes", "no", "1.0", None]
BAD_FLAGS = ["2", "maybe", "nan", "-1", "inf"]
SECONDS = ["0", "4.25", "300", "5000", "90000", None, None]
BAD_SECONDS = ["-5", "nan", "inf", "1e300", "long"]
BAD_TIMES = [None, "yesterday", "-5", "0", "nan", "inf", "1e30", "2023-13-45", "0001-01-01T00:00:00", "9999-12-31T23:59:59Z"]
ODD = ["user id", "ITEM", "a,b", 'q"q', "it's", "{n}", "%", "select", "line", "raw", "1", "ünï", "a.b", "$x", "broken"]
COLUMN = st.one_of(st.text(PLAIN, min_size=1, max_size=8).filter(lambda n: n == n.strip() and n[0] != "\ufeff"),
                   st.sampled_from(ODD))  # a byte order mark at a file's beginning is no part of a name
WRONG: list[Any] = [None, "", "x", 0, -1, 1.5, True, [], {}, [None], {"a": 1}, float("nan"), float("inf"), 10**30, 1e300,
                    "20231115", "2023-W46-3", "2023-11-15", "jsonl", "recbole", "a\0b", "a\nb", ["x", "x"], {1: 2}, "💥", "a" * 300,
                    {"column": None}, "user_id", "..", "click", 1e-300, -(10**30)]  # fmt: skip
# right by type, far from anything sensible
FAR = [(("data", "rules", "min_time"), ["20200101", "2020-W10-2", "2020-01-01T00:00:00+02:00", "0001-01-01", "9999-12-31"]),
       (("data", "rules", "max_time"), ["20300101", "2030-01-01T00:00:00Z", "0001-01-01", "9999-12-31T23:59:59.999999"]),
       (("data", "rules", "max_duration"), [1e300, 1e-300, 5]), (("data", "rules", "max_events_per_day"), [1, 10**30]),
       (("data", "split"), [{"validation": "20231120", "test": "20231122"}, {"validation": "0001-01-01", "test": "9999-12-31"},
                            {"validation": 1e-12, "test": 1e-12}, {"validation": 0.5, "test": 0.4999999}]),
       (("data", "period"), [1, 10**9, 10**18, 10**30]), (("data", "shards"), [97, 10**6, 10**30]),
       (("data", "delimiter"), ["", '"', "\n", "\0", "ab", "abcde", "💥", ";", "'"]),
       (("data", "interactions"), [[], [""], ["."], ["a" * 5000]]), (("schema", "time", "zone"), ["localtime", "Etc/GMT+12"]),
       (("schema", "outcome_delay"), [1e-9, 1e16, 1e300, float("inf")]),
       (("schema", "outcomes", "click", "at_least"), [float("nan"), float("inf"), -1e300, 1e-7, 0]),
       (("schema", "outcomes", "click", "window"), [1e-12, 1e6, 1e12, 1e300, float("inf")]),
       (("schema", "outcomes", "click", "clip"), [1e-300, float("inf")]),
       *((("schema", "outcomes", name), [{"kind": "binary", "column": "click"}]) for name in ("Click", "click_n", "events", "period_end")),
       *((("schema", "context", name), [{"column": "mark"}])
         for name in ("User", "TIME", "Pos", "MARK", "known", "o", "r", "select", "__x", "Ünï", "items", "duplicate", "recllm_seen")),
       (("schema", "context", "mark", "separator"), ["", "m", "💥"]), (("name",), ["..", ".", "-", "a" * 300])]  # fmt: skip
USABLE = [("b0", "i0", 0.0, True), ("b1", "i1", 1.0, False), ("b0", "i1", 2.0, False), ("b1", "i0", 3.5, True), ("b0", "i1", 7.0, None),
          ("b1", "i1", 7.5, None), ("b0", "i0", 9.0, None), ("b1", "i0", 9.9, None)]  # fmt: skip
KEYS = ["clik", "kind", "at_least", "window", "zone", "column", "", "separator", "negatives", "published", "every_row"]
JUNK = [b"\0", b"\xff", b"\xfe\xff", b'"', b'""', b"'", b",", b",,,,", b"\r", b"\r\n", b"\n", b"\n\n", b"\\", b"\xc3", b"{", b"]",
        "💥".encode(), b"\x1a", b"\xef\xbb\xbf", b"a,b", b'a"b', b'"a', b'"a\nb"', b" ", b"\t", b"9" * 400]  # fmt: skip
YAML_JUNK = [b"\0", b"\xff", b"\t", b"{", b"&a [*a]", b"!!python/object:os.system {}", b": :", b"%", b"${NOT_SET}", b"\x85", b"- "]
HOW = ["insert", "insert", "insert", "line", "cut", "encode", "short", "header", "twice", "ends", "flip", "nothing"]


@dataclass
class Case:
    plain: dict[str, Any]  # the configuration; paths are names in the case's folder
    files: dict[str, bytes]
    raw: list[dict[str, str | None]] | None = None
    listed: dict[str, set[str]] = field(default_factory=dict)
    text: bytes | None = None  # of the YAML file, where it is not the plain configuration
    may_refuse: bool = False  # one line is as good as what the oracle says
    marked: list[bytes] = field(default_factory=list)  # lines of a broken file that were left as they were, each with its mark


def often(n: int) -> st.SearchStrategy[bool]:
    """False once in n draws."""
    return st.sampled_from([True] * (n - 1) + [False])


# ---- schemas


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A valid schema; every column has a name of the file's own, which may be odd."""
    outcomes: dict[str, Any] = {"click": {"kind": "binary"}}
    if draw(st.booleans()):
        more = [{}, {"given": "click"}, {"given": "click", "window": 1}, {"window": 0.25}]
        outcomes["purchase"] = {"kind": "binary", **draw(st.sampled_from(more))}
    if draw(st.booleans()):
        outcomes["liked"] = {"kind": "binary", "at_least": draw(st.sampled_from([0, 3.5, -2, 1e-7]))}
    kind = draw(st.sampled_from(["", "measured", "derived", "session"]))
    if kind:
        more = {"measured": {"unit": draw(st.sampled_from(["s", "ms"]))}, "derived": {"derived": "next_event"},
                "session": {"derived": "next_event", "session": "visit"}}[kind]
        outcomes["duration"] = {"kind": "duration", "clip": draw(st.sampled_from([600, 1800.5, 1e6])), **more}
    zone = draw(st.sampled_from(ZONES))
    unit = draw(st.sampled_from(["auto", "s", "ms", "us", "iso"]))
    schema = {"user": "user_id", "item": "item_id", "time": {"column": "ts", "zone": zone, "unit": unit}, "outcomes": outcomes,
              "outcome_delay": draw(st.sampled_from([0, 0, 20, 7200.5])), "context": {"mark": {"kind": "text"}}}
    for name, spec in (("device", {}), ("temperature", {"kind": "number"}), ("moods", {"list": True}), ("place", {"kind": "place"})):
        if draw(st.booleans()):
            schema["context"][name] = spec
    seen = {"column": "seen", "zone": draw(st.sampled_from(ZONES))}
    for role, column in (("request", "visit"), ("weight", "w"), ("scored", "kept"), ("known_at", seen)):
        if not draw(often(3)):
            schema[role] = column
    return schema


def columns(schema: dict[str, Any]) -> list[str]:
    """Raw columns of a schema, in the order of a file."""
    names = [schema["user"], schema["item"], schema["time"]["column"], *(schema[r] for r in ("request", "weight", "scored") if r in schema)]
    names += [schema["known_at"]["column"]] if "known_at" in schema else []
    for name, spec in (*schema["context"].items(), *schema["outcomes"].items()):
        names += [spec["session"]] if "session" in spec else [] if spec.get("derived") else [spec.get("column", name)]
    return list(dict.fromkeys(names))


@st.composite
def renamed(draw: st.DrawFn, schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema over a file with other column names."""
    old = [n for n in columns(schema) if n != "mark"]
    new = dict(zip(old, draw(st.lists(COLUMN, min_size=len(old), max_size=len(old), unique_by=str.casefold)), strict=True))
    new["mark"] = "mark"
    if len({n.casefold() for n in new.values()}) < len(new):
        return schema
    schema = schema | {r: new[schema[r]] for r in ("user", "item", "request", "weight", "scored") if r in schema}
    schema |= {r: {**schema[r], "column": new[schema[r]["column"]]} for r in ("time", "known_at") if r in schema}
    for group in ("context", "outcomes"):
        fields = {}
        for name, spec in schema[group].items():
            own = {} if spec.get("derived") else {"column": new[spec.get("column", name)]}
            fields[name] = {**spec, **own, **({"session": new[spec["session"]]} if "session" in spec else {})}
        schema |= {group: fields}
    return schema


# ---- rows


def stamp(seconds: float, spec: dict[str, Any], style: int) -> str:
    """A moment as text, in the unit of its column; style 0 is the zone's local time without an offset."""
    if spec.get("unit", "auto") in ("s", "ms", "us") or (spec.get("unit", "auto") == "auto" and style < 3):
        scale = {"s": 1, "ms": 1000, "us": 10**6}.get(spec.get("unit", "auto"), (1, 1000, 10**6)[style % 3])
        return f"{seconds * scale:.3f}" if scale == 1 and seconds % 1 else str(int(seconds * scale))
    east, west = timezone(timedelta(hours=3, minutes=30)), timezone(-timedelta(hours=9, minutes=30))
    zone = [ZoneInfo(spec.get("zone", "UTC")), UTC, east, west][style % 4]
    local = (datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)).astimezone(zone)
    if style % 4 == 0:
        return local.replace(tzinfo=None).isoformat(" ")
    return local.isoformat().replace("+00:00", "Z")


def _ordinary(draw: st.DrawFn, role: str, spec: dict[str, Any], bad: bool) -> str | None:
    """One cell by its role; a bad one breaks a rule or becomes unknown."""
    if role == "flag":
        return draw(st.sampled_from(BAD_FLAGS if bad else FLAGS))
    if role == "rating":
        return draw(st.sampled_from(["x", "nan"] if bad else [str(spec["at_least"] + d) for d in (-1, 0, 1)] + [None]))
    if role == "seconds":
        return draw(st.sampled_from(BAD_SECONDS if bad else SECONDS))
    return draw(st.sampled_from(["1", "0.5", "2", None, "x"] if role == "weight" else ["a", "b", None]))


@st.composite
def rows(draw: st.DrawFn, schema: dict[str, Any]) -> list[dict[str, str | None]]:
    """Rows of a small log: ties, copies, late outcomes, cells that no rule lets through; mostly with what makes a log usable."""
    count = draw(st.integers(0, 14))
    users = draw(st.lists(st.one_of(WORD, HOSTILE), min_size=2, max_size=3))
    items = ["i0", "i1", *draw(st.lists(st.one_of(WORD, HOSTILE), max_size=2))]
    plan = USABLE if draw(often(8)) else []
    steps = st.integers(0, 9 * 48)  # half hours
    many = [(draw(st.sampled_from(users)), draw(st.sampled_from(items)), draw(steps) / 48 + draw(st.sampled_from([0, 0, 0.0001])), None)
            for _ in range(count)]
    made = []
    for user, item, day, label in [*plan, *many]:
        at, bad = START + round(day * DAY * 1000) / 1000, not draw(often(10)) and label is None
        cells = {schema["user"]: user, schema["item"]: item, schema["time"]["column"]: stamp(at, schema["time"], draw(st.integers(0, 7)))}
        if bad:
            spoiled = draw(st.sampled_from([schema["user"], schema["item"], schema["time"]["column"]]))
            cells[spoiled] = draw(st.sampled_from(BAD_TIMES)) if spoiled == schema["time"]["column"] else draw(st.sampled_from([None, " "]))
        _context(draw, schema, cells, at, label is not None)
        _outcomes(draw, schema, cells, label)
        made.append({name: cells.get(name) for name in columns(schema)})
    copies = [made[k] for k in draw(st.lists(st.integers(0, len(made) - 1), max_size=2))] if made else []
    order = draw(st.permutations(range(len(made) + len(copies))))
    return [{**[*made, *copies][k]} for k in order]


def _context(draw: st.DrawFn, schema: dict[str, Any], cells: dict[str, Any], at: float, usable: bool) -> None:
    for name, spec in schema["context"].items():
        values = NUMBERS if spec.get("kind") == "number" else TEXTS
        cells[spec.get("column", name)] = "m" if name == "mark" else draw(values.filter(lambda v: not (v or "").strip().startswith("[")))
    for role in ("request", "weight", "scored"):
        if role in schema:
            other = _ordinary(draw, "flag" if role == "scored" else role, {}, not draw(often(20)))
            cells[schema[role]] = "1" if usable and role == "scored" else other
    if "known_at" in schema:
        late = at + draw(st.sampled_from([-DAY, 0, 60, 7_200, 2 * DAY]))
        known = [None, "soon", stamp(late, schema["known_at"], 1), stamp(late, schema["known_at"], 4)]
        cells[schema["known_at"]["column"]] = draw(st.sampled_from(known))


def _outcomes(draw: st.DrawFn, schema: dict[str, Any], cells: dict[str, Any], label: bool | None) -> None:
    for name, spec in schema["outcomes"].items():
        bad = not draw(often(20))
        if "session" in spec:
            cells[spec["session"]] = cells.get(spec["session"]) or draw(st.sampled_from(["a", "b", None]))
        elif spec["kind"] == "duration" and not spec.get("derived"):
            cells[spec.get("column", name)] = "5" if label is not None else _ordinary(draw, "seconds", spec, bad)
        elif spec["kind"] == "binary" and "at_least" in spec:
            known = None if label is None else str(spec["at_least"] + (1 if label else -1))
            cells[spec.get("column", name)] = known or _ordinary(draw, "rating", spec, bad)
        elif spec["kind"] == "binary":
            cells[spec.get("column", name)] = str(int(label)) if label is not None else _ordinary(draw, "flag", spec, bad)


# ---- files


def as_csv(names: list[str], table: list[dict[str, str | None]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row[n] for n in names] for row in table)
    return out.getvalue().encode()


def as_jsonl(names: list[str], table: list[dict[str, str | None]]) -> bytes:
    """Whole numbers as JSON numbers, everything else as text."""
    def plain(cell: str | None) -> Any:
        return int(cell) if cell and re.fullmatch(r"0|-?[1-9]\d{0,14}", cell) else cell

    return "".join(json.dumps({n: plain(row[n]) for n in names}, ensure_ascii=False) + "\n" for row in table).encode()


def as_parquet(names: list[str], table: list[dict[str, str | None]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({n: pa.array([row[n] for row in table], pa.string()) for n in names}), out)
    return out.getvalue()


def moments(cuts: tuple[int, int]) -> dict[str, str]:
    return {name: datetime.fromtimestamp(cut, UTC).isoformat() for name, cut in zip(("validation", "test"), cuts, strict=True)}


@st.composite
def valid(draw: st.DrawFn) -> Case:
    """A case that preparation must take, or refuse for want of rows: never for its form."""
    schema = draw(schemas())
    schema = draw(renamed(schema)) if draw(st.booleans()) else schema
    table = draw(rows(schema))
    for k, row in enumerate(table):
        row["mark"] = row["mark"] and f"m{k % 7}m"  # some are alike, so that copies are copies
    names = columns(schema)
    kind = draw(st.sampled_from(["csv", "csv", "tsv", "jsonl", "parquet"]))
    parts = [table[: len(table) // 2], table[len(table) // 2 :]] if not draw(often(5)) and len(table) > 3 else [table]
    delimiter = draw(st.sampled_from([",", ";", "|"])) if kind == "csv" else "\t" if kind == "tsv" else None
    write = {"csv": lambda t: as_csv(names, t, delimiter), "tsv": lambda t: as_csv(names, t, "\t"), "jsonl": lambda t: as_jsonl(names, t),
             "parquet": lambda t: as_parquet(names, t)}[kind]
    files = {f"log{k}.{kind}": write(part) for k, part in enumerate(parts)}
    rules = draw(st.sampled_from([{}, {}, {"max_events_per_day": 3}, {"max_duration": 1000}, {"max_time": "2023-11-24T18:00:00"},
                                  {"unknown_items": "drop"}, {"unknown_users": "drop"}]))
    split = draw(st.sampled_from([moments(CUTS), moments((START + 7 * DAY, START + 9 * DAY)), {"validation": 0.2, "test": 0.25}]))
    data = {"interactions": list(files), "workers": 1, "shards": draw(st.integers(1, 3)), "rules": rules, "split": split,
            "period": draw(st.sampled_from([3600, 1, 100_000]))}
    data |= {"delimiter": delimiter} if kind == "csv" and draw(st.booleans()) else {}
    case = Case({"name": "case", "schema": schema, "data": data}, files, table)
    for side, ids in (("item", ["i0", "i1", "gone"]), ("user", ["b0", "b1"])):
        if rules.get(f"unknown_{side}s") or not draw(often(6)):
            data[f"{side}s"] = f"{side}s.jsonl"
            files[f"{side}s.jsonl"] = "".join(json.dumps({schema[side]: i}) + "\n" for i in ids).encode()
            case.listed[f"{side}s"] = set(ids)
    return case


# ---- breaking them


def _break(draw: st.DrawFn, content: bytes) -> bytes:
    """One thing that goes wrong with files."""
    lines, at = content.split(b"\n"), draw(st.integers(0, max(len(content) - 1, 0)))
    k = draw(st.integers(0, max(len(lines) - 2, 0)))
    junk, how = draw(st.sampled_from(JUNK)), draw(st.sampled_from(HOW))
    if how == "insert":
        return content[:at] + junk + content[at:]
    if how == "line":
        return b"\n".join([*lines[: k + 1], junk, *lines[k + 1 :]])
    if how == "cut":
        return content[:at]
    if how == "encode":
        codec = draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252", "utf-7"]))
        return content.decode(errors="replace").encode(codec, errors="replace")
    if how == "short":
        return b"\n".join([*lines[:k], lines[k].rpartition(b",")[0], *lines[k + 1 :]])
    if how == "header":
        first = lines[0]
        other = draw(st.sampled_from([b"", first.replace(b"click", b"item_id"), first.upper(), first + b"," + first, b'"' + first]))
        return b"\n".join([other, *lines[1:]])
    if how == "twice":
        return content + content
    if how == "ends":
        return content.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r", b"\n\n"])), draw(st.sampled_from([1, 3, -1])))
    return content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :] if how == "flip" and content else content


@st.composite
def broken_files(draw: st.DrawFn) -> Case:
    """A valid case whose log, or table beside the log, was broken one to three times."""
    case = draw(valid())
    name = draw(st.sampled_from(sorted(case.files)))
    for k, row in enumerate(case.raw or []):
        row["mark"] = f"m{k:03d}m"
    if name.startswith("log") and name.endswith(("csv", "tsv", "jsonl")):
        names, delimiter = columns(case.plain["schema"]), "\t" if name.endswith("tsv") else ","
        case.plain["data"] |= {"interactions": [name]} | ({"delimiter": ","} if name.endswith("csv") else {})
        case.files[name] = as_jsonl(names, case.raw) if name.endswith("jsonl") else as_csv(names, case.raw, delimiter)
    whole = case.files[name]
    for _ in range(draw(st.integers(1, 3))):
        case.files[name] = _break(draw, case.files[name])
    if name.startswith("log"):
        case.marked = sorted(set(whole.split(b"\n")[1:]) & set(case.files[name].split(b"\n")[1:]))
        case.marked = [line for line in case.marked if re.search(rb"m\d{3}m", line)]
    case.raw = None
    return case


def _paths(plain: Any, path: tuple = ()) -> list[tuple]:
    inside = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else []
    return [path] * bool(path) + [p for key, value in inside for p in _paths(value, (*path, key))]


@st.composite
def wrong_settings(draw: st.DrawFn) -> Case:
    """A valid case with one to three settings of a wrong type, absent, or unknown; or with a YAML file that is none."""
    case = draw(valid())
    case.raw, plain = None, json.loads(json.dumps(case.plain))
    plain["data"]["interactions"] = plain["data"]["interactions"][0]
    if draw(st.booleans()):
        (*parents, last), values = draw(st.sampled_from(FAR))
        target = plain
        for key in parents:
            target = target.setdefault(key, {})
        target[last] = copy.deepcopy(draw(st.sampled_from(values)))
    for _ in range(draw(st.integers(0, 2))):
        paths = [p for p in _paths(plain) if p not in (("data", "workers"), ("data",))]
        *parents, last = draw(st.sampled_from(paths or [("name",)]))
        target = plain
        for key in parents:
            target = target[key]
        what = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if what == "remove" and isinstance(target, dict):
            target.pop(last, None)
        elif what == "add" and isinstance(target, dict):
            target[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(WRONG)))
        else:
            target[last] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    case.text = yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).encode()
    if not draw(often(12)):
        at = draw(st.integers(0, len(case.text)))
        case.text = case.text[:at] + draw(st.sampled_from(YAML_JUNK)) + case.text[at:]
    return case


def cases() -> st.SearchStrategy[Case]:
    return st.one_of(valid(), broken_files(), wrong_settings())
