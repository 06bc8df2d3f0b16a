"""The simulated shop in its finer form: weather, companion, the mood in free text, and a style that only the look tells."""

import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recllm.config import load_config
from recllm.data.prepare import prepare
from recllm.data.simulate import World, simulate
from recllm.data.simulate.effects import DAYPART_OF_HOUR, FINER_KINDS, KINDS, SEGMENTS, STYLES, TOPICS
from recllm.data.simulate.moods import FUNCTION_WORDS, HELD_OUT, TRAIN
from recllm.errors import ConfigError, DataError
from tests.data.simulated import shop_in

SMALL = {"seed": 3, "users": 60, "items": 40, "days": 7, "requests_per_user": 60, "finer": True}
FIELDS = ("place", "device", "mood", "weather", "companion")
VALUES = KINDS | FINER_KINDS


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return shop_in(tmp_path_factory.mktemp("simulated") / "shop", **SMALL)


def hours(log):
    return pd.to_datetime(log.time, utc=True).dt.hour.to_numpy()


def asked(log):
    """The arguments of World.probability, row by row."""
    return {name: log[name].to_numpy() for name in ("user_id", "item_id", *FIELDS)} | {"hour": hours(log)}


def plain_p(world, user, item, hour, context, style):
    """One click probability by plain arithmetic over the world's fields. `user` and `item` are places, `context` values by field."""
    segment, topic = SEGMENTS.index(world.users[user]["segment"]), TOPICS.index(world.items[item]["topic"])
    logit = world.taste[user][topic] + world.quality[item] + world.daypart[segment][topic][DAYPART_OF_HOUR[hour]]
    for kind, value in context.items():
        logit += getattr(world, kind)[segment][topic][VALUES[kind].index(value)]
    logit += world.style_taste[segment][KINDS["mood"].index(context["mood"])][style]
    return 1 / (1 + math.exp(-logit))


def places(world, row):
    return [u["user_id"] for u in world.users].index(row.user_id), [i["item_id"] for i in world.items].index(row.item_id)


def content_words(phrase):
    return {word for word in re.findall(r"[a-z']+", phrase) if word not in FUNCTION_WORDS}


def test_the_files_have_the_columns_of_the_plain_shop_and_the_finer_ones(shop):
    # given a simulation, then the new columns stand among the old ones
    folder, _, log, truth = shop
    items = pd.read_json(folder / "items.jsonl", lines=True, dtype=False)
    assert list(log) == ["user_id", "item_id", "time", "request_id", *FIELDS, "mood_words", "click", "purchase", "duration", "bid"]
    assert list(truth) == ["request_id", "user_id", "item_id", "p_click", "p_click_blind", "p_click_no_look", "p_purchase"]
    assert list(items) == ["item_id", "title", "topic", "brand", "price", "bid", "published", "look"]
    assert {kind: set(log[kind]) for kind in FINER_KINDS} == {kind: set(values) for kind, values in FINER_KINDS.items()}
    assert 0.08 < log.click.mean() < 0.25


def test_all_three_probabilities_are_those_of_plain_loops(shop):
    # given rows of the log
    _, world, log, truth = shop
    for at in range(0, len(log), 900):
        row = log.loc[at]
        user, item = places(world, row)
        hour, context = int(hours(log)[at]), {kind: row[kind] for kind in FIELDS}
        # when they are computed by hand, then they agree
        assert plain_p(world, user, item, hour, context, world.style[item]) == pytest.approx(truth.p_click[at])
        no_look = sum(plain_p(world, user, item, hour, context, style) for style in range(len(STYLES))) / len(STYLES)
        assert no_look == pytest.approx(truth.p_click_no_look[at])
    np.testing.assert_allclose(world.probability(**asked(log)), truth.p_click, rtol=1e-12)
    np.testing.assert_allclose(world.probability(**asked(log), look=False), truth.p_click_no_look, rtol=1e-12)


def test_blind_is_the_average_over_every_context_of_the_user(shop):
    # given how probable each context of a user is
    _, world, log, truth = shop
    row = log.loc[11]
    user, item = places(world, row)
    weight, segment = world.context_distribution(row.user_id), SEGMENTS.index(world.users[user]["segment"])
    # when one loop goes over all of them
    mean = 0.0
    for hour, *at in itertools.product(range(24), *(range(len(VALUES[kind])) for kind in FIELDS)):
        daypart, (place, device, mood, weather, companion) = DAYPART_OF_HOUR[hour], at
        chance = (world.hour_p[segment][hour] * world.place_p[user][place] * world.device_p[user][daypart][device]
                  * world.mood_p[user][daypart][mood] * world.weather_p[place][weather] * world.companion_p[user][daypart][companion])
        assert math.isclose(weight[hour, *at], chance)
        context = {kind: VALUES[kind][code] for kind, code in zip(FIELDS, at, strict=True)}
        mean += chance * plain_p(world, user, item, hour, context, world.style[item])
    # then it is the blind probability
    assert weight.sum() == pytest.approx(1)
    assert mean == pytest.approx(truth.p_click_blind[11]) == pytest.approx(world.blind(row.user_id, row.item_id))


