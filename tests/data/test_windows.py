"""Outcomes with a time of their own, durations inside sessions, and negatives from what somebody looked at lately."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.feed.log import load_log
from tests.data.test_prepare import read

START, HOUR, DAY = 1_700_000_000, 3_600, 86_400
CUTS = (START + 6 * DAY, START + 8 * DAY)  # first moments of validation and test; the log ends after ten days
OUTCOMES = {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click", "window": 1},
            "duration": {"kind": "duration", "derived": "next_event", "session": "visit", "clip": 1800}}


def feed(tmp_path, events, **data) -> Config:
    """A log of views (click 1, purchase 0) and of purchases at their own time (click unknown, history only)."""
    lines = ["user_id,item_id,ts,visit,click,purchase,scored"]
    for user, item, hour, kind, visit in events:
        view = kind != "bought"
        cells = [f"u{user}", f"i{item}", START + int(hour * HOUR), visit, "" if not view else int(kind == "view"), int(not view), int(view)]
        lines.append(",".join(map(str, cells)))
    (tmp_path / "feed.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    moments = [pd.Timestamp(cut, unit="s", tz="UTC").isoformat() for cut in CUTS]
    return Config.model_validate({
        "name": "feed", "data": {**{"interactions": str(tmp_path / "feed.csv"), "workers": 1, "shards": 2,
                                    "split": {"validation": moments[0], "test": moments[1]}}, **data},
        "schema": {"user": "user_id", "item": "item_id", "time": {"column": "ts", "unit": "s"}, "scored": "scored", "outcomes": OUTCOMES}})


BASE = [(9, 8, 1, "view", "z"), (9, 7, 2, "passed", "z"), (9, 8, 3, "bought", "z"), (9, 8, 150, "view", "y"), (9, 7, 151, "passed", "y"),
        (9, 8, 200, "view", "x"), (9, 7, 201, "passed", "x"), (8, 8, 240, "passed", "w")]
EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 239), st.sampled_from(["view", "passed", "bought"]),
                            st.sampled_from(["", "a", "b"])), max_size=40, unique_by=lambda e: e[:3])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_labels_in_time_equal_a_brute_force_loop(tmp_path, events):
    # given views, and purchases that come as events of their own up to days later
    events = [*BASE, *events]
    prepare(feed(tmp_path, events), reuse=False)
    found = read(feed(tmp_path, events).prepared).set_index(["user", "item", "time"])
    for user, item, hour, kind, visit in events:
        row = found.loc[(f"u{user}", f"i{item}", (START + hour * HOUR) * 1000)]
        now = START + hour * HOUR
        end = next((cut for cut in (*CUTS,) if now < cut), START + 240 * HOUR + 0.001)
        # then the event carries what was known at its time, and the label what came within a day, if the split can tell
        assert row["purchase"] == (kind == "bought")
        bought = any(e[:2] == (user, item) and e[3] == "bought" and hour <= e[2] <= hour + 24 for e in events)
        assert np.isnan(row["purchase_within"]) if now + DAY >= end else row["purchase_within"] == bought
        # and a duration is the gap to the next event of the same visit, cut at half an hour
        later = [e[2] for e in events if e[0] == user and e[4] == visit and e[2] > hour and START + e[2] * HOUR < end]
        assert np.isnan(row["duration"]) if not visit or not later else row["duration"] == 1800


def test_a_later_purchase_enters_histories_and_counters_at_its_own_time(tmp_path):
    # given a view at hour 1 whose purchase comes at hour 3
    config = feed(tmp_path, BASE)
    prepare(config)
    log = load_log(config)
    row = int(np.flatnonzero(log.time() == (START + HOUR) * 1000)[0])
    # then the label knows it and the event does not
    assert log.labels(["purchase"])[row, 0] == 1 and log.outcomes(["purchase"])[row, 0] == 0
    counts = pd.read_parquet(config.prepared / "item_counts.parquet").query("item == 'i8'").sort_values("period_end")
    assert counts["purchase_sum"].tolist()[:2] == [0, 1]
    # and the purchase itself is never scored
    assert not log.frame["scored"][log.time() == (START + 3 * HOUR) * 1000].any()


def busy_feed(seed=0, users=12, items=30, events=900):
    """Articles come and go; some are read again, some after weeks."""
    rng = np.random.default_rng(seed)
    made = set()
    for _ in range(events):
        hour = int(rng.integers(0, 240))
        item = int(np.clip(hour // 10 + rng.integers(-6, 3), 0, items - 1)) if rng.random() < 0.9 else int(rng.integers(items))
        made.add((int(rng.integers(users)), item, hour + int(rng.integers(60)) / 60, "view" if rng.random() < 0.85 else "bought", "a"))
    return sorted(made, key=lambda e: e[2])


@pytest.fixture
def drawn(tmp_path):
    config = feed(tmp_path, busy_feed(), negatives={"per_event": 4, "window": 1}, workers=2, shards=4)
    return config, prepare(config)


def test_with_a_window_drawn_and_logged_candidates_obey_the_same_rules(drawn):
    # given candidates from the items that had an event within a day
    config, report = drawn
    log = load_log(config)
    rows = np.flatnonzero(log.frame["scored"].to_numpy(dtype=bool))
    asked = [(int(r), int(log.item[r])) for r in rows] + [(int(r), int(i)) for r, i in log.candidates.itertuples(index=False)]
    assert len(asked) > 3 * len(rows) > 100 and report.unscored > 0
    time, known = log.time(), log.frame["known_at"].to_numpy()
    for row, item in asked:
        # then neither was opened by the user before, and both had an event in a closed period of the last day
        same = (log.user == log.user[row]) & (log.item == item)
        assert not (time[same] < time[row]).any()
        others = known[(log.item == item) & (log.user != log.user[row])]
        closed = time[row] // 3_600_000 * 3_600_000
        assert ((others < closed) & (others >= time[row] - DAY * 1000)).any()


def test_the_probes_of_the_draw_tell_nothing(drawn):
    from recllm.evaluation.probes import probes

    # given the three quantities that would betray a careless draw
    found = probes(drawn[0], load_log(drawn[0]))
    # then each alone is a coin toss
    assert found == {"seen_before": 0.5, "item_count_is_0": 0.5, "not_within_window": 0.5}


def test_without_a_window_a_probe_finds_the_draw(tmp_path):
    from recllm.evaluation.probes import probes

    # given uniform draws from everything that has arrived
    config = feed(tmp_path, busy_feed(), negatives={"per_event": 4})
    prepare(config)
    # then "nobody looked lately" tells drawn from logged: the reason for the window
    assert probes(config, load_log(config), days=1)["not_within_window"] < 0.45


def test_an_open_window_masks_drawn_candidates_as_it_masks_their_row(drawn, tiny_encoder):
    from transformers import AutoTokenizer

    from recllm.feed.examples import Examples
    from recllm.feed.fit import fit

    # given rows of the last day, whose purchases nobody can know yet, and the candidates beside them
    config, _ = drawn
    log = load_log(config)
    rows = np.flatnonzero((log.split == 2) & log.frame["scored"].to_numpy(dtype=bool))
    examples = Examples(log, fit(config, log), AutoTokenizer.from_pretrained(tiny_encoder), rows)
    groups = [(g, examples.targets(k)[0]) for k, g in enumerate(examples.groups)]
    purchase = examples.names.index("purchase")
    drawn_labels = np.concatenate([y[g.sampled, purchase] for g, y in groups])
    own = np.concatenate([log.labels(["purchase"])[g.row[g.sampled], 0] for g, _ in groups])
    # then their purchase is unknown exactly where the row's is, and 0 elsewhere; nobody clicked them
    assert np.isnan(own).any() and (np.isnan(own) == np.isnan(drawn_labels)).all() and (drawn_labels[~np.isnan(own)] == 0).all()
    assert all((y[g.sampled, examples.names.index("click")] == 0).all() for g, y in groups)
