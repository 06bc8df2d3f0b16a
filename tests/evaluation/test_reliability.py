"""Reliability bins: what they hold, in plain sums."""

import numpy as np
import pandas as pd
import pytest

from recllm.evaluation.reliability import reliability
from recllm.schema import Outcome

OUTCOMES = {"click": Outcome(kind="binary"), "duration": Outcome(kind="duration", clip=60), "like": Outcome(kind="binary")}


def frame(seed, rows=600):
    log, noise = np.random.default_rng(5), np.random.default_rng(seed)
    level = log.random(rows)
    p = np.clip(level + noise.normal(size=rows) * 0.05, 0, 1)
    seconds = np.where(log.random(rows) < 0.3, np.nan, level * 100)
    return pd.DataFrame({"user": log.integers(0, 40, rows), "y_click": (log.random(rows) < level).astype(float), "p_click": p,
                         "y_duration": seconds, "p_duration": p * 100, "low_duration": p * 50, "high_duration": p * 150,
                         "y_like": np.nan, "p_like": 0.5})  # fmt: skip


def test_bins_are_of_equal_mass_in_order_and_pool_all_seeds():
    # given two seeds over the same rows
    frames = [frame(1), frame(2)]
    bins = reliability(frames, OUTCOMES, bootstrap=50)["click"]
    # then every prediction is in one bin, and their means are those of all predictions
    n = np.array([b["n"] for b in bins])
    assert n.tolist() == [80] * 15 and (np.diff([b["p"] for b in bins]) > 0).all()
    assert n @ [b["p"] for b in bins] / n.sum() == pytest.approx(np.mean([f["p_click"].mean() for f in frames]))
    assert n @ [b["y"] for b in bins] / n.sum() == pytest.approx(frames[0]["y_click"].mean())
    assert all(b["low"] <= b["y"] <= b["high"] for b in bins)


def test_durations_are_clipped_known_and_carry_their_coverage():
    bins = reliability([frame(1)], OUTCOMES, bootstrap=50)["duration"]
    known = frame(1).dropna(subset=["y_duration"])
    assert sum(b["n"] for b in bins) == len(known) and max(b["p"] for b in bins) <= 60
    inside = (known["y_duration"].clip(upper=60) >= known["low_duration"].clip(upper=60)) & (
        known["y_duration"].clip(upper=60) <= known["high_duration"].clip(upper=60))
    assert sum(b["n"] * b["covered"] for b in bins) / len(known) == pytest.approx(inside.mean())


def test_an_outcome_without_a_known_label_or_prediction_has_no_bins():
    assert set(reliability([frame(1).drop(columns="p_click")], OUTCOMES, bootstrap=10)) == {"duration"}
