"""Adapters of published logs: the slices' Parquet files and the publishers' CSV files alike, on small samples."""

import shutil
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from recllm.config import load_config
from recllm.data.prepare import check, prepare
from recllm.data.sources.agents import device_of
from recllm.data.sources.scan import scan
from recllm.errors import DataError
from recllm.evaluation.probes import probes
from recllm.feed.log import load_log

SAMPLES = Path(__file__).parent.parent / "samples"
CONFIGS = Path(__file__).parent.parent.parent / "configs"
SIGNALS = ["is_like", "is_follow", "is_comment", "is_forward"]


def rows(folder, kind, table="interactions"):
    connection = duckdb.connect()
    return connection.sql(f"SELECT * FROM {scan(connection, folder, format=kind, table=table)}").df()


def config_of(name, folder, monkeypatch, **changes):
    monkeypatch.setenv("RECLLM_DATA", str(folder))
    return load_config(CONFIGS / f"{name}.yaml", [f"{key}={value}" for key, value in changes.items()])


@pytest.fixture
def published(tmp_path):
    """The samples written as the publishers write them: CSV, other columns beside, articles with their text and their sharing."""
    kuairand, deskdrop = tmp_path / "kuairand" / "data", tmp_path / "deskdrop"
    kuairand.mkdir(parents=True)
    deskdrop.mkdir()
    names = {"interactions": "log_standard_4_22_to_5_08_pure", "users": "user_features_pure", "items": "video_features_basic_pure"}
    for table, name in names.items():
        pd.read_parquet(SAMPLES / "kuairand" / f"{table}.parquet").to_csv(kuairand / f"{name}.csv", index=False)
    pd.read_parquet(SAMPLES / "deskdrop" / "interactions.parquet").to_csv(deskdrop / "users_interactions.csv", index=False)
    articles = pd.read_parquet(SAMPLES / "deskdrop" / "articles.parquet").assign(
        timestamp=1_450_000_000, eventType="CONTENT SHARED", text='A "quoted" text,\nover two lines')
    again = articles.assign(timestamp=1_460_000_000, eventType="CONTENT REMOVED")
    pd.concat([again, articles]).to_csv(deskdrop / "shared_articles.csv", index=False)
    return tmp_path


def test_kuairands_rows_mean_what_the_publisher_says():
    # given the sample and its raw tables
    found, raw = rows(SAMPLES / "kuairand", "kuairand"), pd.read_parquet(SAMPLES / "kuairand" / "interactions.parquet")
    history = pd.read_parquet(SAMPLES / "kuairand" / "history.parquet")
    logged, older = found[found["scored"] == "1"], found[found["scored"] == "0"]
    # then every impression is there, with one signal for like, follow, comment and forward
    assert logged["video_id"].astype(int).tolist() == raw["video_id"].tolist()
    assert logged["engaged"].astype(int).tolist() == raw[SIGNALS].max(axis=1).tolist()
    # and what was shown before it, in its order, as events without context and outcome
    assert len(older) == history["watch_seq"].map(len).sum() and older[["tab", "is_click", "play_time_ms", "engaged"]].isna().all().all()
    user = history.iloc[history["watch_seq"].map(len).argmax()]
    mine = older[older["user_id"] == str(user["user_id"])].astype({"time_ms": int}).sort_values("time_ms")
    assert mine["video_id"].astype(int).tolist() == list(user["watch_seq"])
    assert mine["time_ms"].iloc[-1] == user["last_time_ms"] and (mine["time_ms"].diff().dropna() == 1).all()
    liked = mine[mine["video_id"].astype(int).isin(user["like_seq"])]
    assert (liked["past"] == "liked").all()


