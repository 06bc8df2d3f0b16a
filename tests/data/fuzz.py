"""Preparation over made-up tables and schemas: each case must end in a clean table with counted drops, or in one line of RecllmError.

`fuzz(cases, seed)` is what `scripts/benchmark.py prepare` runs; `judge` says what is wrong with one case, or None.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from recllm.config import Config, load_config
from recllm.data.executors import LocalExecutor
from recllm.data.prepare import prepare
from recllm.data.report import Report
from recllm.errors import RecllmError
from tests.data.cases import Case, cases
from tests.data.oracle import Expected, differences, expect, first_moments, utc

BESIDE = {"duplicate", "bot", "unknown_item", "unknown_user"}  # dropped where the lines themselves are no longer at hand
FRESH = 10  # cases that hypothesis draws afresh before it starts to vary those that it has
NAMES = re.compile(r"^\S+: expected|\b(data|[Ss]chema|outcomes|rules|split|model|name|config|YAML|root|--check)\b")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run with a case's folder as the current one, so that a path that went wrong finds nothing else."""
    folder.mkdir(parents=True)
    before = os.environ.get("RECLLM_RUNS")
    os.environ["RECLLM_RUNS"] = str(folder / "runs")
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        os.environ.pop("RECLLM_RUNS")
        if before is not None:
            os.environ["RECLLM_RUNS"] = before


def judge(case: Case, folder: Path) -> str | None:
    """What is wrong with what preparation makes of a case in a new folder, or None."""
    with _inside(folder):
        for name, content in case.files.items():
            Path(name).write_bytes(content)
        Path("config.yaml").write_bytes(case.text or yaml.safe_dump(case.plain, allow_unicode=True, sort_keys=False).encode())
        config = None
        try:
            config = load_config("config.yaml")
            report = prepare(config, executor=LocalExecutor(1), reuse=False)
        except RecllmError as error:
            return _refusal(case, str(error), config)
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"traceback: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {' '.join(str(error).split())[:300]}"
        if report.read != report.rows + report.merged + sum(report.dropped.values()):
            return f"accounts: read {report.read}, kept {report.rows}, merged {report.merged}, dropped {report.dropped}"
        return _lost(case, config, report) if case.raw is None else _differs(case, config, report)


def _refusal(case: Case, message: str, config: Config | None) -> str | None:
    """Was a refusal right, and is it one line that says where?"""
    if "\n" in message:
        return f"several lines: {message!r}"
    if not (NAMES.search(message) or any(name in message for name in case.files)):
        return f"names neither file nor key: {message}"
    if case.raw is None:
        return None
    if config is None:
        return None if case.may_refuse else f"a valid config was refused: {message}"
    why = unusable(case, config)
    return None if case.may_refuse or why and why in message else f"a valid case was refused ({why or 'usable'}): {message}"


def unusable(case: Case, config: Config) -> str | None:
    """Why nothing can be learnt from a valid case, as a part of the line that preparation must end with; None if it is usable."""
    whole = _expected(case, config, (0, 0))
    if whole.read == sum(n for reason, n in whole.dropped.items() if reason not in BESIDE):
        return "expected rows to keep"
    limits = config.data.rules
    over = {reason for reason, n in whole.dropped.items() if n > limits.max_dropped * whole.read and reason not in limits.confirmed}
    if over - BESIDE:
        return "data.rules.max_dropped"
    split = config.data.split
    cuts = (utc(split.validation), utc(str(split.test))) if isinstance(split.validation, str) else first_moments(
        whole.times, split.validation, float(split.test))
    if not min(whole.times) < cuts[0] < cuts[1] <= whole.log_end:
        return "data.split"
    if over:
        return "data.rules.max_dropped"
    rows = _expected(case, config, cuts).rows
    for column in ("user", "item"):
        if len({row[column] for row in rows}) < 2:
            return f"schema.{column}: expected at least two"
    if {row["split"] for row in rows if row["scored"]} != {"train", "validation", "test"}:
        return "data.split: expected scored rows"
    for name in config.columns.binary:
        if {row[config.columns.label(name)] for row in rows if row["split"] == "train" and row["scored"]} - {None} != {0.0, 1.0}:
            return f"outcomes.{name}: expected 0 and 1"
    return None


def _expected(case: Case, config: Config, cuts: tuple[int, int]) -> Expected:
    return expect(case.raw or [], config, cuts, case.listed.get("items"), case.listed.get("users"))


def _differs(case: Case, config: Config, report: Report) -> str | None:
    """A valid case that was prepared: everything is as the oracle says, and the cuts are the fractions' own."""
    expected = _expected(case, config, report.cuts)
    wrong = differences(config.prepared, report, expected)
    split = config.data.split
    if isinstance(split.validation, float) and tuple(report.cuts) != first_moments(expected.times, split.validation, float(split.test)):
        wrong.append(f"cuts: found {report.cuts}")
    return f"{len(wrong)} differences from the oracle: {'; '.join(wrong[:3])}" if wrong else None


def _lost(case: Case, config: Config, report: Report) -> str | None:
    """Every line that was left whole in a broken file is in a kept row, or in a dropped one, or was merged into another."""
    kept = [json.dumps(row, default=str, ensure_ascii=False) for path in sorted((config.prepared / "data").glob("*.parquet"))
            for row in pq.read_table(path).to_pylist()]
    dropped = [str(row["row"]) for path in sorted((config.prepared / "dropped").glob("*.parquet"))
               for row in pq.read_table(path).to_pylist()]
    everything = "\n".join([*kept, *dropped])
    lost = [mark for line in case.marked for mark in re.findall(rb"m\d{3}m", line) if mark.decode() not in everything]
    elsewhere = report.merged + sum(report.dropped.get(reason, 0) for reason in BESIDE)
    return f"{len(lost)} lines are nowhere: {lost[:3]}, report {report.dropped}" if len(lost) > elsewhere else None


def fuzz(wanted: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Judge so many different cases. `tracebacks` counts those that ended in anything but what they should; `examples` says in what.
    With a folder `keep`, the files of those cases are left in it, one folder a case."""
    found: list[str] = []
    seen: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:

        def judge_new(case: Case) -> None:
            key = hashlib.md5(repr(case).encode()).hexdigest()
            if key in seen or len(seen) == wanted:
                return
            seen.add(key)
            place = Path(folder) / str(len(seen))
            if problem := judge(case, place):
                found.append(f"case {len(seen)}: {problem}")
                if keep is not None:
                    shutil.copytree(place, keep / place.name)
            shutil.rmtree(place)

        batch = 0
        while len(seen) < wanted:  # a fresh run for every few cases: later ones of a run are variations of each other
            plan = settings(max_examples=FRESH, database=None, deadline=None, derandomize=False, phases=[Phase.generate],
                            suppress_health_check=list(HealthCheck))
            seeded(seed * 1_000_003 + batch)(plan(given(cases())(judge_new)))()
            batch += 1
    return {"fuzz_cases": len(seen), "tracebacks": len(found), "examples": found[:50]}
