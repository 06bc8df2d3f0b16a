"""The simulated shop in its plain form: its files, its truth and its promises."""

import json

import numpy as np
import pandas as pd
import pytest

from recllm.data.simulate import World, load_world, simulate
from recllm.data.simulate.effects import KINDS
from recllm.errors import DataError
from tests.data.simulated import shop_in

SMALL = {"seed": 3, "users": 60, "items": 40, "days": 7, "requests_per_user": 60}
FILES = ("interactions.csv", "users.jsonl", "items.jsonl", "truth.parquet", "world.json")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_in(tmp_path_factory.mktemp("simulated") / "shop", **SMALL)


def asked(log):
    """The arguments of World.probability, row by row."""
    context = {kind: log[kind].to_numpy() for kind in ("place", "device", "mood")}
    return {"user_id": log.user_id.to_numpy(), "item_id": log.item_id.to_numpy(), **context}


def test_the_files_have_the_promised_columns_and_the_truth_has_the_rows_of_the_log(shop):
    # given a simulation
    folder, _, log, truth = shop
    users, items = (pd.read_json(folder / name, lines=True, dtype=False) for name in ("users.jsonl", "items.jsonl"))
    # then tables, columns, rows and their order are the promised ones
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [p for p in folder.parent.iterdir() if p != folder] == []
    assert list(log) == ["user_id", "item_id", "time", "request_id", "place", "device", "mood", "click", "purchase", "duration", "bid"]
    assert list(truth) == ["request_id", "user_id", "item_id", "p_click", "p_click_blind", "p_purchase"]
    assert list(users) == ["user_id", "age", "gender", "interests", "segment"]
    assert list(items) == ["item_id", "title", "topic", "brand", "price", "bid", "published"]
    assert len(log) == 60 * 60 * 3 and log.time.is_monotonic_increasing and log.time.str.endswith("Z").all()
    pd.testing.assert_frame_equal(log[["request_id", "user_id", "item_id"]], truth[["request_id", "user_id", "item_id"]])
    assert not log.duplicated(["request_id", "item_id"]).any()
    np.testing.assert_allclose(log.item_id.map(items.set_index("item_id").bid), log.bid)


def test_a_fifth_of_the_items_arrives_during_the_log_and_none_is_shown_before(shop):
    # given the publication of every item and the moment of every impression
    _, world, log, _ = shop
    published = pd.Series({item["item_id"]: pd.Timestamp(item["published"]) for item in world.items})
    time = pd.to_datetime(log.time, utc=True)
    # then a fifth is published inside the log, such items are shown, and nothing is shown too early
    start = pd.Timestamp("2025-03-03", tz="UTC")
    late = published.between(start, start + pd.Timedelta(days=7))
    assert late.mean() == pytest.approx(0.2) and log.item_id.isin(late[late].index).any()
    assert (log.item_id.map(published) <= time).all()


def test_outcomes_are_consistent(shop):
    # given the outcomes
    _, _, log, _ = shop
    # then purchases need a click, and durations are mostly positive, with some exact zeros
    assert log.purchase[log.click == 0].max() == 0 and log.purchase.sum() > 0
    assert log.duration.min() == 0 and 0.03 < (log.duration == 0).mean() < 0.1
    assert 0.12 < log.click.mean() < 0.25


def test_probability_matches_the_truth_by_hour_and_by_time(shop):
    # given the log's users, items and contexts
    _, world, log, truth = shop
    time = pd.to_datetime(log.time, utc=True)
    # when the world is asked for their click probabilities
    by_hour = world.probability(**asked(log), hour=time.dt.hour.to_numpy())
    by_time = world.probability(**asked(log), time_ms=time.dt.as_unit("ms").astype("int64").to_numpy())
    one = world.probability(**{name: values[7] for name, values in asked(log).items()}, hour=int(time[7].hour))
    # then they are the written ones, for one row as for many
    np.testing.assert_allclose(by_hour, truth.p_click, rtol=1e-12)
    np.testing.assert_array_equal(by_hour, by_time)
    assert isinstance(one, float) and one == pytest.approx(truth.p_click[7])


def test_blind_is_the_average_over_the_contexts_of_the_user(shop):
    # given every context of a user and how probable it is
    _, world, _, truth = shop
    user, item = truth.user_id[0], truth.item_id[0]
    weight = world.context_distribution(user)
    hour, place, device, mood = np.meshgrid(np.arange(24), *(KINDS[k] for k in ("place", "device", "mood")), indexing="ij")
    # when the probability is averaged over them
    mean = (weight * world.probability(user, item, hour=hour, place=place, device=device, mood=mood)).sum()
    # then it is the blind one
    assert weight.shape == (24, 4, 3, 4) and weight.sum() == pytest.approx(1)
    assert mean == pytest.approx(world.blind(user, item)) == pytest.approx(truth.p_click_blind[0])


def test_observed_click_rates_agree_with_the_truth_in_every_decile(shop):
    # given the rows in ten equal parts by their true probability
    _, _, log, truth = shop
    part = pd.qcut(truth.p_click, 10, labels=False)
    seen, true = log.click.groupby(part).mean(), truth.p_click.groupby(part).mean()
    # then the click rate of each is within four standard errors of the truth, and the same holds for all rows and the blind one
    assert (abs(seen - true) < 4 * np.sqrt(true * (1 - true) / (len(log) / 10))).all()
    assert log.click.mean() == pytest.approx(truth.p_click_blind.mean(), abs=0.02)


