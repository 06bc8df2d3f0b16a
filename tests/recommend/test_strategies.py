"""Strategies on past requests: which requests, what items were worth, lists as `recommend` makes them, and what a config ships."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.config import Config, load_config
from recllm.data.prepare import prepare
from recllm.data.simulate import World
from recllm.errors import DataError
from recllm.evaluation.predictions import label_frame
from recllm.feed.log import load_log
from recllm.feed.raw import RawRequests
from recllm.model.settings_recllm import PLAIN
from recllm.recommend.build import recommender_of
from recllm.recommend.grids import base_grids, grids_over, shipped, short
from recllm.recommend.moments import first_of_day, moments, raw_request
from recllm.recommend.strategies import MOST, Ready, chosen_items, figure, slim, try_strategies
from recllm.recommend.strategy_file import text, write_entry
from recllm.training.setup import TEST, VALIDATION, setup
from recllm.training.truth import revenue_facts, truth_rows

DAY = 86_400_000


class FakeLog:
    """A log of random users and times in its order, and no more."""

    def __init__(self, seed: int, rows: int = 40) -> None:
        rng = np.random.default_rng(seed)
        self.user = np.sort(rng.integers(0, 4, rows))
        time = rng.integers(0, 5 * DAY, rows)
        self.times = time[np.lexsort((time, self.user))]

    def time(self):
        return self.times


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 25))
def test_the_first_row_of_each_user_and_day_is_taken_and_of_too_many_a_seeded_choice(seed, most):
    log = FakeLog(seed)
    rows = np.flatnonzero(np.random.default_rng(seed).random(40) < 0.6)
    # when the first of each day is looked for by hand
    firsts = {}
    for row in rows:
        firsts.setdefault((log.user[row], log.times[row] // DAY), row)
    # then
    found = first_of_day(log, rows, most, seed=1)
    assert len(found) == min(most, len(firsts)) and set(found.tolist()) <= set(firsts.values())
    assert found.tolist() == first_of_day(log, rows[::-1], most, seed=1).tolist() == sorted(found)


@pytest.fixture(scope="module")
def asked(made):
    return {split: moments(made.config, made.log, split, 12) for split in MOST}


@pytest.fixture(scope="module")
def ready(made, asked):
    """What `strategies.ready` makes of a trained run, of the one model that all tests share."""
    recommender, raw = recommender_of(made), RawRequests(made.log, made.processor)
    pools = {split: [slim(recommender.pool(raw_request(raw, int(row)), exclude_seen=False), recommender) for row in chosen.row]
             for split, chosen in asked.items()}
    return Ready(made, recommender, pools)


def test_what_items_were_worth_is_what_the_user_did_in_the_rest_of_the_split(made, asked):
    log, frame = made.log, made.log.frame
    for split, chosen in asked.items():
        assert (log.split[chosen.row] == split).all() and len(chosen.row) > 3
        for k, row in enumerate(chosen.row):
            # given the loop over all rows of the log
            later = [i for i in range(len(frame)) if log.user[i] == log.user[row] and log.split[i] == split and frame["scored"][i]
                     and frame["time"][i] >= frame["time"][row]]
            clicked = {log.item[i] for i in later if frame["click"][i] == 1}
            bought = {log.item[i] for i in later if frame["purchase"][i] == 1}
            # then
            assert set(np.flatnonzero(chosen.gain[k])) == clicked and set(np.flatnonzero(chosen.value[k])) == bought
            assert set(chosen.gain[k]) <= {0.0, 1.0}


def test_lists_from_stored_predictions_are_those_that_recommend_makes(made, asked, ready):
    raw, schema = RawRequests(made.log, made.processor), made.config.columns
    grids = base_grids(schema, made.config.recommend)
    for members in (*grids.values(), *grids_over(grids["expected_value"][1], schema).values()):
        member = members[-1]
        items = chosen_items(ready.recommender, ready.pools[TEST], member)
        call = {k: v for k, v in member.items() if k not in ("exclude_seen", "retrieve")}
        for row, listed in zip(asked[TEST].row[:4], items, strict=False):
            entries = ready.recommender.recommend(raw_request(raw, int(row)), exclude_seen=False, **call)
            assert [e["item_id"] for e in entries] == [made.log.items[i] for i in listed if i >= 0], short(member)


def test_the_best_of_each_family_on_validation_is_measured_on_test_and_the_best_of_all_wins(made, asked, ready):
    config = made.config.model_copy(update={"evaluation": made.config.evaluation.model_copy(update={"bootstrap": 20})})
    found = try_strategies(config, [ready, ready], asked)
    assert {tuple(row) for row in found["rows"]} == {("strategy", "settings", "split", "metric", "mean", "low", "high", "n", "seeds")}
    validation = [row for row in found["rows"] if row["split"] == "validation"]
    test = [row for row in found["rows"] if row["split"] == "test"]
    assert {row["metric"] for row in validation} == {"ndcg@10"} and all(row["seeds"] == 2 for row in test)
    families = ["weighted", "expected_value", "thresholds", "cap", "diversity"]
    for family in families:
        members = [row for row in validation if row["strategy"] == family]
        best = max(members, key=lambda row: row["mean"])
        measured = [row for row in test if row["strategy"] == family]
        assert {row["metric"] for row in measured} == {"ndcg@10", "hit_rate@10", "expected_value@10", "diversity", "novelty", "popularity",
                                                       "coverage"}
        assert all(row["settings"] == best["settings"] for row in measured)
    assert found["winner"] == max(validation, key=lambda row: row["mean"])["settings"]
    assert all(row["low"] <= row["mean"] <= row["high"] for row in test if row["metric"] == "ndcg@10")
    entry = {"config": "rich", "next_item": [], **found}
    assert all(family in text(entry) for family in families) and json.loads(json.dumps(entry)) == entry


def test_a_figure_leaves_out_undefined_requests_and_its_interval_is_over_users():
    user = np.array([7, 7, 9, 9])
    found = figure(user, [np.array([1.0, 0.0, np.nan, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])], 50)
    assert found["mean"] == pytest.approx((2 / 3 + 1 / 3) / 2) and found["n"] == 3 and found["seeds"] == 2
    assert figure(user, [np.full(4, np.nan)], 50) is None
    one = figure(np.zeros(3, dtype=int), [np.array([0.0, 0.5, 1.0])], 50)
    assert one["low"] == one["high"] == pytest.approx(0.5)  # one user: nothing varies


# ---- a simulated shop


@pytest.fixture
def ads(tmp_path, monkeypatch, tiny_encoder):
    monkeypatch.setenv("RECLLM_CACHE", str(tmp_path / "cache"))
    small = ["data.simulate.users=15", "data.simulate.items=20", "data.simulate.requests_per_user=12", "data.workers=1"]
    shape = [f"model.encoder={tiny_encoder}", "model.layers=1", "model.stride=20", "model.overlap=20"]
    config = load_config("configs/ads.yaml", [*small, *shape])
    prepare(config)
    return config


def test_a_simulated_shop_is_measured_by_its_true_probabilities(ads):
    log = load_log(ads)
    world = World.load(Path(ads.data.interactions[0]).parent / "world.json")
    price = {item["item_id"]: item["price"] for item in world.items}
    found = moments(ads, log, VALIDATION, 5)
    for k, row in enumerate(found.row):
        context = {name: log.frame[name].iloc[row] for name in ("place", "device", "mood")}
        user = log.users[log.user[row]]
        for i, item in enumerate(log.items):
            p = world.probability(user, item, time_ms=int(log.time()[row]), **context)
            assert found.gain[k, i] == pytest.approx(p)
            assert found.value[k, i] == pytest.approx(price[item] * p * world.purchase(user, item))


def test_revenue_of_a_simulated_shop_reads_the_bids_of_its_world(ads):
    # given a model that predicts the truth
    fresh = setup(ads, load_log(ads))
    frame = label_frame(ads, fresh.examples(TEST))
    truth = truth_rows(ads, fresh, frame["item"].to_numpy())
    found = revenue_facts(ads, fresh, {"recllm": [frame.assign(p_click=truth["p_click"].to_numpy())]})
    # then it earns what the truth earns, at the first price the most
    per = {(row["model"], row["payment"]): row for row in found["rows"]}
    assert found["payment"] == "second" and found["requests"] == frame["request"].nunique()
    for payment in ("second", "first"):
        assert per["recllm", payment]["per_1000"] == per["truth", payment]["per_1000"]
    assert per["truth", "first"]["ratio"] >= 1 and per["truth", "first"]["per_1000"] > per["truth", "second"]["per_1000"]


# ---- what a config ships


WINNER = {"strategy": "weighted", "weights": {"click": 1.0, "purchase": 0.5}, "value": None, "outcome": None, "exclude_seen": True,
          "retrieve": 200, **PLAIN}  # fmt: skip
WEIGHTS = {"weights": {"click": 1.0, "purchase": 0.5}}
CAP = {"cap": {"field": "topic", "most": 2}}


def shop(**recommend) -> Config:
    return Config.model_validate({
        "name": "shop", "data": {"interactions": "log.csv", "items": "items.csv"}, "recommend": recommend,
        "schema": {"user": "u", "item": "i", "time": "t", "item_number": ["price"], "item_category": ["topic"], "item_text": ["title"],
                   "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click"}}}})  # fmt: skip


@pytest.mark.parametrize(
    ("winner", "recommend", "ships"),
    [
        ({}, WEIGHTS, True),
        ({}, {**WEIGHTS, "title": "title", "value": "price"}, True),  # neither has a say in the order
        ({}, {"weights": {"click": 1.0}}, False),
        ({}, {**WEIGHTS, "diversity": 0.1}, False),
        ({}, {**WEIGHTS, "retrieve": 50}, False),
        ({"weights": {"click": 1.0}}, {}, True),
        ({"weights": {"click": 1.0, "purchase": 0.0}}, {}, True),
        (CAP, {**WEIGHTS, **CAP}, True),
        ({"strategy": "expected_value", "outcome": "click", "value": "price"}, {"strategy": "expected_value", "value": "price"}, True),
        ({"strategy": "expected_value", "outcome": "purchase"}, {"strategy": "expected_value", "value": "price"}, False),
    ],
)
def test_a_config_ships_the_winner_or_it_does_not(winner, recommend, ships):
    assert shipped(shop(**recommend), {"shop": {"config": "shop", "winner": WINNER | winner}}) is ships


def test_without_an_entry_nothing_is_shipped():
    assert not shipped(shop(), {}) and not shipped(shop(), {"other": {"config": "other", "winner": WINNER}})


def test_a_file_keeps_one_entry_a_config(tmp_path):
    path = tmp_path / "deep" / "strategies.json"
    first, second = ({"config": name, "rows": [{"n": 1}, {"n": 2}], "winner": WINNER, "next_item": []} for name in ("ads", "movielens"))
    write_entry(path, first)
    write_entry(path, second)
    write_entry(path, {**first, "rows": []})
    assert json.loads(path.read_text()) == {"ads": {**first, "rows": []}, "movielens": second}
    assert '\n   {"n": 1},\n' in path.read_text() or '\n  {"n": 1},\n' in path.read_text()  # a row a line
    assert [p.name for p in path.parent.iterdir()] == ["strategies.json"]
    path.write_text('{"command": "x", "rows": []}')
    with pytest.raises(DataError, match="expected one entry a config"):
        write_entry(path, first)


def test_what_won_on_validation_is_what_the_configs_ship():
    # given the committed comparison
    found = json.loads(Path("results/strategies.json").read_text(encoding="utf-8"))
    assert found
    for name in found:
        assert shipped(load_config(f"configs/{name}.yaml"), found), f"configs/{name}.yaml: set recommend to {found[name]['winner']}"
