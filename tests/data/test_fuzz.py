"""Nothing lost: made-up tables and schemas end in a clean table with counted drops, or in one line of error; the oracle says in which.

`RECLLM_FUZZ=2000` runs so many cases instead of 30.
"""

import csv
import gzip
import io
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import tests.data.fuzz as fuzzing
from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.errors import DataError
from tests.conftest import HEADER, SCHEMA, small_log
from tests.data.cases import Case
from tests.data.fuzz import fuzz, judge
from tests.data.oracle import differences, expect, first_moments, prepared_rows

LINES = small_log().splitlines()
SPLIT = {"validation": "2023-11-15T08:00:00Z", "test": "2023-11-15T15:00:00Z"}


def case(log: str | bytes = small_log(), *, name: str = "log.csv", label: str = "case", text: bytes | None = None, clean: bool = False,
         schema: dict[str, Any] | None = None, **data: Any) -> Case:
    """The shop of the other tests; `clean` says that the oracle can read the log."""
    plain = {"name": label, "schema": {**SCHEMA, **(schema or {})},
             "data": {"interactions": [name], "workers": 1, "shards": 1, "split": SPLIT, **data}}  # fmt: skip
    content = log.encode() if isinstance(log, str) else log
    raw = [{n: v or None for n, v in row.items()} for row in csv.DictReader(io.StringIO(content.decode()))] if clean else None
    return Case(plain, {name: content}, raw, text=text)


def test_made_up_tables_and_schemas_are_prepared_or_refused_in_one_line(tmp_path):
    found = fuzz(int(os.environ.get("RECLLM_FUZZ", "30")), seed=0, keep=tmp_path)
    assert found["tracebacks"] == 0, "\n".join([f"the cases' files are in {tmp_path}", *found["examples"]])


# ---- files that went wrong in known ways: one line, or a clean table whose accounts balance

BROKEN_FILES = {
    "a quote that is never closed": "\n".join([*LINES[:50], 'u1,"i1,1700000006,,tv,Oslo,1,1,0,5', *LINES[50:]]),
    "a quote inside a cell": "\n".join([*LINES[:50], 'u1,i"1,1700000006,,tv,Oslo,1,1,0,5', *LINES[50:]]),
    "text after a quote": "\n".join([*LINES[:50], 'u1,"i"1,1700000006,,tv,Oslo,1,1,0,5', *LINES[50:]]),
    "ragged lines": "\n".join([*LINES[:9], "u1", "u1,i1", LINES[9] + ",more,and,more", *LINES[10:]]),
    "NUL bytes": small_log().replace("Oslo", "Os\0lo", 5),
    "utf-16": small_log().encode("utf-16"),
    "latin-1": small_log().replace("Oslo", "Malmö", 9).encode("latin-1"),
    "a byte order mark": b"\xef\xbb\xbf" + small_log().encode(),
    "old line ends": small_log().replace("\n", "\r"),
    "two kinds of line ends": small_log().replace("\n", "\r\n", 40),
    "blank lines": small_log().replace("\n", "\n\n"),
    "cut in the middle": small_log()[:-700],
    "a column twice": small_log().replace(HEADER, HEADER.replace("place", "item_id")),
    "a cell of three megabytes": small_log().replace("Oslo", "O" * 3_000_000, 1),
    "one column": "a\n1\n2\n",
    "nothing but a header": HEADER,
    "zeros": b"\0" * 5_000,
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_FILES)
def test_a_broken_file_ends_in_a_clean_table_or_in_one_line(tmp_path, what):
    assert judge(case(BROKEN_FILES[what]), tmp_path / "case") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("log.csv.gz", gzip.compress(small_log().encode())[:-200]), ("log.csv.gz", b"no gzip at all"),
     ("log.parquet", b"PAR1 and no more PAR1"), ("log.jsonl", '{"user_id": 1,\n' * 5), ("log.jsonl", "[1, 2]\n[3]\n"), ("log.jsonl", "1\n"),
     ("log.jsonl", '{"user_id": NaN}\n'), ("log.xyz", small_log()), ("lo'g*?[x].csv", small_log())],
)  # fmt: skip
def test_other_formats_end_as_cleanly(tmp_path, name, content):
    assert judge(case(content, name=name), tmp_path / "case") is None


def test_every_ragged_line_is_counted_and_kept(tmp_path):
    # given four lines of another length
    log = "\n".join([*LINES[:9], "m001m", "m002m,i1", LINES[9] + ",m003m", "m004m" + "," * 40, *LINES[10:]])
    made = case(log)
    made.marked = [b"m001m", b"m002m,i1", b"m003m", b"m004m"]
    assert judge(made, tmp_path / "case") is None
    # when one of them is nowhere to be found, that is noticed
    made.marked = [b"m009m"]
    assert "1 lines are nowhere" in str(judge(made, tmp_path / "again"))


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.25, 0.4), (0.33, 0.01), (0.05, 0.7)])
def test_a_split_by_fractions_leaves_the_fractions(shop, validation, test):
    # given moments of which many rows share one
    config = shop(small_log(users=9), split={"validation": validation, "test": test})
    cuts = prepare(config).cuts
    times = sorted(row["time"] for row in prepared_rows(config.prepared))
    # then each cut is the first moment by which so many rows have passed
    for cut, share in zip(cuts, (1 - validation - test, 1 - test), strict=True):
        wanted = share * len(times)
        assert sum(time < cut for time in times) < wanted + 1e-6 and sum(time <= cut for time in times) > wanted - 1e-6
    assert cuts == first_moments(times, validation, test)


