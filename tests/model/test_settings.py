"""Ranking settings of a release, of a call and of a YAML file: what they do to a recommender's lists, and how mistakes are named."""

import json

import pytest
import yaml

from recllm.config import Config, load_config
from recllm.errors import ConfigError
from recllm.model.errors_recllm import RequestError
from recllm.model.processor_recllm import RecllmProcessor
from recllm.recommend.build import processor_of, recommender_of

MOMENT = {"time": 1700090000}
BIDS = [{"item_id": f"i{k}", "value": 1.0 + k / 10} for k in range(6)]
AUCTION = {"strategy": "expected_value", "outcome": "click", "auction": {"payment": "second", "floor": 0.3}}


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


def test_a_cap_counts_every_value_of_a_list_field(recommender):
    found = recommender.recommend({"context": MOMENT}, top_k=50, cap={"field": "genres", "most": 1})
    fields = dict(zip(recommender.processor.rows.items.ids, recommender.processor.rows.items.fields, strict=True))
    values = [v for entry in found for v in fields[entry["item_id"]].get("genres", [])]
    assert values and len(values) == len(set(values))


def test_diversity_reads_the_contents_of_items_that_came_with_the_request(recommender):
    new = [{"item_id": f"new-{k}", "title": "Film 1"} for k in range(3)]
    request = {"context": MOMENT, "candidates": ["i1", *new, "i2"]}
    plain, different = recommender.recommend(request), recommender.recommend(request, diversity=1.0)
    assert {e["item_id"] for e in plain} == {e["item_id"] for e in different}
    assert plain[0] == different[0]  # the first place goes by score
    # the three new items have one text: at full diversity no two of them follow the first one at once
    order = [e["item_id"].startswith("new") for e in different]
    assert order[:3] != [True, True, True]


def test_thresholds_put_behind_and_an_auction_gives_prices(recommender):
    request = {"context": MOMENT, "candidates": BIDS}
    clicks = sorted(e["click"] for e in recommender.recommend(request))
    found = recommender.recommend(request, thresholds={"click": clicks[3]}, **AUCTION)
    assert [e["click"] >= clicks[3] for e in found] == [True] * 3 + [False] * 3
    bids = {b["item_id"]: b["value"] for b in BIDS}
    assert all(0.3 <= e["price"] <= bids[e["item_id"]] for e in found)
    assert found[0]["price"] == pytest.approx(max(0.3, found[1]["score"] / found[0]["click"]))
    assert "price" not in recommender.recommend(request)[0]
    by_field = recommender.recommend({"context": MOMENT}, value="price", **AUCTION)
    assert all(e["price"] >= 0.3 for e in by_field) and len(by_field) < len(recommender.processor.rows.items)  # some have no price


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"diversty": 1}, 'found "diversty".*Did you mean "diversity"'),
        ({"diversity": 1.5}, "diversity: expected a number from 0 to 1, found 1.5"),
        ({"diversity": "much"}, "found 'much'"),
        ({"thresholds": {"clik": 0.1}}, 'thresholds.*found "clik".*Did you mean "click"'),
        ({"thresholds": {"click": 5}}, "thresholds.click: expected a number from 0 to 1, found 5"),
        ({"thresholds": 0.5}, "thresholds: expected a dict with keys of click, purchase, duration"),
        ({"cap": {"field": "genre", "most": 1}}, 'cap.field.*found "genre".*Did you mean "genres"'),
        ({"cap": {"field": "genres"}}, "cap: expected the keys field, most, found no most"),
        ({"cap": {"field": "genres", "most": 0}}, "cap.most: expected a whole number of at least 1, found 0"),
        ({"cap": {"field": "genres", "most": 1, "least": 1}}, 'key of cap.*found "least"'),
        ({"strategy": "expected_value", "auction": {"payment": "third"}}, 'auction.payment.*found "third"'),
        ({"strategy": "expected_value", "auction": {"floor": -1}}, "auction.floor: expected a number of at least 0, found -1"),
        ({"auction": {}}, "auction: expected strategy expected_value and outcome click .*found strategy weighted"),
        ({**AUCTION, "outcome": "purchase"}, "found strategy expected_value, outcome purchase"),
        (AUCTION, "auction: expected bids, found none"),
        ({"retrieve": 0}, "retrieve: expected a whole number"),
    ],
)
def test_a_wrong_option_is_named(recommender, call, expected):
    with pytest.raises(RequestError, match=expected) as error:
        recommender.recommend({"context": MOMENT, "candidates": ["i1", "i2"]}, **call)
    assert "\n" not in str(error.value)


