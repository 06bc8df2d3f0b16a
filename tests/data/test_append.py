"""`prepare --append`: what a full run over old and new files gives, at the cost of the shards that are touched."""

import json
import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.config import Config
from recllm.data.append import append
from recllm.data.prepare import prepare
from recllm.errors import DataError, FullRunError

START, HALF, HOUR, DAY = 1_699_999_200, 1_800, 3_600, 86_400  # seconds; 14 November 2023, 22:00 UTC
CUTS = (START + 6 * DAY, START + 8 * DAY)  # first moments of validation and test
HEADER = "user_id,item_id,ts,visit,click,bought,seconds,mood"
OUTCOMES = {"click": {"kind": "binary"}, "bought": {"kind": "binary"}, "duration": {"kind": "duration", "column": "seconds"}}
WINDOW = {**OUTCOMES, "bought": {"kind": "binary", "window": 0.5}}
SESSIONS = {"click": {"kind": "binary"}, "duration": {"kind": "duration", "derived": "next_event", "session": "visit", "clip": 7200}}
GAPS = {"click": {"kind": "binary"}, "duration": {"kind": "duration", "derived": "next_event", "clip": 7200}}

# what every split needs, of users who never turn into bots
BASE = [("b0", "i0", 2, "", 1, 0, "5", ""), ("b1", "i1", 3, "", 0, 1, "", ""), ("b0", "i1", 300, "", 0, 0, "9", ""),
        ("b1", "i0", 301, "", 1, 0, "", ""), ("b0", "i2", 400, "", 0, 0, "", ""), ("b1", "i2", 401, "", 1, 1, "2", "")]
EVENT = st.tuples(st.integers(0, 7).map("u{}".format), st.integers(0, 4).map("i{}".format), st.integers(0, 460),
                  st.sampled_from(["", "a", "b"]), st.sampled_from(["", 0, 1]), st.sampled_from([0, 0, 1]),
                  st.sampled_from(["", "1.5", "0.001", "7200", "40000"]), st.sampled_from(["", "calm", "wild"]))


def lines(events):
    return "\n".join([HEADER, *(",".join(map(str, (u, i, START + half * HALF, *rest))) for u, i, half, *rest in events)]) + "\n"


def write(path: Path, events) -> str:
    path.write_text(lines(events), encoding="utf-8")
    return str(path)


def config_of(folder: Path, files, name="log", outcomes=OUTCOMES, **data) -> Config:
    moments = [pd.Timestamp(cut, unit="s", tz="UTC").isoformat() for cut in CUTS]
    schema = {"user": "user_id", "item": "item_id", "time": {"column": "ts", "unit": "s"}, "context": {"mood": {}}, "outcomes": outcomes}
    rules = {"max_time": "2024-01-01", "max_dropped": 1, **data.pop("rules", {})}
    return Config.model_validate({
        "name": name, "root": str(folder / "runs"), "schema": schema, "data": {
            "interactions": files, "workers": 1, "shards": 5, "period": 6 * HOUR, "rules": rules,
            "split": {"validation": moments[0], "test": moments[1]}, **data}})


def frames(folder: Path) -> dict:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*.parquet"))}


def dropped(folder: Path) -> Counter:
    """Dropped rows but late ones, as (reason, row)."""
    rows = pd.concat([pd.read_parquet(path) for path in (folder / "dropped").glob("*-*.parquet")])
    return Counter(zip(rows["reason"], rows["row"], strict=True)) - Counter({
        (reason, row): n for (reason, row), n in Counter(zip(rows["reason"], rows["row"], strict=True)).items() if reason == "late"})


def report(folder: Path) -> dict:
    """The report as it would be had the late rows not been there."""
    plain = json.loads((folder / "report.json").read_text())
    plain["read"] -= plain["dropped"].pop("late", 0)
    return plain


def require_equal(appended: Path, full: Path) -> None:
    """Shards byte by byte; everything else row by row."""
    one, other = frames(appended), frames(full)
    assert {n for n in one if not n.startswith("dropped")} == {n for n in other if not n.startswith("dropped")}
    for name, path in one.items():
        if name.startswith("data"):
            assert path.read_bytes() == other[name].read_bytes(), name
        elif not name.startswith(("dropped", "partial/refused")):
            pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(other[name]), obj=name)
    assert dropped(appended) == dropped(full)
    assert report(appended) == report(full)


def late_before(events, period) -> int:
    """Half hours: where the open period of a log begins."""
    end = START + max(e[2] for e in events) * HALF
    return -(-(end // period * period - START) // HALF)


@st.composite
def logs(draw):
    """(settings, old events, two files of new ones): new files hold rows of the open period, copies and twins of old rows, late rows."""
    outcomes, period = draw(st.sampled_from([OUTCOMES, WINDOW, SESSIONS, GAPS])), draw(st.sampled_from([HOUR, 6 * HOUR, 36 * HOUR]))
    rules = {"max_events_per_day": draw(st.sampled_from([4, 8, 1000]))}
    negatives = draw(st.sampled_from([None, None, {"per_event": 2}, {"per_event": 1, "from": "popularity", "window": 2}]))
    every, cut = draw(st.lists(EVENT, min_size=20, max_size=90)), draw(st.integers(402, 455))
    old, rest = [*BASE, *(e for e in every if e[2] <= cut)], [e for e in every if e[2] > cut]
    again = draw(st.lists(st.sampled_from(every), max_size=6).map(lambda events: [e for e in events if e[2] <= cut]))
    again += [e for e in every if cut - 12 < e[2] <= cut and draw(st.booleans())]
    twins = [(*e[:4], 1 - (e[4] or 0), *e[5:]) for e in again if draw(st.booleans())]
    new = draw(st.permutations([*rest, *again, *twins]))
    border = draw(st.integers(0, len(new)))
    return {"outcomes": outcomes, "period": period, "rules": rules, "negatives": negatives}, old, [new[:border], new[border:]]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(log=logs())
def test_appending_gives_what_a_full_run_gives(tmp_path_factory, log):
    tmp_path = tmp_path_factory.mktemp("log")
    chosen, old, news = log
    config = config_of(tmp_path, write(tmp_path / "old.csv", old), **chosen)
    prepare(config)
    kept, said = [write(tmp_path / "old.csv.all.csv", old)], []
    log_now = old
    for day, new in enumerate(news):
        # when a file is appended, and another one to the result
        report_then = append(config, [write(tmp_path / f"new-{day}.csv", new)], say=said.append)
        # then it equals a full run over all files without the late rows (with them where a bot made a full run necessary)
        border = late_before(log_now, chosen["period"])
        in_full = any("in full" in text for text in said)
        on_time = new if in_full else [e for e in new if e[2] >= border]
        assert report_then.dropped.get("late", 0) + len(on_time) >= len(new) or in_full
        log_now = [*log_now, *on_time]
        kept.append(write(tmp_path / f"on-time-{day}.csv", on_time))
        whole = config_of(tmp_path, kept, name="full", **chosen)
        prepare(whole, reuse=False)
        require_equal(config.prepared, whole.prepared)
        if in_full:
            return
