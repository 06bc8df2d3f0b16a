"""Every baseline by the contract, and what is particular to each."""

import builtins

import numpy as np
import pytest
import torch

from recllm.errors import ConfigError, MissingExtraError
from recllm.evaluation.baselines import create
from recllm.evaluation.features import Counter, counters
from tests.evaluation.contract import TEST, TRAIN, VALIDATION, BaselineContract
from tests.evaluation.tables import OUTCOMES


class TestItemRate(BaselineContract):
    name = "item-rate"

    def test_it_is_the_smoothed_rate_of_the_item(self):
        # given an item seen 60 times
        start = (np.nansum(TRAIN.labels["click"]) + 0.5) / (np.isfinite(TRAIN.labels["click"]).sum() + 1)
        rate = (TEST.frame["item_click_sum"] + 10 * start) / 70
        assert self.fitted().predict(TEST)["click"] == pytest.approx(rate.to_numpy())


class TestPopularityRecent(BaselineContract):
    name = "popularity-recent"

    def test_more_recent_positives_are_a_higher_score_and_nothing_else_is(self):
        order = np.argsort(self.fitted().predict(TEST)["click"], kind="stable")
        assert (np.diff(TEST.frame["item_recent_click_sum"].to_numpy()[order]) >= 0).all()


class TestLogisticCounters(BaselineContract):
    name = "logistic-counters"


class TestLightGBMCounters(BaselineContract):
    name = "lightgbm-counters"
    stops_on_validation = True

    def test_without_the_extra_the_error_says_how_to_install_it(self, monkeypatch):
        plain = builtins.__import__

        def absent(name, *args, **kwargs):
            if name == "lightgbm":
                raise ImportError(name)
            return plain(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(MissingExtraError, match=r"pip install 'recllm\[baselines\]'"):
            create("lightgbm-counters")


class TestLightGBMText(BaselineContract):
    name = "lightgbm-text"
    stops_on_validation = True


class TestSASRec(BaselineContract):
    name = "sasrec"
    predicts_duration = False
    stops_on_validation = True


class TestDIN(BaselineContract):
    name = "din"
    predicts_duration = False
    stops_on_validation = True


class TestMLPSeed(BaselineContract):
    name = "mlp-seed"
    stops_on_validation = True

    def test_it_has_the_layers_of_the_first_network(self):
        # given a profile of one number and one category of three, a context of one number and one category of two
        network = self.fitted().network
        shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters() if name.endswith("weight")}
        assert shapes == {"user.weight": (64, 4), "joint.weight": (64, 64 + 3), "out.weight": (3, 64)}

    def test_it_reads_no_counter_and_no_item(self):
        baseline = self.fitted()
        blind = TEST.frame.assign(**{c: -1.0 for c in TEST.frame if c.startswith(("item_", "user_", "category"))})
        assert (baseline.predict(TEST)["click"] == baseline.predict(type(TEST)(blind, {}, TEST.groups))["click"]).all()

    def test_it_leaves_the_callers_random_state_alone_and_depends_on_its_seed(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first = self.fitted(seed=1).predict(TEST)["click"]
        assert (torch.get_rng_state() == state).all()
        assert (first != self.fitted(seed=2).predict(TEST)["click"]).any()


def test_an_unknown_baseline_is_an_error_with_the_nearest_name():
    with pytest.raises(ConfigError, match='Did you mean "lightgbm-counters"'):
        create("lightgbm-counter")


def test_counters_are_found_by_the_longest_outcome_name():
    # given counters of `click` and of `last_click`
    columns = {f"item_{name}_{kind}": 1.0 for name in ("click", "last_click") for kind in ("n", "sum")}
    frame = VALIDATION.frame.assign(**columns)
    features = type(TEST)(frame, {}, {"item_counters": ["item_events", *columns]})
    # then neither takes the other's
    assert counters(features, ["click", "last_click"], "item_counters") == [
        Counter("click", "item_click_n", "item_click_sum"),
        Counter("last_click", "item_last_click_n", "item_last_click_sum"),
    ]
    assert counters(features, list(OUTCOMES), "user_counters") == []