def test_settings_of_a_release_hold_until_a_call_says_otherwise(made, recommender, tmp_path):
    # given a release that sells its places, written and read again
    processor = processor_of(made)
    processor.recommend = {**processor.recommend, **AUCTION, "value": "price", "cap": {"field": "genres", "most": 1}}
    processor.save_pretrained(tmp_path)
    selling = type(recommender)(made.model, RecllmProcessor.from_pretrained(tmp_path))
    request = {"context": MOMENT}
    # then every entry has its price, a call by other scores has none, and a call can take a setting back
    assert all("price" in e for e in selling.recommend(request))
    assert "price" not in selling.recommend(request, strategy="weighted")[0]
    assert len(selling.recommend(request, top_k=50, cap=None)) > len(selling.recommend(request, top_k=50))
    # and a release written before these settings, and manifests, were there still ranks
    spec = tmp_path / "processor_spec.json"
    plain = json.loads(spec.read_text()) | {"format": 1}
    (tmp_path / "manifest.json").unlink()
    plain["recommend"] = {k: v for k, v in plain["recommend"].items() if k in ("strategy", "weights", "value", "outcome", "retrieve")}
    spec.write_text(json.dumps(plain))
    old = type(recommender)(made.model, RecllmProcessor.from_pretrained(tmp_path))
    assert "price" not in old.recommend(request)[0]


YAML = {
    "name": "shop", "data": {"interactions": "log.csv", "items": "items.csv"},
    "schema": {"user": "u", "item": "i", "time": "t", "item_category": ["topic"], "item_text": ["title"], "item_number": ["bid"],
               "outcomes": {"click": {"kind": "binary"}, "buy": {"kind": "binary"}, "stay": {"kind": "duration"}}},
}  # fmt: skip


def written(tmp_path, recommend):
    path = tmp_path / "shop.yaml"
    path.write_text(yaml.safe_dump({**YAML, "recommend": recommend}, sort_keys=False))
    return path


def test_all_settings_can_be_given_in_yaml(tmp_path):
    config = load_config(written(tmp_path, {
        "strategy": "expected_value", "value": "bid", "thresholds": {"click": 0.05, "stay": 10}, "cap": {"field": "topic", "most": 2},
        "diversity": 0.3, "auction": {"payment": "first", "floor": 0.1}}))  # fmt: skip
    assert config.recommend.cap.most == 2 and config.recommend.auction.payment == "first"
    assert Config.model_validate({**YAML, "recommend": {"strategy": "expected_value", "auction": {}}}).recommend.auction.floor == 0


@pytest.mark.parametrize(
    ("recommend", "expected"),
    [
        ({"treshold": {}}, 'Did you mean "thresholds"'),
        ({"thresholds": {"clik": 0.1}}, r'recommend.thresholds: expected one of click, buy, stay, found "clik"\. Did you mean "click"'),
        ({"thresholds": {"click": 1.5}}, "recommend.thresholds.click: expected a probability from 0 to 1, found 1.5"),
        ({"thresholds": {"click": -1}}, "click: expected a least probability"),
        ({"cap": {"field": "topics", "most": 2}}, 'recommend.cap.field.*Did you mean "topic"'),
        ({"cap": {"field": "topic", "mst": 2}}, 'Did you mean "most"'),
        ({"cap": {"field": "topic", "most": 0}}, '"recommend.cap.most"'),
        ({"diversity": 2}, '"recommend.diversity"'),
        ({"auction": {}}, "auction: expected strategy: expected_value"),
        ({"strategy": "expected_value", "outcome": "buy", "auction": {}}, 'recommend.outcome: expected one of click, found "buy"'),
        ({"strategy": "expected_value", "auction": {"payment": "third"}}, '"recommend.auction.payment"'),
    ],
)
def test_a_mistake_in_yaml_is_named(tmp_path, recommend, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        load_config(written(tmp_path, recommend))
    assert "\n" not in str(error.value)