def test_context_helps_to_predict_clicks(shop):
    # given the clicks and both predictions
    _, _, log, truth = shop
    loss = {name: -np.log(np.where(log.click == 1, truth[name], 1 - truth[name])).mean() for name in ("p_click", "p_click_blind")}
    # then the one that knows the context is clearly better
    assert loss["p_click_blind"] - loss["p_click"] > 0.03


def test_the_best_item_of_a_shopper_changes_with_context(shop):
    # given two opposite moments
    _, world, _, _ = shop
    users, items = world.user_index.to_numpy()[:, None], world.item_index.to_numpy()
    out = world.probability(users, items, hour=8, place="Lisbon", device="mobile", mood="busy").argmax(1)
    home = world.probability(users, items, hour=20, place="Madrid", device="tv", mood="relaxed").argmax(1)
    # then most shoppers get another best item
    assert (out != home).mean() > 0.5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    # given the same settings twice and another seed
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        simulate(tmp_path / name, seed=seed, users=8, items=20, days=3, requests_per_user=5)
    # then equal settings give equal bytes
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_a_finished_simulation_is_reused_and_gives_the_same_world(shop):
    # given a finished simulation
    folder, world, log, _ = shop
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    # when it is asked for again
    again = simulate(folder, **SMALL)
    # then nothing is written and the loaded world answers the same
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    head = asked(log.head(50))
    np.testing.assert_array_equal(again.probability(**head, hour=9), world.probability(**head, hour=9))
    np.testing.assert_array_equal(again.purchase(head["user_id"], head["item_id"]), world.purchase(head["user_id"], head["item_id"]))
    assert isinstance(load_world(folder / "world.json"), World)


@pytest.mark.parametrize("change", ["other settings", "other world", "other version", "a file is missing", "foreign file", "no folder"])
def test_any_other_content_is_refused_and_left_alone(tmp_path, change):
    # given a folder with something else in it
    folder, settings = tmp_path / "shop", {"users": 4, "items": 20, "days": 2, "requests_per_user": 2}
    if change in ("foreign file", "no folder"):
        path = folder / "notes.txt" if change == "foreign file" else folder
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    else:
        simulate(folder, **settings)
    if change == "other version":
        plain = json.loads((folder / "world.json").read_text())
        plain["settings"]["version"] = 1
        (folder / "world.json").write_text(json.dumps(plain))
    if change == "a file is missing":
        (folder / "truth.parquet").unlink()
    before, others = sorted(tmp_path.rglob("*")), {"other settings": {"seed": 5}, "other world": {"world": "social"}}
    # when a simulation is asked for there, then it is refused and nothing changes
    with pytest.raises(DataError, match="delete it or choose another path"):
        simulate(folder, **{**settings, **others.get(change, {})})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_leaves_nothing_behind_and_an_empty_folder_is_used(tmp_path, monkeypatch):
    # given an empty folder and a disk that fills up at the last file
    folder, settings = tmp_path / "shop", {"users": 4, "items": 20, "days": 2, "requests_per_user": 2}
    folder.mkdir()

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(World, "save", fail)
        simulate(folder, **settings)
    # then only the empty folder is left, and the next try succeeds
    assert list(tmp_path.rglob("*")) == [folder]
    simulate(folder, **settings)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("bad", [{"users": 0}, {"seed": -1}, {"days": 1.5}, {"slate": 50}, {"world": "village"}])
def test_settings_out_of_range_are_refused(tmp_path, bad):
    # given a setting that makes no sense, then it is named, and nothing is written
    with pytest.raises(DataError, match=f"data.simulate.{next(iter(bad))}: expected"):
        simulate(tmp_path / "shop", **{"users": 4, "items": 20, "days": 2, "requests_per_user": 2, **bad})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [{"user_id": "nobody"}, {"item_id": "none"}, {"mood": "bussy"},
     {"hour": -1}, {"hour": 24}, {"hour": 7.5}, {"time_ms": 0}, {"hour": None}, {"weather": "sunny"}],
)  # fmt: skip
def test_questions_the_world_cannot_answer_are_data_errors(shop, bad):
    # given one wrong argument
    _, world, log, _ = shop
    good = {"user_id": log.user_id[0], "item_id": log.item_id[0], "hour": 8, "place": "Oslo", "device": "tv", "mood": "busy"}
    # when it is asked, then the error says what was expected
    with pytest.raises(DataError, match="expected"):
        world.probability(**{**good, **bad})


def test_a_world_that_is_none_is_a_data_error(tmp_path):
    # given two files that are no world, and none at all
    (tmp_path / "world.json").write_text('{"settings": {}}')
    (tmp_path / "half.json").write_text('{"settings": {"world": "shop"}, "users": []}')
    # then all are refused
    for name in ("world.json", "half.json", "missing.json"):
        for load in (World.load, load_world):
            with pytest.raises(DataError, match="expected the world.json"):
                load(tmp_path / name)
