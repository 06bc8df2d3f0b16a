"""Intervals over users: the fast forms equal a real resample of rows, and the intervals hold the truth as often as they say."""

import numpy as np
import pytest

from recllm.evaluation import metrics
from recllm.evaluation.bootstrap import Mean, interval, user_weights
from recllm.evaluation.evaluator import BINARY, COVERAGE, DURATION, Rows

ALL = BINARY | DURATION | COVERAGE
FIXED_BINS, FIRST_ORDER = {"ece"}, {"xauc"}


def rows_of(name, users=25, seed=0):
    """Rows of users of unequal activity and taste, tied scores, two to three requests a user; some users have one class."""
    generator = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), generator.integers(1, 12, users))
    request = user * 3 + generator.integers(0, 3, len(user))
    taste = generator.normal(size=users)[user] + generator.normal(size=len(user))
    p = np.round(1 / (1 + np.exp(-taste + generator.normal(size=len(user)))), 1)
    if name in BINARY:
        return Rows((taste > 0.3).astype(float), p, user, request, users)
    y = np.round(np.exp(taste) * 10)
    return Rows(y, np.round(p * 30), user, request, users, y * 0 + 3, p * 40)


def repeated(rows, times):
    """A real resample: a user drawn k times is k users with k copies of the rows and requests."""
    copies = [(index, copy) for index in range(len(rows.y)) for copy in range(int(times[rows.user[index]]))]
    index, copy = np.array(copies).T
    many = int(times.max()) + 1
    cut = rows.take(index)
    return Rows(cut.y, cut.p, cut.user * many + copy, cut.request * many + copy, rows.users * many, cut.low, cut.high)


@pytest.mark.parametrize("name", ALL)
def test_every_user_once_gives_the_metric_itself(name):
    rows = rows_of(name)
    value = ALL[name].statistic(rows).resample(np.ones((1, rows.users)))
    assert value == pytest.approx([ALL[name].point(rows)], abs=1e-6)


@pytest.mark.parametrize("name", sorted(set(ALL) - FIXED_BINS - FIRST_ORDER))
def test_multiplicities_give_what_resampled_rows_give(name):
    # given twenty draws of users
    rows = rows_of(name)
    weights = user_weights(rows.users, 20, seed=1)
    # when the metric is taken from multiplicities, and from rows that were really copied
    fast = ALL[name].statistic(rows).resample(weights)
    slow = [ALL[name].point(repeated(rows, times)) for times in weights]
    # then they are the same
    assert fast == pytest.approx(slow, abs=1e-6)


def test_first_order_xauc_gives_the_interval_of_resampled_rows():
    # given 60 users, where the neglected term is not yet small
    rows = rows_of("xauc", users=60)
    weights = user_weights(rows.users, 300, seed=1)
    # when, then
    fast = interval(DURATION["xauc"].statistic(rows).resample(weights))
    slow = interval(np.array([metrics.xauc(cut.y, cut.p) for cut in (repeated(rows, times) for times in weights)]))
    assert fast == pytest.approx(slow, abs=0.01)


def test_draws_are_seeded_and_as_many_as_users():
    weights = user_weights(30, 5, seed=3)
    assert (weights == user_weights(30, 5, seed=3)).all()
    assert (weights != user_weights(30, 5, seed=4)).any()
    assert weights.sum(axis=1).tolist() == [30] * 5


def test_rounds_without_a_value_are_left_out():
    # given a metric that is defined on user 0 alone
    mean = Mean(np.array([0.5, 0.0]), np.array([1.0, 0.0]))
    values = mean.resample(np.array([[1.0, 1.0], [0.0, 2.0]]))
    # then the round that drew user 1 twice says nothing
    assert np.isnan(values[1]) and interval(values) == (0.5, 0.5)
    assert np.isnan(interval(values[1:])).all()


def test_an_interval_over_users_holds_the_truth_about_as_often_as_it_says():
    # given 150 logs of 80 users with 20 rows each that share the user's own level, mean 0: rows are far from independent
    held, held_by_rows = 0, 0
    weights = user_weights(80, 200, seed=0)
    user = np.repeat(np.arange(80), 20)
    for seed in range(150):
        generator = np.random.default_rng(seed)
        values = generator.normal(size=80)[user] + generator.normal(size=1600)
        low, high = interval(Mean.of(user, values, 80).resample(weights))
        held += low <= 0 <= high
        error = 1.96 * values.std() / np.sqrt(len(values))
        held_by_rows += abs(values.mean()) <= error
    # then 95% intervals over users hold it in 88 to 99% of the logs, and intervals over rows would not
    assert 0.88 <= held / 150 <= 0.99
    assert held_by_rows / 150 < 0.7
