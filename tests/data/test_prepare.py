"""Preparation: what is visible when, what is counted when, what is dropped and why."""

import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.data.prepare import prepare
from recllm.data.sources.frames import frame_file
from recllm.errors import DataError
from tests.conftest import HEADER, small_log

START = 1_700_000_000  # seconds
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2),  # user
        st.integers(0, 3),  # item
        st.integers(0, 12),  # time in steps of 30 minutes: many ties
        st.sampled_from([None, 0, 1]),  # click
        st.sampled_from([None, 0.0, 10.0, 4_000.0, 80_000.0]),  # duration: some outlast many later events
    ),
    min_size=4,
    max_size=40,
)

BASE = [(0, 0, 0, 1, 5.0), (1, 1, 0, 0, None), (1, 2, 30, 1, 2.0), (0, 2, 40, 1, None), (1, 3, 41, 0, 1.0)]  # both labels, three splits


def read(folder, name="data"):
    return pd.concat([pd.read_parquet(p) for p in sorted((folder / name).glob("*.parquet"))], ignore_index=True)


def as_csv(events):
    rows = [HEADER]
    for user, item, step, click, duration in [*BASE, *events]:
        cells = [f"u{user}", f"i{item}", START + step * 1800, "", "tv", "Oslo", 1, click, int(click == 1 and item == 0), duration]
        rows.append(",".join("" if cell is None else str(cell) for cell in cells))
    return "\n".join(rows) + "\n"


