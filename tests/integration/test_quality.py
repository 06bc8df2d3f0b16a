"""One small real training with the packaged MiniLM: a floor under its quality, and no signal where there is none."""

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from recllm.config import load_config
from recllm.data.prepare import prepare
from recllm.data.simulate import simulate
from recllm.feed.score import score
from recllm.training.run import train
from recllm.training.setup import TEST

FLOOR = 0.70
SIZE = {"users": 150, "items": 120, "requests_per_user": 30}


def trained_auc(config) -> float:
    made = train(config, say=lambda _: None)
    scores = score(made.model, made.examples(TEST), 8_000, torch.device("cpu"))
    with torch.inference_mode():
        p = made.model.heads.predictions(scores.raw, "duration")["click"]
    return float(roc_auc_score(scores.labels[:, 0], p))


@pytest.fixture
def config(tmp_path, monkeypatch):
    """configs/ads.yaml over a small simulated log that has been written already."""
    monkeypatch.setenv("RECLLM_CACHE", str(tmp_path))
    simulate(tmp_path / "ads", **SIZE)
    small = ["data.format=auto", "data.workers=1", "training.epochs=4", "training.tokens_per_batch=512", "model.layers=2"]
    return load_config("configs/ads.yaml", small)


def test_a_small_real_training_reaches_the_floor(config):
    prepare(config)
    assert trained_auc(config) > FLOOR


def test_shuffled_labels_leave_nothing_to_learn(config, tmp_path):
    path = tmp_path / "ads" / "interactions.csv"
    log = pd.read_csv(path, dtype=str)
    outcomes = ["click", "purchase", "duration"]
    log[outcomes] = log[outcomes].sample(frac=1, random_state=0).to_numpy()
    log.to_csv(path, index=False)
    prepare(config)
    one_epoch = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 1})})
    assert trained_auc(one_epoch) == pytest.approx(0.5, abs=0.06)

