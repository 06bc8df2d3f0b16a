"""Local processes, Ray and Spark prepare the same folder from a large and dirty log, file by file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.data.report import Report
from tests.conftest import SCHEMA

ROWS, HEAVY, ROBOT, FILES = 200_000, 20_000, 2_500, 5
START, DAY = 1_700_000_000, 86_400  # seconds
ABROAD = {"TZ": "Asia/Tokyo", "LC_ALL": "C"}  # workers elsewhere: nothing may depend on their zone or language
OPTIONS = {"local": {}, "ray": {"runtime_env": {"env_vars": ABROAD}},
           "spark": {f"spark.executorEnv.{name}": value for name, value in ABROAD.items()}}


def dirty_log(seed: int) -> pd.DataFrame:
    """ROWS rows of 30 days as text: ties, unknown values, exact duplicates, clock errors, a user with HEAVY events and a robot."""
    rng = np.random.default_rng(seed)
    user = rng.zipf(1.3, ROWS) % 2_000
    user[:HEAVY], user[HEAVY : HEAVY + ROBOT] = 5_000, 6_000
    seconds = START + rng.integers(0, 30 * DAY // 300, ROWS) * 300  # five minutes apart: many ties
    seconds[HEAVY : HEAVY + ROBOT] = START + rng.integers(0, 3_600, ROBOT)
    click = rng.random(ROWS) < 0.3
    one = {"device": ["tv", "mobile", "Tablett", "", "Größe"], "place": ["Oslo", "Ålesund", ""],
           "temperature": ["", "3.25", "-7", "warm", "NaN"]}
    log = pd.DataFrame({"user_id": [f"u{n}" for n in user], "item_id": [f"i{n}" for n in rng.zipf(1.2, ROWS) % 400],
                        "ts": seconds.astype(str), "request_id": "", **{name: rng.choice(values, ROWS) for name, values in one.items()},
                        "click": click.astype(int).astype(str), "purchase": (click & (rng.random(ROWS) < 0.2)).astype(int).astype(str),
                        "duration": np.round(rng.exponential(40, ROWS), 3).astype(str)})
    broken = {"ts": ["", "yesterday", "12", "4000000000", "2023-11-20T10:00:00+02:00", "2023-11-20 10:00:00", "2023-03-26 02:30:00"],
              "user_id": [""], "item_id": ["", "unheard of"], "click": ["", "maybe"], "purchase": ["", "1"],
              "duration": ["", "-1", "1e9", "0.1"]}
    for column, values in broken.items():
        where = rng.choice(ROWS, ROWS // 50, replace=False)
        log.loc[where, column] = rng.choice(values, len(where))
    copies = rng.choice(ROWS, 2 * (ROWS // 100))  # exact duplicates, many of them in another file than the first
    log.iloc[copies[::2]] = log.iloc[copies[1::2]].to_numpy()
    return log.iloc[rng.permutation(ROWS)]


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """FILES parts of a log, and the items' table."""
    folder, log = tmp_path_factory.mktemp("dirty"), dirty_log(0)
    for index, part in enumerate(np.array_split(np.arange(ROWS), FILES)):
        log.iloc[part].to_csv(folder / f"log-{index}.csv", index=False)
    items = [{"item_id": f"i{n % 380}" if n % 50 else "", "title": f"thing {n}"} for n in range(500)]  # some without id, some twice
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder


def prepared_by(name: str, tables: Path) -> tuple[Path, Report]:
    plain = {"name": "dirty", "root": str(tables / name),
             "schema": SCHEMA | {"time": {"column": "ts", "zone": "Europe/Oslo"}, "item_text": ["title"]},
             "data": {"interactions": sorted(str(p) for p in tables.glob("log-*.csv")), "items": str(tables / "items.jsonl"),
                      "rules": {"max_events_per_day": 2_000, "unknown_items": "drop"}, "negatives": {"per_event": 1, "window": 7},
                      "shards": 4, "workers": 2, "executor": name, "executor_options": OPTIONS[name]}}
    config = Config.model_validate(plain)
    return config.prepared, prepare(config)


@pytest.fixture(scope="module")
def local(tables) -> tuple[Path, Report]:
    return prepared_by("local", tables)


def test_the_log_breaks_every_rule_and_keeps_its_heavy_user(local):
    """What is compared below is worth comparing."""
    folder, report = local
    assert report.read == ROWS
    assert set(report.dropped) == {"bad_time", "time_out_of_range", "missing_user", "missing_item", "unknown_item", "bad_click",
                                   "negative_duration", "absurd_duration", "purchase_without_click", "duplicate", "bot"}
    assert report.merged > 1_000 and report.mended["unreadable_temperature"] > 10_000
    assert report.rows + report.merged + sum(report.dropped.values()) == ROWS
    rows = pd.concat([pd.read_parquet(path, columns=["user"]) for path in (folder / "data").glob("*.parquet")])
    assert (rows["user"] == "u5000").sum() > 15_000
    assert "u6000" not in set(rows["user"])


@pytest.mark.parametrize("name", ["ray", pytest.param("spark", marks=pytest.mark.skipif(not shutil.which("java"), reason="no java"))])
def test_every_executor_writes_the_same_files(name, local, tables):
    expected, expected_report = local
    folder, report = prepared_by(name, tables)
    assert report == expected_report
    files = sorted(path.relative_to(expected) for path in expected.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert {path.parts[0] for path in files} >= {"data", "dropped", "candidates", "items.parquet", "fingerprint"}
    for path in files:
        if path.suffix == ".parquet":
            assert pq.read_table(folder / path).equals(pq.read_table(expected / path)), path
        assert (folder / path).read_bytes() == (expected / path).read_bytes(), path