def test_deskdrops_rows_mean_what_the_design_says():
    found, raw = rows(SAMPLES / "deskdrop", "deskdrop"), pd.read_parquet(SAMPLES / "deskdrop" / "interactions.parquet")
    view = found["eventType"] == "VIEW"
    # then a view is a click, every other event a signal at its own time; ids keep all of their 64 bits
    assert (found.loc[view, ["click", "engaged", "scored"]] == ["1", "0", "1"]).all().all()
    assert found.loc[~view, "click"].isna().all() and (found.loc[~view, ["engaged", "scored"]] == ["1", "0"]).all().all()
    assert sorted(found["contentId"].astype("int64")) == sorted(raw["contentId"])
    # and the device is that of the user agent, unknown where none was logged
    assert found["device"].isna().sum() >= raw["userAgent"].isna().sum() > 0
    assert {"desktop", "mobile"} <= set(found["device"].dropna())


@pytest.mark.parametrize("agent, expected", [
    ("Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0.2704.103 Safari/537.36", "desktop"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 9_3_2 like Mac OS X) AppleWebKit/601.1.46 (KHTML, like Gecko) Version/9.0 Mobile Safari/601.1",
     "mobile"),
    ("Mozilla/5.0 (iPad; CPU OS 9_3_2 like Mac OS X) AppleWebKit/601.1.46 (KHTML, like Gecko) Version/9.0 Mobile/13F69 Safari/601.1",
     "tablet"),
    ("Android - Native Mobile App", "app"), ("nothing that anybody sends", None),
])
def test_devices_come_from_user_agents(agent, expected):
    assert device_of(agent)[0] == expected


@pytest.mark.parametrize("kind, tables", [("kuairand", ("interactions", "users", "items")), ("deskdrop", ("interactions", "items"))])
def test_the_publishers_files_give_the_slices_rows(published, kind, tables):
    # given the same rows as the publisher's CSV files
    for table in tables:
        slice_, original = rows(SAMPLES / kind, kind, table), rows(published / kind, kind, table)
        if kind == "kuairand" and table == "interactions":
            slice_ = slice_[slice_["scored"] == "1"]  # the publisher logs the older rows in full
        same = [c for c in slice_ if c not in ("text", "shared")]
        key = same[:3]
        left, right = (frame[same].replace(r"\.0$", "", regex=True).astype(object).where(frame[same].notna(), None)
                       .sort_values(key, ignore_index=True) for frame in (slice_, original))
        # then the adapters make the same of them
        pd.testing.assert_frame_equal(left, right, check_dtype=False)
    if kind == "deskdrop":  # and an article is there once, as it was first shared
        found = rows(published / kind, kind, "items")
        assert found["contentId"].is_unique and (found["shared"] == "1450000000").all() and found["text"].str.contains("\n").all()


@pytest.mark.parametrize("kind", ["kuairand", "deskdrop"])
def test_a_sample_goes_through_preparation(kind, monkeypatch):
    config = config_of(kind, SAMPLES, monkeypatch)
    report = prepare(config)
    log = load_log(config)
    # then nothing is lost without a reason
    assert report.read == report.rows + report.merged + sum(report.dropped.values())
    assert set(report.dropped) <= {"duplicate", "time_out_of_range"}
    if kind == "kuairand":  # older events are history: no outcome, no count
        older = ~log.frame["scored"].to_numpy(dtype=bool)
        assert older.any() and log.frame.loc[older, ["click", "purchase", "duration"]].isna().all().all()
        assert report.dropped["duplicate"] == 9
        counts = pd.read_parquet(config.prepared / "item_counts.parquet").groupby("item")["events"].max().sum()
        assert counts == (~older).sum()
    else:  # the draw betrays nothing
        assert probes(config, log) == {"seen_before": 0.5, "item_count_is_0": 0.5, "not_within_window": 0.5}


def test_a_folder_without_its_files_is_named(tmp_path, monkeypatch):
    (tmp_path / "kuairand").mkdir()
    with pytest.raises(DataError, match=r"kuairand: expected items.parquet or video_features_basic_pure.csv of kuairand, found neither"):
        check(config_of("kuairand", tmp_path, monkeypatch))
    shutil.rmtree(tmp_path / "kuairand")
    with pytest.raises(DataError, match="expected the folder of kuairand at .*RECLLM_DATA is its root"):
        check(config_of("kuairand", tmp_path, monkeypatch))