# ---- the judge can find fault: what each kind of failure looks like


def _spoiled(change: Any) -> Any:
    """`prepare`, and then a change to what it wrote."""
    def run(config: Config, **options: Any) -> Any:
        report = prepare(config, **options)
        path = sorted((config.prepared / "data").glob("train-*.parquet"))[0]
        table = change(pq.read_table(path))
        pq.write_table(table, path)
        return report

    return run


def _raise(error: Exception) -> Any:
    def run(config: Config, **options: Any) -> Any:
        raise error

    return run


def _two_lines() -> DataError:
    error = DataError("log.csv")
    error.args = ("log.csv:\ntwo lines",)  # what no message can be any more
    return error


def _one_more(table: Any) -> Any:
    k = table.column_names.index("n_before")
    return table.set_column(k, "n_before", [[n + 1 for n in table["n_before"].to_pylist()]])


@pytest.mark.parametrize(
    ("run", "expected"),
    [(_raise(KeyError("x")), "traceback: KeyError"), (_raise(_two_lines()), "several lines"),
     (_raise(DataError("something went wrong")), "names neither file nor key"),
     (_raise(DataError("log.csv: no")), "valid case was refused"),
     (_spoiled(_one_more), "n_before"), (_spoiled(lambda table: table.slice(1)), "rows: expected 144, found 143")],
)  # fmt: skip
def test_the_judge_finds_fault(tmp_path, monkeypatch, run, expected):
    assert judge(case(clean=True), tmp_path / "good") is None
    monkeypatch.setattr(fuzzing, "prepare", run)
    assert expected in str(judge(case(clean=True), tmp_path / "bad"))


def test_the_oracle_notices_a_rule_that_is_not_applied(shop):
    bad = "u1,i1,1700000005,,tv,Oslo,1,0,1,5"  # purchase without click
    raw = list(csv.DictReader(io.StringIO(small_log() + bad + "\n")))
    config = shop(small_log() + bad.replace(",0,1,", ",1,1,") + "\n")
    report = prepare(config)
    assert any("dropped" in line for line in differences(config.prepared, report, expect(raw, config, report.cuts)))


# ---- what made-up cases found, each as small as it gets

YAML = b"name: \xff\n"
NUMBER_QUOTED = case(small_log().replace(HEADER, HEADER.replace("temperature", '"te""mp"')), clean=True,
                     schema={"context": {"warm": {"kind": "number", "column": 'te"mp'}}})  # fmt: skip
TWO_CASES = case("\n".join([LINES[0] + ",Device", *(line + ",x" for line in LINES[1:])]), clean=True,
                 schema={"context": {"first": {"column": "device"}, "second": {"column": "Device"}}})  # fmt: skip
TWO_CASES.may_refuse = True
NBSP = case(small_log().replace("Oslo", "\u00a0Oslo|Rome"), clean=True, schema={"context": {"place": {"list": True}}})
FOUND = {
    "a YAML file that is not UTF-8": case(text=YAML),
    "a number in a column with a quote in its name": NUMBER_QUOTED,
    "rules.min_time: ISO 8601 that Python reads and DuckDB does not": case(rules={"min_time": "20200101"}),
    "rules.max_time: the same": case(rules={"max_time": "2030-W10-2"}),
    "data.split: the same": case(split={"validation": "20231115", "test": "20231116"}),
    "data.interactions: an empty list": case(interactions=[]),
    "data.interactions: a path too long for a file": case(interactions=["a" * 5_000 + ".csv"]),
    "schema.time.zone: localtime is known to Python and not to DuckDB": case(schema={"time": {"column": "ts", "zone": "localtime"}}),
    "schema.outcome_delay: infinity": case(schema={"outcome_delay": float("inf")}),
    "outcomes.click.at_least: NaN": case(schema={"outcomes": {"click": {"kind": "binary", "at_least": float("nan")}}}),
    "outcomes.click.window: 1e300 days": case(schema={"outcomes": {"click": {"kind": "binary", "window": 1e300}}}),
    "outcomes.duration.clip: infinity where the duration is derived": case(schema={"outcomes": {
        "click": {"kind": "binary"}, "duration": {"kind": "duration", "derived": "next_event", "clip": float("inf")}}}),
    "schema.known_at: an empty column name": case(schema={"known_at": ""}),
    "name: too long for a folder": case(label="a" * 300),
    "data.interactions: a path with a line feed": case(interactions=["log\n.csv"]),
    "a cell with a line feed where a header was expected": case('"two\nlines",i0\n' * 9),
    "the values of a list are trimmed as those of a request": NBSP,
    "columns that differ by case only": TWO_CASES,
}  # fmt: skip


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_is_read_right_or_refused_in_one_line(tmp_path, what):
    assert judge(FOUND[what], tmp_path / "case") is None


@pytest.mark.parametrize("name", ["User", "Time", "POS", "Scored", "N_before", "Line", "File", "Raw", "Bucket", "Device"])
def test_a_name_that_differs_from_another_by_case_is_read_right_or_refused(tmp_path, name):
    made = case(clean=True, schema={"context": {"device": {}, name: {"column": "place"}}})
    made.may_refuse = True
    assert judge(made, tmp_path / "case") is None


def test_the_files_of_a_failed_case_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "prepare", _raise(KeyError("x")))
    found = fuzz(10, seed=0, keep=tmp_path)
    assert found["fuzz_cases"] == 10 and found["tracebacks"] == len(list(Path(tmp_path).iterdir())) > 0