def merge(frame):
    """DESIGN 4's merge of rows equal in user, time and item, in plain Python."""
    merged = {}
    for row in frame:
        user, item, step, click, duration = row
        old = merged.get((user, step, item), (None, None))
        clicks = [c for c in (old[0], click) if c is not None]
        durations = [d for d in (old[1], duration) if d is not None]
        merged[user, step, item] = (max(clicks, default=None), sum(durations) if durations else None)
    return merged


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_n_before_and_item_counts_equal_a_brute_force_loop(shop, events):
    # given a log with ties, unknown labels and durations that outlast later events (exact copies are duplicates, so sets here)
    config = shop(as_csv(events), split={"validation": "2023-11-15T12:00:00Z", "test": "2023-11-15T18:00:00Z"}, schema={"request": None},
                  rules={"confirmed": ["duplicate"]})  # drawn events repeat those of BASE
    # when it is prepared
    prepare(config, reuse=False)
    rows = read(config.prepared).sort_values(["user", "pos"], ignore_index=True)
    # then every row's n_before is the leading run of rows that ended, and were known, by then
    unique = list(dict.fromkeys([*BASE, *events]))
    expected = merge(unique)
    assert len(rows) == len(expected)
    for _, timeline in rows.groupby("user"):
        records = timeline.to_dict("records")
        assert [r["pos"] for r in records] == list(range(len(records)))
        for row in records:
            visible = 0
            for earlier in records:
                if earlier["time"] < row["time"] and earlier["known_at"] <= row["time"]:
                    visible += 1
                else:
                    break
            assert row["n_before"] == visible
    for row in rows.to_dict("records"):
        click, duration = expected[int(row["user"][1:]), (row["time"] // 1000 - START) // 1800, int(row["item"][1:])]
        assert row["known_at"] == row["time"] + int((duration or 0) * 1000)
        assert (math.isnan(row["click"]) and click is None) or row["click"] == click
    # and the item counts at any hour's end are the sums over the events known in periods closed by then
    counts = pd.read_parquet(config.prepared / "item_counts.parquet")
    for record in counts.to_dict("records"):
        known = rows[(rows["item"] == record["item"]) & (rows["known_at"] < record["period_end"])]
        known = known[known[["click", "purchase", "duration"]].notna().any(axis=1)]
        assert record["events"] == len(known)
        for name in ("click", "purchase", "duration"):
            assert record[f"{name}_n"] == known[name].notna().sum()
            assert record[f"{name}_sum"] == pytest.approx(known[name].sum())
    assert set(counts["item"]) <= set(rows["item"])


def test_each_rule_counts_its_rows_and_keeps_them_with_reason_and_line(shop):
    good = small_log()
    bad = [
        ",i1,1700000000,,tv,Oslo,1,1,0,5",  # missing_user
        "u1,,1700000000,,tv,Oslo,1,1,0,5",  # missing_item
        "u1,i1,yesterday,,tv,Oslo,1,1,0,5",  # bad_time
        "u1,i1,1,,tv,Oslo,1,1,0,5",  # time_out_of_range
        "u1,i1,1700000001,,tv,Oslo,1,maybe,0,5",  # bad_click
        "u1,i1,1700000002,,tv,Oslo,1,1,0,-5",  # negative_duration
        "u1,i1,1700000003,,tv,Oslo,1,1,0,99999999",  # absurd_duration
        "u1,i1,1700000004,,tv,Oslo,1,0,1,5",  # purchase_without_click
        "u1,i1,1700000005,,tv,Oslo,1,1,0,nan",  # bad_duration
        good.splitlines()[1],  # duplicate
        "u1,i1,1700000006",  # malformed_line
    ]
    config = shop(good + "\n".join(bad) + "\n")
    report = prepare(config)
    assert report.dropped == dict.fromkeys(
        ["missing_user", "missing_item", "bad_time", "time_out_of_range", "bad_click", "negative_duration", "absurd_duration",
         "purchase_without_click", "bad_duration", "duplicate", "malformed_line"], 1)  # fmt: skip
    assert report.read == report.rows + sum(report.dropped.values()) + report.merged
    dropped = read(config.prepared, "dropped")
    lines = dict(zip(dropped["reason"], dropped["line"], strict=True))
    first = good.count("\n") + 1
    assert [lines[reason] for reason in ("missing_user", "bad_time", "malformed_line")] == [first, first + 2, first + 10]
    assert "yesterday" in dropped.set_index("reason").loc["bad_time", "row"]


def test_odd_values_are_kept(shop):
    # given ids of 64 bits, ids with leading zeros, emoji, NaN and infinity in a number, an offset in the time
    odd = ["9223372036854775807,0017,2023-11-15T01:00:00+02:00,,tv,Oslo,nan,1,0,5", "u1,🎬,1700000007,,tv,Oslo,inf,1,0,5"]
    config = shop(small_log() + "\n".join(odd) + "\n")
    report = prepare(config)
    assert report.dropped == {} and report.mended == {"unreadable_temperature": 2}
    rows = read(config.prepared).set_index("item")
    assert rows.loc["0017", "user"] == "9223372036854775807"
    assert rows.loc["0017", "utc_offset"] == 120 and rows.loc["0017", "time"] == 1_700_002_800_000
    assert "🎬" in rows.index and pd.isna(rows.loc["0017", "temperature"])


CELLS = [line.split(",") for line in small_log().splitlines()[1:]]
ONE_ITEM = "\n".join([HEADER, *(",".join([c[0], "i0", *c[2:]]) for c in CELLS)])
NO_POSITIVE = "\n".join([HEADER, *(",".join([*c[:7], "0,0,1"]) for c in CELLS)])


@pytest.mark.parametrize(
    ("log", "change", "expected"),
    [
        ("", {}, "found an empty file"),
        (HEADER + "\n", {}, "expected rows to keep"),
        (small_log().replace("item_id", "itm_id"), {}, 'column "item_id" is not in .*Did you mean "itm_id"'),
        (small_log(users=1), {}, "expected at least two users.*found 1"),
        (ONE_ITEM, {}, "at least two items"),
        (NO_POSITIVE, {}, "no positive label"),
        (small_log(), {"split": {"validation": "2030-01-01", "test": "2031-01-01"}}, "expected first row < validation"),
        (small_log(), {"name": "log.xyz"}, "expected a name that ends in"),
        (small_log(), {"items": '{"id": 3}\n', "schema": {"item_text": ["title"]}}, 'column "item_id" is not in'),
    ],
)
def test_unusable_input_is_one_clear_line_and_leaves_no_file(shop, log, change, expected):
    config = shop(log, **change)
    with pytest.raises(DataError, match=expected) as error:
        prepare(config)
    assert "\n" not in str(error.value)
    assert not config.folder.exists() or not any(config.folder.iterdir())


def test_items_and_users_are_joined_and_those_of_the_log_alone_are_kept(shop):
    items = '{"item_id": "i1", "title": "One", "genres": ["a", "b"], "price": 3}\n{"item_id": "i1", "title": "Again"}\n'
    users = '{"user_id": "u1", "age": 30}\n'
    config = shop(small_log(), items=items, users=users,
                  schema={"item_text": ["title"], "item_category": {"genres": {"list": True}}, "item_number": ["price"],
                          "profile": {"age": {"kind": "number"}}})  # fmt: skip
    report = prepare(config)
    assert report.tables == {"items": {"duplicate_id": 1, "unlisted": 6}, "users": {"unlisted": 5}}
    table = pd.read_parquet(config.prepared / "items.parquet").set_index("item")
    assert table.loc["i1", "title"] == "One" and list(table.loc["i1", "genres"]) == ["a", "b"] and table.loc["i1", "price"] == 3
    assert not table.loc["i2", "listed"]


def test_formats_and_shards_give_equal_rows(shop, tmp_path):
    from datasets import Dataset

    frame = pd.read_csv(pd.io.common.StringIO(small_log()), dtype=str)
    frame.to_parquet(tmp_path / "log.parquet")
    frame.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
    Dataset.from_pandas(frame).save_to_disk(str(tmp_path / "saved"))
    frame_file(frame, tmp_path / "frame.parquet")
    expected = None
    for name, shards in (("log.csv", 1), ("log.parquet", 2), ("log.jsonl", 3), ("saved", 2), ("frame.parquet", 2)):
        config = shop(small_log(), shards=shards)
        data = config.data.model_copy(update={"interactions": [str(tmp_path / name)]})
        config = config.model_copy(update={"data": data})
        prepare(config, reuse=False)
        rows = read(config.prepared).sort_values(["user", "pos"], ignore_index=True)
        expected = rows if expected is None else expected
        pd.testing.assert_frame_equal(rows, expected)


def test_a_second_call_reuses_and_a_changed_schema_does_not(shop):
    config = shop(small_log())
    said = []
    prepare(config)
    prepare(config, say=said.append)
    assert said == [f"{config.prepared} is up to date"]
    prepare(shop(small_log(), period=60), say=said.append)
    assert len(said) > 1


def test_negatives_have_arrived_and_were_not_opened_before(shop):
    config = shop(small_log(), schema={"outcomes": {"click": {"kind": "binary", "every_row": True}}}, negatives={"per_event": 2})
    report = prepare(config)
    rows, candidates = read(config.prepared), read(config.prepared, "candidates")
    assert report.candidates == len(candidates) > 40
    first = rows.groupby("item")["time"].min()
    joined = candidates.merge(rows, on=["user", "pos"], suffixes=("", "_event"))
    assert len(joined) == len(candidates) and (first[joined["item"]].to_numpy() <= joined["time"]).all()
    opened = rows.groupby(["user", "item"])["time"].min().rename("opened").reset_index()
    assert not (joined.merge(opened, on=["user", "item"]).eval("opened <= time")).any()
    assert not candidates.duplicated().any()


def test_load_dataset_reads_the_folder(shop, tmp_path):
    from datasets import load_dataset

    config = shop(small_log())
    report = prepare(config)
    loaded = load_dataset(str(config.prepared), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {s: f["rows"] for s, f in report.splits.items()}
    assert str(loaded["train"].features["time"].dtype) == "int64"


def test_known_at_weight_and_request_are_read_where_they_are_declared(shop):
    lines = small_log().splitlines()
    rows = [f"{line},{int(line.split(',')[2]) + 90_000},0.5" for line in lines[1:]]
    log = "\n".join([f"{lines[0]},seen_at,w", *rows]) + "\n"
    config = shop(log, schema={"known_at": "seen_at", "weight": "w"})
    prepare(config)
    frame = read(config.prepared)
    assert (frame["known_at"] == frame["time"] + 90_000_000).all() and (frame["weight"] == 0.5).all()
    assert frame["n_before"].max() == 0 and frame["request"].str.startswith("r").all()  # nothing is known for 25 hours


def test_a_frame_that_no_table_can_hold_is_named(tmp_path):
    mixed = pd.DataFrame({"a": [1, "x", object()]})
    for frame, expected in ((pd.DataFrame({"a": []}), "empty frame"), (mixed, "several types"), ([1], "found list")):
        with pytest.raises(DataError, match=expected):
            frame_file(frame, tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["line", "file", "split", "pos", "weight", "known_at", "broken", "with.dot"])
def test_a_name_that_the_prepared_table_needs_is_refused(shop, name):
    with pytest.raises(ValueError, match="reserved|letters, digits"):
        shop(small_log(), schema={"context": {name: {"column": "device"}}})


def test_odd_column_names_of_the_file_are_no_matter(shop):
    lines = small_log().splitlines()
    log = "\n".join([lines[0] + ",n,before,line,raw", *(line + ",1,2,3,4" for line in lines[1:])]) + "\n"
    assert prepare(shop(log)).rows == 144


def test_rows_that_are_history_only_are_events_and_never_labels(shop):
    lines = small_log().splitlines()
    log = "\n".join([lines[0] + ",label", *(f"{line},{int(k % 4 > 0)}" for k, line in enumerate(lines[1:]))]) + "\n"
    config = shop(log, schema={"scored": "label"})
    report = prepare(config)
    frame = read(config.prepared)
    assert report.rows == 144 and frame["scored"].sum() == 108 == sum(facts["rows"] for facts in report.splits.values())
    counts = pd.read_parquet(config.prepared / "item_counts.parquet")
    assert counts.groupby("item")["events"].max().sum() == 144  # all of them are counted
