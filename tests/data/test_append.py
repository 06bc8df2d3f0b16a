"""`prepare --append`: what a full run over old and new files gives, at the cost of the shards that are touched."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
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


def config_of(folder: Path, files, name="log", outcomes=OUTCOMES, roles=None, **data) -> Config:
    moments = [pd.Timestamp(cut, unit="s", tz="UTC").isoformat() for cut in CUTS]
    schema = {"user": "user_id", "item": "item_id", "time": {"column": "ts", "unit": "s"}, "context": {"mood": {}},
              "outcomes": outcomes, **(roles or {})}
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
    return Counter((reason, row) for reason, row in zip(rows["reason"], rows["row"], strict=True) if reason != "late")


def report(folder: Path) -> dict:
    """The report as it would be had the late rows not been there."""
    plain = json.loads((folder / "report.json").read_text())
    plain["read"] -= plain["dropped"].pop("late", 0)
    return plain


def require_equal(appended: Path, full: Path) -> None:
    """Every file row by row and type by type (bytes may differ where DuckDB knows that a column has no NULL), dropped rows as sets."""
    one, other = frames(appended), frames(full)
    assert {n for n in one if not n.startswith("dropped")} == {n for n in other if not n.startswith("dropped")}
    for name, path in one.items():
        if not name.startswith(("dropped", "partial/refused")):
            assert [(f.name, f.type) for f in pq.read_schema(path)] == [(f.name, f.type) for f in pq.read_schema(other[name])]
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


def require_appends_equal_full_runs(folder: Path, chosen: dict, old: list, news: list) -> list[str]:
    """Append file after file, with a full run beside each. Returns what the appends said."""
    config = config_of(folder, write(folder / "old.csv", old), **chosen)
    prepare(config)
    kept, said, log = [str(folder / "old.csv")], [], old
    for day, new in enumerate(news):
        # when a file is appended, and another one to the result
        late = append(config, [write(folder / f"new-{day}.csv", new)], say=said.append).dropped.get("late", 0)
        # then it equals a full run over all files without the late rows (with them where a bot made a full run necessary)
        in_full, start = any("in full" in text for text in said), late_before(log, chosen["period"])
        on_time = new if in_full else [e for e in new if e[2] >= start]
        log = [*log, *on_time]
        assert late == (0 if in_full else sum(map(len, (old, *news[:day + 1]))) - len(log))
        kept.append(write(folder / f"on-time-{day}.csv", on_time))
        if in_full:
            kept = [str(folder / name) for name in ("old.csv", *(f"new-{k}.csv" for k in range(day + 1)))]
        whole = config_of(folder, kept, name="full", **chosen)
        prepare(whole, reuse=False)
        require_equal(config.prepared, whole.prepared)
        if in_full:
            break
    return said


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(log=logs())
def test_appending_gives_what_a_full_run_gives(tmp_path_factory, log):
    try:
        require_appends_equal_full_runs(tmp_path_factory.mktemp("log"), *log)
    except DataError as error:  # of so few rows a window may leave none that a draw could score
        assume("expected scored rows in train, validation and test" not in str(error))
        raise


@pytest.mark.parametrize(("outcomes", "period"), [(OUTCOMES, 36 * HOUR), (WINDOW, 6 * HOUR), (SESSIONS, HOUR), (GAPS, 6 * HOUR)])
def test_appending_to_a_busy_log_gives_what_a_full_run_gives(tmp_path, outcomes, period):
    # given many rows a user, one bot of long ago, and new files that hold copies and twins of each part of the log
    dice = random.Random(period)
    def event(low, high):
        return (f"u{dice.randrange(7)}", f"i{dice.randrange(5)}", dice.randrange(low, high), dice.choice(["", "a", "b"]),
                dice.choice(["", 0, 1]), dice.choice([0, 0, 1]), dice.choice(["", "1.5", "0.001", "40000"]), dice.choice(["", "wild"]))

    old = [*BASE, *(event(0, 430) for _ in range(300)), *(("u7", f"i{k % 3}", 10 + k // 3, "", 0, 0, "", "") for k in range(90))]
    again = [e for e in old if e[2] > 400 or e[0] == "u7" or dice.random() < 0.05]
    twins = [(*e[:4], 1 - (e[4] or 0), *e[5:]) for e in again if dice.random() < 0.5]
    news = [[*(event(425, 440) for _ in range(25)), *again, *twins, ("u7", "i1", 431, "", 0, 0, "", "")],
            [*(event(436, 455) for _ in range(12)), *again, *twins]]
    chosen = {"outcomes": outcomes, "period": period, "rules": {"max_events_per_day": 80}}
    said = require_appends_equal_full_runs(tmp_path, chosen, old, news)
    # then no full run was needed for it
    assert sum("made" in text for text in said) == 2


OLD = [*BASE, *((f"u{k % 7}", f"i{k % 4}", 10 + 8 * k, "", k % 2, 0, "3", "calm") for k in range(50))]
NEW = [("u0", "i3", 420, "", 1, 1, "8", "wild"), ("u0", "i9", 421, "", 0, 0, "", "")]  # of one user: one shard


@pytest.fixture
def stands(tmp_path):
    """A prepared log of two days less a bit, and a file of the next day."""
    config = config_of(tmp_path, write(tmp_path / "old.csv", OLD))
    prepare(config)
    return config, write(tmp_path / "new.csv", NEW)


def state_of(folder: Path) -> dict:
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in frames(folder).items() if name.startswith("data")}


def shards(folder: Path) -> dict:
    return {name: pd.read_parquet(path).to_json() for name, path in frames(folder).items() if name.startswith("data")}


def gathered(folder: Path) -> dict:
    return {path.name: path.stat().st_ino for path in (folder / "done").glob("gather-*")}


def test_only_touched_shards_are_made_anew(stands):
    config, new = stands
    said, before, tasks = [], state_of(config.prepared), gathered(config.prepared)
    # when a day of one user is appended
    then = append(config, [new], say=said.append)
    # then one of the four shards that have users was made, and the files of all others are the very same
    assert "added 2 rows of 2 read, 0 late; made 1 of 4 shards anew" in said and then.rows == len(OLD) + 2
    after = state_of(config.prepared)
    assert len([name for name in before if before[name] != after[name]]) == 3  # of its three splits
    assert len(set(gathered(config.prepared).items()) & set(tasks.items())) == 3
    assert not config.prepared.with_name(".prepared.old").exists() and not config.prepared.with_name(".prepared.work").exists()


def test_a_file_that_was_appended_changes_nothing_again(stands, tmp_path):
    config, new = stands
    first, said = append(config, [new]), []
    data = shards(config.prepared)
    # when it is appended again, then it is known; when its copy is, or one of the old file, then every row is a copy or late
    assert append(config, [new], say=said.append) == first and "in it already" in said[-1]
    second = append(config, [write(tmp_path / "copy.csv", [*OLD, *NEW])])
    assert second.rows == first.rows and second.dropped == {"late": len(OLD), "duplicate": 2}
    assert data == shards(config.prepared)
    # and an empty file adds nothing, and touches nothing
    before = state_of(config.prepared)
    assert append(config, [write(tmp_path / "empty.csv", [])]) == second and before == state_of(config.prepared)


def test_late_rows_are_kept_out_with_their_reason_unless_all_is_rewritten(stands, tmp_path):
    config, _ = stands
    late = [("u1", "i3", 390, "", 1, 1, "8", ""), ("u1", "i3", 404, "", 1, 0, "8", "")]
    new = write(tmp_path / "late.csv", late)
    # given a row of a closed period beside one of the open period
    then = append(config, [new])
    assert then.dropped == {"late": 1} and then.rows == len(OLD) + 1
    lost = pd.concat([pd.read_parquet(path) for path in (config.prepared / "dropped").glob("scatter-*")])
    assert [(row.file, row.line, row.reason) for row in lost.itertuples()] == [(new, 2, "late")]
    # when all is rewritten, then it is in, as in a full run
    assert append(config, [new], rewrite=True).rows == len(OLD) + 2
    whole = config_of(tmp_path, [str(tmp_path / "old.csv"), new], name="full")
    prepare(whole)
    require_equal(config.prepared, whole.prepared)


def test_a_config_that_names_old_and_new_files_finds_the_folder_up_to_date(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    config = config_of(tmp_path, str(folder / "*.csv"))
    write(folder / "day-1.csv", OLD)
    prepare(config)
    new = write(folder / "day-2.csv", NEW)
    append(config, [new])
    before = state_of(config.prepared)
    # by the glob, or by name in the same order
    for named in (str(folder / "*.csv"), [str(folder / "day-1.csv"), os.path.relpath(new)]):
        said = []
        prepare(config_of(tmp_path, named), say=said.append)
        assert said == [f"{config.prepared} is up to date"] and state_of(config.prepared) == before


def test_appended_days_are_not_thrown_away_by_a_config_that_does_not_name_them(stands, tmp_path):
    config, new = stands
    rows, said = append(config, [new]).rows, []
    assert prepare(config, say=said.append).rows == rows
    assert said == [f"{config.prepared} is up to date, with 1 appended file(s) that data.interactions does not name ({new})"]
    # nor when something else has changed
    changed = config_of(tmp_path, str(tmp_path / "old.csv"), period=HOUR)
    with pytest.raises(DataError, match=r"expected data.interactions to name all that was prepared, found 1 appended file.*--again"):
        prepare(changed)
    # unless it is asked for
    assert prepare(changed, reuse=False, say=said.append).rows == len(OLD) and "leaving out 1 appended file" in said[1]
    assert prepare(changed).rows == len(OLD)


def test_what_an_append_cannot_do_is_refused_in_one_line(stands, tmp_path):
    config, new = stands
    old, before = str(tmp_path / "old.csv"), state_of(config.prepared)
    other = write(tmp_path / "other.csv", NEW)
    items = tmp_path / "items.csv"
    items.write_text("item_id\ni0\ni1\n")
    drop = config_of(tmp_path, old, name="drop", items=str(items), rules={"unknown_items": "drop"})
    prepare(drop)
    items.write_text("item_id\ni0\ni1\ni9\n")
    refused = {"expected dates for --append": config_of(tmp_path, old, split={"validation": 0.1, "test": 0.1}),
               "expected a log prepared by this version, found none": config_of(tmp_path, old, name="never"),
               "expected the data and schema sections it was prepared with": config_of(tmp_path, old, period=HOUR),
               "other.csv: expected data.interactions to name files that are prepared": config_of(tmp_path, [old, other]),
               "data.rules.unknown_items: drop judges old rows": drop}
    for message, wrong in refused.items():
        with pytest.raises(FullRunError, match=message) as error:
            append(wrong, [new])
        assert "in full" in str(error.value) and "\n" not in str(error.value)
    os.utime(old, (1, 1))
    with pytest.raises(FullRunError, match="old.csv: expected the file as it was"):
        append(config, [new])
    assert state_of(config.prepared) == before


def test_new_entries_of_the_tables_join(tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\ni0,Hat\ni1,Coat\n")
    config = config_of(tmp_path, write(tmp_path / "old.csv", OLD), items=str(items), roles={"item_text": {"title": {}}})
    prepare(config)
    items.write_text("item_id,title\ni0,Hat\ni1,Coat\ni9,Scarf\n")
    append(config, [write(tmp_path / "new.csv", NEW)])
    table = pd.read_parquet(config.prepared / "items.parquet").set_index("item")
    assert table.loc["i9", "title"] == "Scarf" and table.loc["i9", "listed"] and not table.loc["i3", "listed"]


def test_a_user_who_becomes_a_bot_across_the_border_makes_a_full_run(tmp_path):
    chosen = {"rules": {"max_events_per_day": 5}}
    config = config_of(tmp_path, write(tmp_path / "old.csv", OLD), **chosen)
    prepare(config)
    said, new = [], write(tmp_path / "new.csv", [("u0", f"i{k}", 404 + k, "", 0, 0, "", "") for k in range(6)])
    append(config, [new], say=said.append)
    assert any('user "u0" has become a bot' in text for text in said)
    whole = config_of(tmp_path, [str(tmp_path / "old.csv"), new], name="full", **chosen)
    prepare(whole)
    require_equal(config.prepared, whole.prepared)
    # and what the user does later is dropped without another full run
    said.clear()
    later = append(config, [write(tmp_path / "later.csv", [("u0", "i1", 459, "", 0, 0, "", "")])], say=said.append)
    assert later.dropped["bot"] == whole_bots(whole) + 1 and not any("in full" in text for text in said)


def test_rows_of_a_day_are_counted_over_the_border_for_the_bot_rule(tmp_path):
    # given a user with four rows on the log's last day, whose periods are closed, and three more of that day: above the limit together
    rows = [("z", f"i{k}", 390 + k + 10 * (k > 3), "", 0, 0, "", "") for k in range(7)]
    chosen, said = {"rules": {"max_events_per_day": 6}, "period": HOUR}, []
    config = config_of(tmp_path, write(tmp_path / "old.csv", [*OLD, *rows[:4]]), **chosen)
    prepare(config)
    new = write(tmp_path / "new.csv", rows[4:])
    # then all seven go, without a full run, for no older row of the user stands
    assert append(config, [new], say=said.append).dropped == {"bot": 7} and not any("in full" in text for text in said)
    whole = config_of(tmp_path, [str(tmp_path / "old.csv"), new], name="full", **chosen)
    prepare(whole)
    require_equal(config.prepared, whole.prepared)


def test_a_shard_of_bots_alone_has_no_rows_and_takes_new_ones(tmp_path):
    # given a shard for each user, and one of a bot
    chosen = {"rules": {"max_events_per_day": 3}, "shards": 97}
    rows = [("robot", f"i{k}", 390 + k, "", 0, 0, "", "") for k in range(5)]
    config = config_of(tmp_path, write(tmp_path / "old.csv", [*BASE, *rows]), **chosen)
    assert prepare(config).dropped == {"bot": 5}
    assert append(config, [write(tmp_path / "new.csv", [("robot", "i1", 430, "", 0, 0, "", "")])]).dropped == {"bot": 6}


def whole_bots(config) -> int:
    return json.loads((config.prepared / "report.json").read_text())["dropped"]["bot"]


def killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["recllm.data.append._label_opens", "recllm.data.prepare.book", "recllm.data.prepare.complete",
                                   "recllm.data.prepare.Record.write", "recllm.data.work.flush"])
def test_a_killed_append_goes_on_and_the_old_folder_stands_until_then(stands, tmp_path, monkeypatch, where):
    config, new = stands
    before = {name: path.read_bytes() for name, path in frames(config.prepared).items()}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, killed)
        append(config, [new])
    assert before == {name: path.read_bytes() for name, path in frames(config.prepared).items()}
    append(config, [new])
    whole = config_of(tmp_path, [str(tmp_path / "old.csv"), new], name="full")
    prepare(whole)
    require_equal(config.prepared, whole.prepared)


def test_an_append_killed_between_the_renames_goes_on(stands, monkeypatch):
    config, new = stands
    rename = Path.rename

    def half(path, to):
        if path.name == ".prepared.work":
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", half)
        append(config, [new])
    # given only the old folder under its other name and the finished work
    assert not config.prepared.exists() and config.prepared.with_name(".prepared.old").exists()
    said = []
    assert append(config, [new], say=said.append).rows == len(OLD) + 2
    assert not any("reading" in text for text in said)  # nothing was done again


def test_command_line(stands, tmp_path, capsys):
    from recllm.cli import main

    config, new = stands
    path = tmp_path / "log.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json", exclude_unset=True, by_alias=True)), encoding="utf-8")
    assert main(["prepare", str(path), "--append", new]) == 0
    out = capsys.readouterr()
    assert f"read {len(OLD) + 2} rows, kept {len(OLD) + 2}" in out.out and "made 1 of 4 shards anew" in out.err
    assert main(["prepare", str(path), "--rewrite"]) == 2
    assert "say --append FILE... --rewrite" in capsys.readouterr().err
