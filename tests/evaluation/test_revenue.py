"""Revenue by auction against a loop over slates, and what a better predictor must earn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.evaluation.revenue import BLIND, revenue, sentence, slate_revenue

EXAMPLES = settings(max_examples=60)
SEEDS = st.integers(0, 10_000)


def slates(seed, requests=12, slate=3):
    """(user, request, bid, true p) of slates in shuffled row order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(requests * slate)
    request = np.repeat(np.arange(requests), slate)[order]
    bid = rng.lognormal(-0.7, 0.5, len(order))
    bid[rng.random(len(order)) < 0.1] = np.nan
    return request % 4, request, bid, rng.random(len(order)) * 0.9 + 0.05


@EXAMPLES
@given(SEEDS, st.sampled_from(["second", "first"]), st.sampled_from([0.0, 0.5]))
def test_revenue_equals_the_loop_over_slates(seed, payment, floor):
    # given predictions that are not the truth
    _, request, bid, p_true = slates(seed)
    p = np.random.default_rng(seed + 1).random(len(bid))
    # when each slate is sold by hand
    expected = []
    for code in np.unique(request):
        rows = sorted((i for i in np.flatnonzero(request == code) if bid[i] >= floor), key=lambda i: -bid[i] * p[i])
        if not rows:
            expected.append(0.0)
            continue
        price = bid[rows[0]]
        if payment == "second":
            price = max(floor, bid[rows[1]] * p[rows[1]] / p[rows[0]]) if len(rows) > 1 else floor
        expected.append(price * p_true[rows[0]])
    # then
    np.testing.assert_allclose(slate_revenue(request, bid, p, p_true, {"payment": payment, "floor": floor}), expected, atol=1e-12)


@EXAMPLES
@given(SEEDS)
def test_nobody_earns_more_than_the_truth_at_the_first_price(seed):
    _, request, bid, p_true = slates(seed)
    auction = {"payment": "first", "floor": 0.0}
    other = slate_revenue(request, bid, np.random.default_rng(seed + 1).random(len(bid)), p_true, auction)
    assert (other <= slate_revenue(request, bid, p_true, p_true, auction) + 1e-12).all()


def test_figures_are_ratios_to_the_context_blind_predictor_with_intervals():
    # given the truth, a blind predictor and a model of two seeds
    user, request, bid, p_true = slates(3, requests=200)
    rng = np.random.default_rng(0)
    blind, model = np.full(len(bid), 0.5), [np.clip(p_true + rng.normal(0, 0.05, len(bid)), 0.01, 0.99) for _ in range(2)]
    found = revenue(user, request, bid, p_true, {"truth": [p_true], BLIND: [blind], "mine": model}, {"payment": "first", "floor": 0.0}, 50)
    # then
    assert found["payment"] == "first" and found["requests"] == 200 and len(found["rows"]) == 6
    first = {row["model"]: row for row in found["rows"] if row["payment"] == "first"}
    assert first[BLIND]["ratio"] == pytest.approx(1) and first[BLIND]["low"] == pytest.approx(1)
    assert 1 < first["mine"]["ratio"] < first["truth"]["ratio"] and first["mine"]["seeds"] == 2
    assert first["mine"]["low"] < first["mine"]["ratio"] < first["mine"]["high"]
    assert first["mine"]["per_1000"] == pytest.approx(first["mine"]["ratio"] * first[BLIND]["per_1000"])
    said = sentence(found)
    assert "at the first price truth 1." in said and ", mine 1." in said and "; at the second price" in said
