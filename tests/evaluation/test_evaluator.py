"""The rows of figures: what is in them, what is left out, and errors that say what does not fit."""

import numpy as np
import pandas as pd
import pytest

from recllm.errors import DataError
from recllm.evaluation import metrics
from recllm.evaluation.evaluator import COLUMNS, evaluate
from recllm.schema import Outcome

OUTCOMES = {
    "click": Outcome(kind="binary"),
    "purchase": Outcome(kind="binary", given="click"),
    "duration": Outcome(kind="duration", clip=60),
}


def predictions(seed=0, rows=400, users=20):
    """A log that does not depend on `seed`, and predictions that do."""
    log, noise = np.random.default_rng(99), np.random.default_rng(seed)
    level = log.random(rows)
    click = (log.random(rows) < level).astype(float)
    seconds = np.where(log.random(rows) < 0.5, np.nan, level * 100)
    guess = np.clip(level + noise.normal(size=rows) * 0.1, 0.01, 0.99)
    user = log.integers(0, users, rows)
    return pd.DataFrame({
        "user": [f"u{u}" for u in user], "request": log.integers(0, 4, rows),  # the same few codes for every user
        "y_click": click, "p_click": guess,
        "y_purchase": np.where(log.random(rows) < 0.1, np.nan, click * (level > 0.8)), "p_purchase": guess / 2,
        "y_duration": seconds, "p_duration": guess * 100, "low_duration": guess * 50, "high_duration": guess * 150,
        "slice_device": np.where(np.arange(rows) % 8 == 0, "tv", "mobile"),
    })  # fmt: skip


def run(frames, **options):
    settings = {"model": "test", "counters": "fresh", "bootstrap": 50, "min_slice": 100} | options
    return evaluate(frames, OUTCOMES, **settings)


def figure(figures, task, metric, part="all"):
    return next((f for f in figures if (f["task"], f["metric"], f["slice"]) == (task, metric, part)), None)


def test_every_figure_has_the_same_keys_and_finite_ordered_numbers():
    # given three training seeds
    figures = run([predictions(seed) for seed in range(3)])
    # then
    for row in figures:
        assert list(row) == COLUMNS
        assert np.isfinite([row["mean"], row["low"], row["high"]]).all() and row["low"] <= row["high"]
        assert (row["model"], row["counters"], row["seeds"]) == ("test", "fresh", 3)
        assert type(row["mean"]) is type(row["low"]) is float and type(row["n"]) is int
    binary = {"auc", "gauc", "uauc", "logloss", "accuracy", "brier", "ece", "ndcg@10", "mrr"}
    assert {f["metric"] for f in figures if f["task"] == "click"} == binary
    assert {f["metric"] for f in figures if f["task"] == "duration"} == {"mae", "mse", "xauc", "coverage"}


def test_figures_are_means_over_seeds_of_the_plain_metrics_on_known_rows():
    # given two seeds, unknown durations, and purchases that are given click
    frames = [predictions(0), predictions(1)]
    figures = run(frames)
    known = frames[0]["y_purchase"].notna()
    # then a conditional outcome counts all rows with a known label, clicked or not
    purchase = figure(figures, "purchase", "auc")
    assert purchase["n"] == known.sum()
    assert purchase["mean"] == pytest.approx(np.mean([metrics.auc(f["y_purchase"][known], f["p_purchase"][known]) for f in frames]))
    assert purchase["low"] < purchase["mean"] < purchase["high"]
    # and durations are clipped at the outcome's clip
    known = frames[0]["y_duration"].notna()
    mae = np.mean([metrics.mae(f["y_duration"][known], f["p_duration"][known], 60) for f in frames])
    assert figure(figures, "duration", "mae")["mean"] == pytest.approx(mae)


def test_a_request_belongs_to_its_user():
    # given request codes that repeat over users
    frame = predictions()
    pairs = pd.factorize(frame["user"] + "/" + frame["request"].astype(str))[0]
    # then two users' request 0 are two requests
    expected = metrics.ndcg(frame["y_click"].to_numpy(), frame["p_click"].to_numpy(), pairs)
    assert figure(run([frame]), "click", "ndcg@10")["mean"] == pytest.approx(expected)


def test_slices_are_named_and_small_ones_are_left_out():
    # given 350 rows of mobile and 50 of tv
    figures = run([predictions()])
    assert {f["slice"] for f in figures} == {"all", "device=mobile"}
    assert figure(figures, "click", "auc", "device=mobile")["n"] == 350
    # and a threshold counts rows with a known label: about half of the durations are
    assert {f["slice"] for f in run([predictions()], min_slice=300) if f["task"] == "duration"} == {"all"}
    assert {f["slice"] for f in run([predictions()], min_slice=20)} == {"all", "device=mobile", "device=tv"}


def test_missing_slice_values_are_a_slice_of_their_own():
    frame = predictions()
    frame["slice_device"] = frame["slice_device"].where(frame["slice_device"] != "mobile", None)
    assert figure(run([frame]), "click", "auc", "device=unknown")["n"] == 350


def test_undefined_metrics_and_unpredicted_outcomes_are_left_out():
    # given a log in which nothing was bought, and a model without durations
    frame = predictions().drop(columns=["p_duration", "low_duration", "high_duration"])
    frame["y_purchase"] = 0.0
    figures = run([frame])
    # then what needs both classes is absent, and what does not is there
    assert {f["metric"] for f in figures if f["task"] == "purchase"} == {"logloss", "accuracy", "brier", "ece"}
    assert not [f for f in figures if f["task"] == "duration"]
    # and an outcome without a known label has no figure at all
    assert not [f for f in run([frame.assign(y_click=np.nan)]) if f["task"] == "click"]


def test_without_interval_columns_there_is_no_coverage():
    figures = run([predictions().drop(columns=["low_duration", "high_duration"])])
    assert figure(figures, "duration", "coverage") is None and figure(figures, "duration", "mae")


def test_the_same_seed_gives_the_same_intervals():
    assert run([predictions()], seed=1) == run([predictions()], seed=1)
    assert run([predictions()], seed=1) != run([predictions()], seed=2)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "at least one frame"),
        ([predictions().iloc[:0]], "at least one frame"),
        ([predictions().drop(columns="user")], r"lack the columns \['user'\]"),
        ([predictions().drop(columns="y_click")], r"lack the columns \['y_click'\]"),
        ([predictions().drop(columns="high_duration")], r"lack the columns \['high_duration'\]"),
        ([predictions().assign(p_clicks=0.5)], 'Did you mean "p_click"'),
        ([predictions(), predictions().iloc[::-1]], "same rows in all seeds"),
        ([predictions().assign(p_click=np.nan)], 'probabilities in "p_click" of seed 0, found nan'),
        ([predictions(), predictions().assign(p_click=1.5)], "of seed 1, found 1.5"),
    ],
)
def test_frames_that_do_not_fit_are_errors_that_say_why(frames, message):
    with pytest.raises(DataError, match=message):
        run(frames)
