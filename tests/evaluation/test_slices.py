"""Slices by moment, by history and by behaviour, against plain loops; and how they are shown."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recllm.config import Config
from recllm.evaluation.report import both_counters, markdown, slice_groups, slices_text
from recllm.evaluation.slices import slice_columns
from recllm.training.setup import TEST
from tests.evaluation.results import results, row


@pytest.fixture(autouse=True)
def _where_it_was_made(made, monkeypatch):
    monkeypatch.setenv("RECLLM_RUNS", str(Path(made.config.data.interactions[0]).parent / "runs"))


def test_by_default_all_made_slices_and_every_categorical_context_field(made):
    # given a log with context of every kind: categories, a place, a list, a number, a text
    made_ones = ["items", "users", "hour", "weekday", "daypart", "segment", "history"]
    assert made.config.slices == [*made_ones, "device", "place", "club"]
    # when slices are named, then those alone are taken, each once
    plain = made.config.model_dump(mode="json", by_alias=True)
    plain["evaluation"]["slices"] = ["age", "hour", "age"]
    assert Config.model_validate(plain).slices == ["age", "hour"]
    plain["evaluation"]["slices"] = []
    assert Config.model_validate(plain).slices == []


def test_a_row_is_cut_by_its_own_local_time_and_by_what_it_saw(made):
    # given the test rows of a log with several zones
    log, rows = made.log, np.flatnonzero(made.log.split == TEST)
    found = slice_columns(made.config, log, rows, log.item[rows])
    # then
    for place, index in enumerate(rows):
        one = log.frame.iloc[index]
        local = datetime.fromtimestamp(0, tz=UTC) + timedelta(milliseconds=int(one["time"]), minutes=int(one["utc_offset"]))
        n, hour = int(one["n_before"]), local.hour
        assert found["slice_hour"][place] == f"{hour:02}" and found["slice_weekday"][place] == local.strftime("%A").lower()
        part = "night" if hour < 6 else "morning" if hour < 11 else "midday" if hour < 17 else "evening" if hour < 22 else "night"
        assert found["slice_daypart"][place] == part
        seen = "0" if n == 0 else "1-4" if n < 5 else "5-19" if n < 20 else "20-99" if n < 100 else "100+"
        assert found["slice_history"][place] == seen
    assert len(set(found["slice_history"])) > 1


def test_dayparts_are_those_of_the_prepared_segments(made):
    # given the dominant daypart that SQL wrote for each user, over train
    log, rows = made.log, np.flatnonzero(made.log.split == 0)
    table = pd.read_parquet(made.config.prepared / "segments.parquet").set_index("user")
    found = pd.Series(slice_columns(made.config, log, rows, log.item[rows])["slice_daypart"])
    counts = found.groupby([np.array(log.users)[log.user[rows]], found]).size()
    # then no daypart of a user is more frequent by our reckoning
    for user in table.index:
        assert counts[user].max() == counts[user][table.loc[user, "dominant_daypart"]]


def test_segments_are_behaviour_in_train_and_users_without_train_rows_are_new(made, monkeypatch):
    # given a log in which one user has no row in train
    log, rows = made.log, np.arange(len(made.log.user))
    table = pd.read_parquet(made.config.prepared / "segments.parquet")
    missing = table["user"].iloc[0]
    monkeypatch.setattr(pd, "read_parquet", lambda path, columns: table[table["user"] != missing][columns])
    found = slice_columns(made.config, log, rows, log.item)["slice_segment"]
    # then
    by_user = dict(zip(table["user"], table["behaviour"], strict=True)) | {missing: "new"}
    assert [by_user[log.users[u]] for u in log.user] == list(found)


def test_the_slice_table_shows_every_slice_in_its_own_order_with_its_count():
    # given
    found = results()
    groups = slice_groups(found, "click")
    # then days stand in the week's order, histories by length, and a value may hold the sign that parts it from its name
    assert [r["value"] for r in groups["weekday"]] == ["monday", "friday", "sunday"]
    assert [r["value"] for r in groups["history"]] == ["0", "1-4", "5-19", "100+"]
    assert [r["value"] for r in groups["place"]] == ["<script>alert(1)</script>", "a=b"]
    shown = slices_text(found).splitlines()
    assert shown[0] == "recllm's click AUC by slice, counters fresh"
    assert [line.split() for line in shown if "monday" in line] == [["weekday", "monday", "0.7100", "[0.6900,", "0.7300]", "299"]]
    assert len({len(line) for line in shown[1:]}) == 1
    assert "evaluation.min_slice" in slices_text(results([row()]))


def test_both_counters_states_stand_below_the_table():
    line = "recllm's click with item counters frozen: AUC 0.7400, log loss 0.4100; fresh: AUC 0.7500, log loss 0.4000."
    assert both_counters(results()) == [line] and line in markdown(results())
    # and where the model reads no counters, or the metric is undefined, nothing is said
    assert both_counters(results([row(), row("logloss", 0.4)])) == []
    assert "item counters" not in markdown(results([row()]))


@pytest.mark.parametrize("metric", ["ece", "mae"])
def test_results_without_an_auc_can_still_be_shown(metric):
    assert metric in markdown(results([row(metric, 0.1)])) and slices_text(results([row(metric, 0.1)]))
