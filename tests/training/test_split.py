"""A global batch is split over processes: every example once, evenly, the same for all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.feed.split import imbalance, shares
from tests.training.processes import typical_sizes


@settings(max_examples=200)
@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 9))
def test_every_example_is_in_exactly_one_share(tokens, ranks):
    tokens = np.array(tokens, dtype=np.int64)
    found = shares(tokens, ranks)
    assert len(found) == ranks and sorted(np.concatenate(found).tolist()) == list(range(len(tokens)))
    # and no share is fuller than the emptiest by more than one example
    totals = [int(tokens[places].sum()) for places in found]
    assert max(totals) - min(totals) <= max(tokens, default=0)


def test_equal_examples_are_dealt_evenly():
    assert [len(s) for s in shares(np.full(10, 7), 4)] == [3, 3, 2, 2]


def test_two_examples_leave_two_of_four_without():
    assert sorted(len(s) for s in shares(np.array([5, 9]), 4)) == [0, 0, 1, 1] and len(shares(np.zeros(0, dtype=np.int64), 2)[1]) == 0


@pytest.mark.parametrize("ranks", [2, 4])
def test_batches_in_random_order_of_a_budget_for_each_process_are_even_to_five_percent(ranks):
    # given windows of all lengths in random order, a global budget of 1,536 tokens a process
    tokens = typical_sizes().sum(1) + 32
    order, found, begin = np.random.default_rng(0).permutation(len(tokens)), [], 0
    while begin < len(order):
        end = begin + int(np.searchsorted(np.cumsum(tokens[order[begin:]]), 1_536 * ranks, side="right"))
        batch = tokens[order[begin : max(end, begin + 1)]]
        found.append(imbalance(batch, shares(batch, ranks)))
        begin = max(end, begin + 1)
    # then
    assert np.percentile(found[:-1], 95) < 0.05
