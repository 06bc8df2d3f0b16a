"""Position bias: the place is learnt beside the model, in training alone, and no score ever needs it."""

import random

import numpy as np
import pytest
import torch

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.feed.batches import load, plan
from recllm.feed.score import score
from recllm.training import checkpoint
from recllm.training.positions import DROPOUT, SPEED, PositionBias
from recllm.training.run import run_folder, train
from recllm.training.setup import TEST, TRAIN, setup
from recllm.training.tasks import Tasks
from tests.training.kills import killed_at_its_second_evaluation
from tests.training.test_training import quiet


def config_of(tmp_path, encoder, epochs=3, **schema) -> Config:
    """Lists of four items in random order, of which the first is nearly always clicked and no other: the place decides, not the item."""
    rng, lines = random.Random(0), ["user,item,ts,click,rank"]
    for user in range(6):
        for k in range(30):
            for place, item in enumerate(rng.sample(range(8), 4), start=1):
                click = int(rng.random() < (0.9 if place == 1 else 0.1))
                lines.append(f"u{user},i{item},{1_700_000_000 + k * 7_200 + user},{click},{place if k % 5 else ''}")
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    return Config.model_validate({
        "name": "places", "data": {"interactions": str(tmp_path / "log.csv"), "workers": 1, "shards": 2},
        "schema": {"user": "user", "item": "item", "time": "ts", "position": "rank", "outcomes": {"click": {"kind": "binary"}}, **schema},
        "model": {"encoder": encoder, "layers": 1, "lora_rank": 2, "stride": 20, "overlap": 20, "profile_tokens": 8, "duration_bins": 5},
        "training": {"epochs": epochs, "patience": 9, "tokens_per_batch": 256, "warmup_steps": 1}})  # fmt: skip


def test_places_near_the_top_are_apart_and_far_ones_are_together():
    bias = PositionBias()
    found = bias.bucket(torch.tensor([1, 2, 3, 4, 5, 8, 1_000, 1_001, 10**6, 10**8])).tolist()
    assert len(set(found[:4])) == 4 and found[6] == found[7] and found == sorted(found) and max(found) < len(bias.weight)


def test_an_unknown_place_has_no_bias_and_some_known_ones_are_taken_for_unknown():
    bias = PositionBias()
    torch.nn.init.ones_(bias.weight)
    place = torch.arange(1, 2_001).reshape(1, -1)
    assert (bias(torch.zeros_like(place)) == 0).all()
    assert float((bias(place) == 0).float().mean()) == pytest.approx(DROPOUT, abs=0.03)
    assert (bias.eval()(place) != 0).all()


def test_the_place_explains_in_training_and_is_absent_elsewhere(tmp_path, tiny_encoder):
    # given a run over a log in which the place decides
    config = config_of(tmp_path, tiny_encoder, epochs=6)
    prepare(config)
    made = train(config, say=quiet)
    saved = checkpoint.load_optimizer(checkpoint.newest(run_folder(config, 0)))["position.weight"]
    # then the first place has a higher bias than the others, and places that were never shown have none
    first, *others = (SPEED * float(saved[k]) for k in PositionBias().bucket(torch.tensor([1, 2, 3, 4])))
    assert first > max(others) + 0.5 and (saved[8:] == 0).all()
    # and the model holds nothing of it: its scores are the same whatever the places say
    assert not any("position." in name for name in checkpoint.trainable_state(made.model))
    before = score(made.model, made.examples(TEST), 1024, torch.device("cpu"), progress=False).raw["click"]
    made.log.frame["position"] = np.nan
    after = score(made.model, made.examples(TEST), 1024, torch.device("cpu"), progress=False).raw["click"]
    assert torch.equal(before, after)


def test_the_loss_of_a_step_reads_places_of_shown_candidates_alone(tmp_path, tiny_encoder):
    config = config_of(tmp_path, tiny_encoder)
    prepare(config)
    from recllm.feed.log import load_log

    log = load_log(config)
    ready = setup(config, log)
    examples = ready.examples(TRAIN)
    batch = load(examples, plan(examples.sizes, 512, None)[0])
    # given a batch, whose places are those of its rows; queries have none
    assert set(batch.position[batch.labels.isnan().all(-1)].tolist()) == {0} and set(batch.position.unique().tolist()) == {0, 1, 2, 3, 4}
    # then a bias moves the loss, and without the role there is nothing to learn
    tasks = Tasks(ready.model.eval(), config.columns, ready.processor, log, False, 0.0).eval()
    plain, _ = tasks(batch)
    tasks.position.weight.data[0] = 0.2
    assert not torch.equal(tasks(batch)[0], plain)
    without = config_of(tmp_path, tiny_encoder, position=None)
    assert Tasks(ready.model, without.columns, ready.processor, log, False, 0.0).position is None


def test_a_run_that_goes_on_has_the_biases_of_the_one_before(tmp_path, tiny_encoder, monkeypatch):
    config = config_of(tmp_path, tiny_encoder)
    prepare(config)
    train(config, say=quiet)
    whole = checkpoint.load_optimizer(checkpoint.newest(run_folder(config, 0)))["position.weight"]
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "other"))
    prepare(config)
    with killed_at_its_second_evaluation(monkeypatch):
        train(config, say=quiet)
    train(config, say=quiet)
    resumed = checkpoint.load_optimizer(checkpoint.newest(run_folder(config, 0)))["position.weight"]
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=1e-5)
    assert float(whole.abs().sum()) > 0
