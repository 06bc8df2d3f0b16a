"""Metrics against scikit-learn and against loops that are too slow to use but too plain to be wrong."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from recllm.evaluation import metrics
from recllm.evaluation.metrics.binary import mass_bins

# label, score in steps (many ties), group
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)
SMALL = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6)
SECONDS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)



def arrays(rows):
    y, p, group = np.array(rows).T
    return y.astype(float), p / 4, group


def same(left, right):
    return left == pytest.approx(right, abs=1e-12, nan_ok=True)


def mean_of_groups(y, p, groups, value, weigh=lambda rows: 1.0):
    """A plain loop over groups with both labels."""
    cuts = [(y[groups == g], p[groups == g]) for g in np.unique(groups)]
    cuts = [cut for cut in cuts if cut[0].min() < cut[0].max()]
    return np.average([value(*cut) for cut in cuts], weights=[weigh(cut[0]) for cut in cuts]) if cuts else np.nan


@given(ROWS)
def test_per_user_auc_equals_a_loop_over_users(rows):
    # given rows with tied scores and users of one class
    y, p, users = arrays(rows)
    # when, then: vectorised figures equal scikit-learn's of one user at a time
    assert same(metrics.uauc(y, p, users), mean_of_groups(y, p, users, roc_auc_score))
    assert same(metrics.gauc(y, p, users), mean_of_groups(y, p, users, roc_auc_score, weigh=len))


@given(ROWS)
def test_ndcg_equals_scikit_learn_request_by_request(rows):
    y, p, requests = arrays(rows)
    loop = mean_of_groups(y, p, requests, lambda y, p: ndcg_score([y], [p], k=10))
    assert same(metrics.ndcg(y, p, requests), loop)


def over_all_orders(y, p, value):
    """Mean of `value(labels from best to worst)` over all ways to break ties."""
    orders = [sorted(order, key=lambda i: -p[i]) for order in permutations(range(len(y)))]
    return np.mean([value(y[order]) for order in orders])


@settings(max_examples=40)
@given(SMALL, st.integers(1, 4))
def test_ties_count_as_the_mean_over_all_ways_to_break_them(rows, k):
    # given one request with ties
    y, p = np.array(rows, dtype=float).T
    request = np.zeros(len(y), dtype=int)
    both = y.min() < y.max()
    discount = 1 / np.log2(np.arange(2, 9))

    def gained(labels):
        return (labels[:k] * discount[: len(labels[:k])]).sum()

    # when each of the n! orders is scored
    mrr = over_all_orders(y, p, lambda labels: 1 / (1 + np.argmax(labels))) if both else np.nan
    ndcg = over_all_orders(y, p, gained) / gained(np.sort(y)[::-1]) if both else np.nan
    # then the closed forms give their mean
    assert same(metrics.mrr(y, p, request), mrr)
    assert same(metrics.ndcg(y, p, request, k), ndcg)


def test_mrr_of_a_long_tie_is_the_expected_place_of_the_first_hit():
    # given one positive among 1,000 candidates of equal score, and nine more in another request
    y = np.r_[1, np.zeros(999), 1, np.zeros(8)]
    requests = np.r_[np.zeros(1000), np.ones(9)].astype(int)
    # then each place is as likely as any other: the harmonic numbers over n
    expected = [np.mean(1 / np.arange(1, n + 1)) for n in (1000, 9)]
    assert metrics.mrr(y, np.ones(1009), requests) == pytest.approx(np.mean(expected))


@given(SECONDS, st.sampled_from([3.0, np.inf]))
def test_xauc_equals_the_loop_over_pairs(rows, clip):
    # given true and predicted seconds with ties in both
    y, p = np.array(rows, dtype=float).T
    cut_y, cut_p = np.minimum(y, clip), np.minimum(p, clip)
    # when all pairs of different true durations are looked at
    apart = np.sign(cut_y[:, None] - cut_y)
    order = np.sign(cut_p[:, None] - cut_p)
    pairs = apart != 0
    expected = np.where(order[pairs] == 0, 0.5, order[pairs] == apart[pairs]).mean() if pairs.any() else np.nan
    # then O(n log n) gives the same
    assert same(metrics.xauc(y, p, clip), expected)


@given(SECONDS, st.randoms(use_true_random=False))
def test_no_metric_depends_on_the_order_of_the_rows(rows, random):
    # given rows with ties, and the same rows shuffled
    order = np.array(random.sample(range(len(rows)), len(rows)))
    y, p = np.array(rows, dtype=float).T
    label, probability, group = (y > 3).astype(float), p / 6, (y * 7 + p).astype(int) % 4
    plain = [metrics.auc, metrics.logloss, metrics.accuracy, metrics.brier, metrics.ece]
    grouped = [metrics.gauc, metrics.uauc, metrics.ndcg, metrics.mrr]
    # then
    for metric in plain:
        assert same(metric(label, probability), metric(label[order], probability[order])), metric.__name__
    for metric in grouped:
        assert same(metric(label, probability, group), metric(label[order], probability[order], group[order])), metric.__name__
    for metric in [metrics.mae, metrics.mse, metrics.xauc]:
        assert same(metric(y, p), metric(y[order], p[order])), metric.__name__


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_calibration_bins_never_split_equal_predictions(steps):
    p = np.array(steps) / 30
    bins = mass_bins(p)
    assert bins.min() >= 0 and bins.max() < 15
    assert all(len(np.unique(bins[p == value])) == 1 for value in p)
    assert (np.diff(bins[np.argsort(p, kind="stable")]) >= 0).all()


def test_calibration_bins_hold_equal_numbers_of_rows():
    p = np.random.default_rng(0).random(300)
    assert np.bincount(mass_bins(p)).tolist() == [20] * 15


def test_ece_is_the_mean_gap_of_its_bins():
    # given two predictions, so two bins: .2 is right on average, .6 is .4 too low
    p = np.repeat([0.2, 0.6], [10, 30])
    y = np.r_[1, 1, np.zeros(8), np.ones(30)]
    # then the gap counts by rows
    assert metrics.ece(y, p) == pytest.approx(0.4 * 30 / 40)


def test_durations_are_clipped_on_both_sides():
    # given a clip of 60 s, a miss beyond it, and a miss of 10 s
    y, p = np.array([600.0, 30.0]), np.array([90.0, 40.0])
    assert metrics.mae(y, p, 60) == 5
    assert metrics.mse(y, p, 60) == 50
    assert metrics.mae(y, p) == (510 + 10) / 2
    assert metrics.coverage(y, np.array([0.0, 31.0]), np.array([60.0, 50.0]), 60) == 0.5


def test_metrics_without_rows_or_with_one_class_are_undefined():
    none, ones, group = np.zeros(0), np.ones(3), np.zeros(3, dtype=int)
    for metric in [metrics.auc, metrics.logloss, metrics.accuracy, metrics.brier, metrics.ece, metrics.mae, metrics.mse, metrics.xauc]:
        assert np.isnan(metric(none, none)), metric.__name__
    for metric in [metrics.gauc, metrics.uauc, metrics.ndcg, metrics.mrr]:
        assert np.isnan(metric(none, none, none.astype(int))), metric.__name__
        assert np.isnan(metric(ones, ones, group)), metric.__name__
    assert np.isnan(metrics.auc(ones, ones)) and np.isnan(metrics.xauc(ones, ones)) and np.isnan(metrics.coverage(none, none, none))
