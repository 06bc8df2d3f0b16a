"""Rounds are paired, their order turns, and ratios are taken within a round."""

import torch

from tests.speed.rounds import Rounds, paired, percentiles, timed


def test_every_call_warms_up_once_and_then_the_order_turns_from_round_to_round():
    ran = []

    def call(name):
        def run():
            ran.append(name)
            return 2.0, 6.0

        return run

    found = paired({name: call(name) for name in "abc"}, 3)
    assert "".join(ran) == "abc" + "abc" + "cba" + "abc"
    assert found.rates == {name: [3.0, 3.0, 3.0] for name in "abc"}


def test_the_warm_up_enters_no_rate():
    seconds = iter([100.0, 1.0, 1.0])
    assert paired({"a": lambda: (next(seconds), 5.0)}, 2).rates == {"a": [5.0, 5.0]}


def test_a_ratio_is_the_median_of_ratios_and_not_the_ratio_of_medians():
    # given a machine that was slow in the second round, for both
    found = Rounds({"ours": [100.0, 10.0, 90.0], "theirs": [10.0, 1.0, 30.0]})
    assert found.ratio("ours", "theirs") == 10.0
    assert found.rate("ours") == 90.0


def test_percentiles_are_of_what_was_measured():
    assert percentiles([float(k) for k in range(1, 101)]) == {"p50": 50.5, "p99": 100.0, "requests": 100}
    assert percentiles([3.0]) == {"p50": 3.0, "p99": 3.0, "requests": 1}


def test_timing_counts_every_repeat():
    ran = []
    assert timed(lambda: ran.append(0), torch.device("cpu"), repeats=4) > 0
    assert len(ran) == 4