def test_observed_rates_agree_with_the_truth_and_each_piece_of_knowledge_helps(shop):
    # given the rows in ten equal parts by their true probability
    _, _, log, truth = shop
    part = pd.qcut(truth.p_click, 10, labels=False)
    seen, true = log.click.groupby(part).mean(), truth.p_click.groupby(part).mean()
    auc = {name: roc_auc_score(log.click, truth[name]) for name in ("p_click", "p_click_blind", "p_click_no_look")}
    # then the click rate of each is within four standard errors, and the look as well as the context are worth knowing
    assert (abs(seen - true) < 4 * np.sqrt(true * (1 - true) / (len(log) / 10))).all()
    assert auc["p_click"] > auc["p_click_no_look"] + 0.01
    assert auc["p_click"] > auc["p_click_blind"] + 0.05


def test_the_look_tells_the_style_and_no_other_field_does(tmp_path):
    # given the looks of a catalogue, some of them missing
    simulate(tmp_path / "shop", users=4, items=400, days=3, requests_per_user=2, finer=True)
    world = World.load(tmp_path / "shop" / "world.json")
    looks = [item["look"] for item in world.items]
    here = np.array([look is not None for look in looks])
    x, y = np.array([look for look in looks if look is not None]), world.style[here]
    # then a tenth is missing, and a linear reading of the others finds the style of items that it has not seen
    assert 0.05 < 1 - here.mean() < 0.15 and x.shape[1] == 16
    half = len(x) // 2
    assert LogisticRegression(max_iter=1000).fit(x[:half], y[:half]).score(x[half:], y[half:]) > 0.9
    topic = pd.get_dummies([item["topic"] for item in world.items]).to_numpy()
    assert LogisticRegression().fit(topic[:200], world.style[:200]).score(topic[200:], world.style[200:]) < 0.5
    assert "style" not in (tmp_path / "shop" / "items.jsonl").read_text()


def test_held_out_phrases_share_no_content_word_with_any_other_phrase():
    # given all phrases and their content words
    words = {(part, mood): [content_words(p) for p in phrases] for part, moods in (("train", TRAIN), ("held", HELD_OUT))
             for mood, phrases in moods.items()}
    assert set(TRAIN) == set(HELD_OUT) == set(KINDS["mood"])
    for mood in TRAIN:
        assert len(set(TRAIN[mood])) >= 15 and len(TRAIN[mood]) == len(set(TRAIN[mood])) and len(HELD_OUT[mood]) >= 8
    # then every phrase has some, and a held-out one shares none, nor a beginning of five letters, with train or with another mood
    everything = {key: set().union(*found) for key, found in words.items()}
    assert all(phrase for found in words.values() for phrase in found)
    for key, other in itertools.combinations(everything, 2):
        if "held" in (key[0], other[0]):
            assert not {w[:5] for w in everything[key]} & {w[:5] for w in everything[other]}, (key, other)


def test_the_mood_is_said_in_phrases_of_its_own_that_change_for_validation_and_test(tmp_path, monkeypatch):
    # given the example's config over a small log
    monkeypatch.setenv("RECLLM_CACHE", str(tmp_path))
    small = [f"data.simulate.{name}={value}" for name, value in (SMALL | {"users": 20, "requests_per_user": 20}).items()]
    config = load_config("configs/moments.yaml", [*small, "data.workers=1", f"root={tmp_path / 'runs'}"])
    # when it is prepared
    prepare(config)
    log = pd.read_csv(tmp_path / "moments" / "interactions.csv")
    rows = {split: pd.concat([pd.read_parquet(p) for p in (config.prepared / "data").glob(f"{split}-*.parquet")])
            for split in ("train", "validation", "test")}
    # then each phrase belongs to the row's mood, and train and the other splits have no phrase in common
    mood_of = {p: mood for moods in (TRAIN, HELD_OUT) for mood, phrases in moods.items() for p in phrases}
    assert (log.mood_words.map(mood_of) == log.mood).all()
    train, held = ({p for phrases in moods.values() for p in phrases} for moods in (TRAIN, HELD_OUT))
    assert set(rows["train"].mood) <= train and set(rows["validation"].mood) | set(rows["test"].mood) <= held


def test_the_same_seed_gives_the_same_bytes_and_the_stored_world_answers_the_same(shop, tmp_path):
    # given the same settings again
    folder, world, log, _ = shop
    simulate(tmp_path / "again", **SMALL)
    # then every file has the same bytes, and the loaded world the same answers
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    np.testing.assert_array_equal(World.load(folder / "world.json").probability(**asked(log)), world.probability(**asked(log)))
    assert json.loads((folder / "world.json").read_text())["settings"]["finer"] is True


@pytest.mark.parametrize("bad", [{"weather": None}, {"companion": None}, {"companion": "friends"}, {"weather": "windy"}])
def test_a_finer_world_needs_all_of_the_moment(shop, bad):
    # given a question with one field missing or unknown, then the error says what was expected
    _, world, log, _ = shop
    with pytest.raises(DataError, match="expected"):
        world.probability(**(asked(log.head(3)) | bad))


def test_settings_of_the_other_world_are_refused():
    # given a setting that the chosen world does not have, then it is named
    with pytest.raises(ConfigError, match="expected no groups for world: shop"):
        load_config("configs/moments.yaml", ["data.simulate.groups=9"])
    with pytest.raises(ConfigError, match="expected no finer, items for world: social"):
        load_config("configs/social.yaml", ["data.simulate.items=20", "data.simulate.finer=true"])
    # and a whole config that was dumped can be read again
    for name in ("ads", "moments", "social"):
        config = load_config(f"configs/{name}.yaml")
        assert type(config).model_validate(config.model_dump(by_alias=True)) == config
