"""The committed samples: the made-up article feed is what its command draws, the KuaiRand subset hangs together."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recllm.data.simulate import simulate_feed
from recllm.data.simulate.deskdrop import feed_tables
from recllm.errors import DataError

SAMPLES = Path(__file__).parent.parent / "samples"
DAY = 86_400


@pytest.fixture(scope="module")
def feed():
    return [pd.read_parquet(SAMPLES / "deskdrop" / f"{name}.parquet") for name in ("interactions", "articles")]


@pytest.fixture(scope="module")
def kuairand():
    return {name: pd.read_parquet(SAMPLES / "kuairand" / f"{name}.parquet") for name in ("interactions", "history", "users", "items")}


def test_the_article_feed_is_what_its_command_draws(tmp_path):
    # given the committed files, when the function draws seed 0 again, then the rows are equal, and so on another call
    simulate_feed(tmp_path, seed=0, events=2000)
    for name, table in feed_tables(0, 2000).items():
        assert pq.read_table(SAMPLES / "deskdrop" / f"{name}.parquet").equals(table)
        assert pq.read_table(tmp_path / f"{name}.parquet").equals(table)
        assert not feed_tables(1, 2000)[name].equals(table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["articles.parquet", "interactions.parquet"]
    with pytest.raises(DataError, match="at least 100 events"):
        simulate_feed(tmp_path, events=9)


def test_the_article_feed_has_the_columns_and_types_of_deskdrop(feed):
    # given the log, then ids are 64-bit and of both signs, and agent, region and country are missing together
    log, articles = feed
    schema = pq.read_schema(SAMPLES / "deskdrop" / "interactions.parquet")
    names = ["timestamp", "eventType", "contentId", "personId", "sessionId", "userAgent", "userRegion", "userCountry"]
    assert schema.names == names and list(articles) == ["contentId", "contentType", "url", "title", "lang"]
    assert [field.type for field in schema] == [pa.large_string() if n.startswith(("user", "event")) else pa.int64() for n in names]
    for ids in (log.contentId, log.personId, log.sessionId, articles.contentId):
        assert (ids < -(2**53)).any() and (ids > 2**53).any()
    assert 0.15 < log.userAgent.isna().mean() < 0.4 and (log.userAgent.isna() == log.userCountry.isna()).all()
    assert log.userAgent.nunique() >= 10 and log.userAgent.str.contains("Native Mobile App").any()
    assert set(articles.lang) == {"en", "pt"} and articles.title.is_unique and articles.contentId.is_unique


def test_the_article_feed_has_the_habits_of_deskdrop(feed):
    # given the log of two thousand events and its views
    log, articles = feed
    time, views = pd.to_datetime(log.timestamp, unit="s"), log[log.eventType == "VIEW"]
    # then it covers March to September 2016, and a session has one reader, agent and place
    assert len(log) == 2000 and time.min() >= pd.Timestamp("2016-03-14") and time.max() < pd.Timestamp("2016-10-01")
    assert set(time.dt.month) == set(range(3, 10))
    assert (log.groupby("sessionId")[["personId", "userAgent", "userRegion"]].nunique() <= 1).all().all()
    # and every reaction follows a view of the article by the reader, in the session or a day later
    assert set(log.eventType) == {"VIEW", "LIKE", "BOOKMARK", "COMMENT CREATED", "FOLLOW"}
    pairs = log[log.eventType != "VIEW"].merge(views, on=["personId", "contentId"], suffixes=("", "_seen"))
    pairs = pairs[pairs.timestamp_seen < pairs.timestamp]
    assert len(pairs.drop_duplicates(["personId", "contentId", "timestamp"])) == (log.eventType != "VIEW").sum()
    later = pairs.groupby(["personId", "contentId", "timestamp"]).apply(lambda p: (p.sessionId != p.sessionId_seen).all())
    assert later.any() and not later.all()
    # and articles are read soon after they appear, some much later, some again; a part of them has a title
    age = views.timestamp - views.contentId.map(log.groupby("contentId").timestamp.min())
    assert (age <= 14 * DAY).mean() > 0.7 and (age > 14 * DAY).any() and views.duplicated(["personId", "contentId"]).any()
    assert 0.2 < log.contentId.isin(articles.contentId).mean() < 0.6


def test_the_kuairand_sample_hangs_together(kuairand):
    # given the four tables
    log, history, users, items = (kuairand[name] for name in ("interactions", "history", "users", "items"))
    # then all users and videos that are named are listed, the six days are there, and some rows are exact duplicates
    assert 1_900 < len(log) < 2_100 and log.date.nunique() == 6 and 3 <= log.duplicated().sum() <= 50
    assert set(log.user_id) == set(users.user_id) and set(history.user_id) <= set(users.user_id) and len(users) > 200
    watched = np.concatenate([np.concatenate(history[name].to_list()) for name in ("watch_seq", "like_seq", "long_watch_seq")])
    assert set(log.video_id) | set(watched.astype(np.int64)) == set(items.video_id)
    assert users.user_id.is_unique and items.video_id.is_unique and set(log.is_click) == {0, 1}


def test_the_samples_are_small_and_say_where_they_come_from():
    # given the folders, then they are small and name source, licence and changes
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 400_000
    card = (SAMPLES / "kuairand" / "README.md").read_text()
    assert all(word in card for word in ("Gao et al.", "CIKM 2022", "CC BY-SA 4.0", "Changes made"))
    assert (SAMPLES / "kuairand" / "LICENSE").read_text().startswith("Attribution-ShareAlike 4.0 International")
    assert "simulated" in (SAMPLES / "deskdrop" / "README.md").read_text()
