"""The day-by-day experiment: what each arm trains on and is tested on, that it goes on where it stopped, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recllm.cli import main
from recllm.errors import ConfigError, DataError
from recllm.evaluation.update_report import markdown, text
from recllm.recommend.update import COSTS, update
from recllm.training.loop import Trainer
from tests.conftest import small_log
from tests.training.test_training import changed, quiet

ROOT = Path(__file__).parent.parent.parent
DAYS = ["2023-11-17", "2023-11-18"]
FIRST_DAY, DAY = 1_700_179_200, 86_400  # 2023-11-17, in seconds


@pytest.fixture
def daily(shop, tiny_encoder):
    """daily(log) -> a config over 8 users' events of five days, every two hours, two items each."""

    def make(log: str):
        config = shop(log, schema={"context": ["device", "place"]})
        model = {"encoder": tiny_encoder, "layers": 1, "lora_rank": 2, "stride": 20, "overlap": 20, "profile_tokens": 8, "duration_bins": 5}
        return changed(config, model=model, training={"epochs": 1, "warmup_steps": 2}, evaluation={"bootstrap": 10, "slices": ["device"]})

    return make


def test_each_arm_trains_on_its_days_and_is_tested_inside_the_day(daily, monkeypatch):
    # given
    log = small_log(users=8, events=60)
    config, times = daily(log), pd.Series([int(line.split(",")[2]) for line in log.splitlines()[1:]])

    def rows_in(first, end):
        return int(((times >= first) & (times < end)).sum())

    # when it is killed in the second training and called again
    real, calls = Trainer.run, []

    def killed(self, resume=True):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, resume)

    monkeypatch.setattr(Trainer, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        update(config, DAYS, [0, 1], "test", say=quiet)
    found = update(config, DAYS, [0, 1], "test", say=quiet)
    # then three trainings a seed are enough, and a further call trains nothing and finds the same
    assert len(calls) == 1 + 2 * 3 and update(config, DAYS, [0, 1], "test", say=quiet) == found and len(calls) == 7
    rows = pd.DataFrame(found["rows"])
    assert {"command", "commit", "config", "seeds", "days", "rows"} <= set(found) and found["seeds"] == [0, 1]
    assert set(rows["arm"]) == {"stale", "updated", "retrained"} and set(rows["seed"]) == {0, 1, "mean"}
    assert {"auc", "gauc", "logloss"} == set(rows["metric"]) and (rows["low"] <= rows["high"]).all()
    # then all arms are one model on the first day, and every arm is tested on the day's rows
    for place, name in enumerate(DAYS):
        clicks = rows[(rows["day"] == name) & (rows["task"] == "click") & (rows["metric"] == "logloss")]
        assert (clicks["n"] == rows_in(FIRST_DAY + place * DAY, FIRST_DAY + (place + 1) * DAY)).all()
        assert clicks[clicks["seed"] == 0]["mean"].nunique() == (1 if place == 0 else 3)
    # then they are trained on what came before the validation day, the update on the newest day alone
    of = {(r["day"], r["arm"]): [r[c] for c in COSTS] for r in found["rows"] if r["seed"] == 0}
    assert of[DAYS[0], "stale"] == of[DAYS[0], "updated"] == of[DAYS[0], "retrained"]
    assert of[DAYS[0], "stale"][0] == rows_in(0, FIRST_DAY - DAY) and of[DAYS[1], "stale"] == [0, 0, 0]
    assert of[DAYS[1], "updated"][0] == rows_in(FIRST_DAY - DAY, FIRST_DAY) and of[DAYS[1], "retrained"][0] == rows_in(0, FIRST_DAY)
    assert len(text(found).splitlines()) == 8 and markdown(found).count("| updated |") == 2


def test_nothing_after_the_last_test_day_reaches_any_figure(daily):
    # given a log, and one in which everything after the last test day came out otherwise
    log = small_log(users=8, events=60)

    def flipped(line):
        parts = line.split(",")
        late = parts[2].isdigit() and int(parts[2]) >= FIRST_DAY + len(DAYS) * DAY
        return ",".join([*parts[:7], str(1 - int(parts[7])), "0", "7"]) if late else line

    first = update(daily(log), DAYS, [0], "test", say=quiet)
    # when
    other = update(daily("\n".join(map(flipped, log.splitlines())) + "\n"), DAYS, [0], "test", again=True, say=quiet)
    # then
    assert [{**r, "seconds": 0} for r in first["rows"]] == [{**r, "seconds": 0} for r in other["rows"]]


def test_days_and_settings_that_are_none_are_named(daily):
    config = daily(small_log(users=8, events=60))
    with pytest.raises(ConfigError, match="expected UTC dates such as 2025-03-28, found tomorrow"):
        update(config, ["tomorrow"], [0], "test", say=quiet)
    with pytest.raises(ConfigError, match="expected each day once, in order"):
        update(config, DAYS[::-1], [0], "test", say=quiet)
    with pytest.raises(ConfigError, match='updated-.*"training.learning_rate": Input should be greater than 0'):
        update(config, DAYS, [0], "test", rate=0, say=quiet)
    with pytest.raises(DataError, match="expected first row < validation < test <= last row"):
        update(config, ["2024-01-01"], [0], "test", say=quiet)


def test_the_script_is_the_command():
    found = subprocess.run([sys.executable, str(ROOT / "scripts/update.py"), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and "--days" in found.stdout and os.access(ROOT / "scripts/update.py", os.X_OK)


def test_the_command_writes_its_results(daily, tmp_path, capsys):
    config = daily(small_log(users=8, events=60))
    (tmp_path / "daily.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False), encoding="utf-8")
    assert main(["update", str(tmp_path / "daily.yaml"), "--days", DAYS[0], "--out", str(tmp_path / "update.json")]) == 0
    assert "2023-11-17  stale" in capsys.readouterr().out
    found = json.loads((tmp_path / "update.json").read_text(encoding="utf-8"))
    assert found["days"] == DAYS[:1] and found["config"] == "shop" and {r["seed"] for r in found["rows"]} == {0, "mean"}
