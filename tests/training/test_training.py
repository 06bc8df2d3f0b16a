"""Training: losses against plain loops, runs that stop, resume and are reused, heads that follow the declared outcomes."""

import json

import numpy as np
import pytest
import torch

from recllm import cli
from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.errors import ConfigError, MissingExtraError, TrainingError
from recllm.feed.batches import load, plan
from recllm.model.errors_recllm import ReleaseError
from recllm.training import checkpoint
from recllm.training.loop import Trainer
from recllm.training.losses import retrieval_loss
from recllm.training.run import load_trained, run_folder, train
from recllm.training.setup import TRAIN, setup
from recllm.training.tasks import Tasks
from tests.conftest import small_log
from tests.training.kills import killed_at_its_second_evaluation


def quiet(_: str) -> None:
    return None


def changed(config: Config, **sections) -> Config:
    """The config with some keys of its sections replaced."""
    plain = config.model_dump(mode="json", by_alias=True)
    for section, values in sections.items():
        plain[section] = {**plain[section], **values}
    return Config.model_validate(plain)


def test_a_run_learns_keeps_the_best_and_is_reused(tiny):
    config = changed(tiny, training={"epochs": 3, "patience": 5})
    said = []
    made = train(config, say=said.append)
    folder = run_folder(config, 0)
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    assert len(evaluations) == 3 and evaluations[-1]["train"]["duration"] < evaluations[0]["train"]["duration"]
    best = checkpoint.position(folder / "best")
    totals = [sum(e["validation"].values()) for e in evaluations]
    assert best["finished"] and best["best_step"] == evaluations[int(np.argmin(totals))]["step"]
    # when it is asked for again, it is taken as it is; and loading gives the same weights
    again = train(config, say=said.append)
    assert "is trained" in said[-1]
    other = load_trained(config)
    for name, value in checkpoint.trainable_state(made.model).items():
        assert torch.equal(value, checkpoint.trainable_state(again.model)[name])
        assert torch.equal(value, checkpoint.trainable_state(other.model)[name])


def test_an_interrupted_run_goes_on_and_ends_as_an_uninterrupted_one(tiny, monkeypatch, tmp_path):
    config = changed(tiny, training={"epochs": 3, "patience": 9})
    whole = train(config, say=quiet)
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "other"))
    prepare(config)
    with killed_at_its_second_evaluation(monkeypatch):
        train(config, say=quiet)
    assert checkpoint.position(checkpoint.newest(run_folder(config, 0)))["epoch"] == 1
    resumed = train(config, say=quiet)
    expected = checkpoint.trainable_state(whole.model)
    for name, value in checkpoint.trainable_state(resumed.model).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)


def test_the_budget_ends_a_run_with_one_evaluated_checkpoint(tiny):
    config = changed(tiny, training={"minutes": 1e-6, "epochs": 50})
    train(config, say=quiet)
    assert len(checkpoint.position(run_folder(config, 0) / "best")["history"]) == 1


def test_other_settings_are_refused_by_what_differs(tiny, monkeypatch):
    with pytest.raises(TrainingError, match="found none: run scripts/train.py"):
        load_trained(tiny)
    train(changed(tiny, training={"epochs": 1}), say=quiet)
    other = changed(tiny, training={"epochs": 2}, model={"dropout": 0.2})
    with pytest.raises(TrainingError, match=r"other data or settings \(model.dropout is 0.2 here and 0.1 in the run; train"):
        load_trained(other)
    with pytest.raises(TrainingError, match="a finished run .*training.epochs is 2 here and 1 in the run.*pass --again to replace it"):
        train(other, say=quiet)
    # what no weight depends on may differ
    assert load_trained(changed(tiny, training={"epochs": 1, "keep_checkpoints": 5, "spike": None})).log
    # and checkpoints of an unfinished run are not thrown away in silence either
    with killed_at_its_second_evaluation(monkeypatch):
        train(changed(tiny, training={"epochs": 3}), again=True, say=quiet)
    with pytest.raises(TrainingError, match="holds checkpoints of a run of other .*training.epochs is 2 here and 3 in the run"):
        train(changed(tiny, training={"epochs": 2}), say=quiet)


def test_a_run_folder_says_everything(tiny):
    train(changed(tiny, training={"epochs": 2}), say=quiet)
    folder = run_folder(tiny, 0)
    about = json.loads((folder / "run.json").read_text())
    assert about["versions"]["torch"] == torch.__version__ and len(about["data"]) > 10 and about["config"]["training"]["epochs"] == 2
    assert set(about) == {"seed", "processes", "device", "commit", "versions", "data", "origin", "config"}
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["evaluation", "evaluation", "calibration"] and not any("seconds" in line for line in lines)
    timings = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in timings] == ["started", "evaluation", "evaluation", "finished"]


def test_sigterm_ends_with_a_checkpoint_and_its_own_status(tiny, monkeypatch):
    import os
    import signal

    from recllm.errors import StoppedTrainingError

    config = changed(tiny, training={"epochs": 2, "tokens_per_batch": 256})
    step = Trainer._step

    def asked(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        step(self, *args)

    monkeypatch.setattr(Trainer, "_step", asked)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedTrainingError, match="stopped by SIGTERM, a checkpoint is written: the same command goes on") as error:
        train(config, say=quiet)
    assert error.value.status == 143 and signal.getsignal(signal.SIGTERM) is before
    assert checkpoint.position(checkpoint.newest(run_folder(config, 0)))["step"] == 1
    assert cli.main(["train", "nowhere.yaml"]) == 2


def test_two_runs_do_not_write_one_folder(tiny, monkeypatch):
    from recllm.training import folder

    monkeypatch.setattr(folder, "PATIENCE", 0.3)
    with folder.alone(run_folder(tiny, 0)), pytest.raises(TrainingError, match="found a training at work in it"):
        train(tiny, say=quiet)


def test_a_launch_with_fewer_processes_than_asked_is_refused(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="expected WORLD_SIZE=2 processes, found 1"):
        train(tiny, say=quiet)


def test_heads_follow_the_declared_outcomes(shop, tiny_encoder):
    model = {"encoder": tiny_encoder, "layers": 1, "lora_rank": 2, "stride": 20, "overlap": 20, "profile_tokens": 8, "duration_bins": 5}
    two = {"click": {"kind": "binary"}, "duration": {"kind": "duration"}}
    four = {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click"},
            "like": {"kind": "binary", "column": "temperature", "at_least": 5}, "duration": {"kind": "duration", "unit": "ms"}}  # fmt: skip
    for outcomes in (two, four):
        config = shop(small_log(), schema={"outcomes": outcomes, "context": ["device", "place"]}, split={"validation": 0.2, "test": 0.2})
        config = changed(config, model=model, training={"epochs": 1})
        prepare(config)
        made = train(config, again=True, say=quiet)
        binary = [n for n, o in outcomes.items() if o["kind"] == "binary"]
        assert sorted(made.model.heads.binary) == sorted(made.model.heads.logits) == sorted(binary)
        out = made.model(**load(made.examples(TRAIN), np.array([0])).inputs)
        assert set(out) == {*binary, "duration_logits", "query", "content"}


def test_a_tracker_that_is_not_installed_is_named(tiny, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "trackio", None)
    for name in ("tensorboard", "trackio"):
        with pytest.raises(MissingExtraError, match=rf"{name} is not installed: pip install 'recllm\[{name}\]'"):
            train(changed(tiny, training={"trackers": [name]}), say=quiet)


def test_an_encoder_that_is_not_there_or_too_short_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match="expected an encoder at"):
        train(changed(tiny, model={"encoder": str(tmp_path / "nowhere")}), say=quiet)
    with pytest.raises(ReleaseError, match="expected room for 217 positions"):
        train(changed(tiny, model={"stride": 100, "overlap": 100}), say=quiet)


def test_retrieval_loss_equals_a_plain_loop(made):
    examples = made.examples(TRAIN)
    batch = load(examples, np.array([0, 1, 2]))
    tasks = Tasks(made.model, made.config.columns, made.processor, made.log, False, 0.1)
    with torch.no_grad():
        scale = float(made.model.query_scale.exp())
        out = made.model(**batch.inputs)
        rows = batch.inputs["item_row"]
        click = batch.labels[..., 0]
        total, count = retrieval_loss(out, batch, made.model.query_scale, click, tasks.log_q[rows], tasks.published[rows])
    unit = torch.nn.functional.normalize
    item, kind = (batch.inputs[name][-len(click) :] for name in ("item", "kind"))
    scored = {int(i) for g in range(3) for i in examples.groups[g].item}
    expected, seen = 0.0, 0
    for c in np.flatnonzero(click == 1):
        request, example = batch.request[c], batch.example[c]
        q = next(k for k in range(len(click)) if batch.request[k] == request and batch.example[k] == example and kind[k] == 2)
        clicked, own, logits = set(item[(batch.request == request) & (click == 1)].tolist()), int(item[c]), {}
        for u in range(1, len(rows)):
            if u != own and (u in clicked or int(rows[u]) not in scored or tasks.published[rows[u]] > batch.time[q]):
                continue
            cosine = unit(out["query"][q], dim=0) @ unit(out["content"][u], dim=0)
            logits[u] = float(cosine * scale - tasks.log_q[rows[u]])
        expected += float(torch.logsumexp(torch.tensor(list(logits.values())), 0)) - logits[own]
        seen += 1
    assert count == seen > 5
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_the_loss_of_a_global_batch_is_the_sum_of_its_shares(made):
    """Two processes' shares add up to what one process computes: labels are divided by the global number."""
    examples = made.examples(TRAIN)
    tasks = Tasks(made.model, made.config.columns, made.processor, made.log, False, 0.1).eval()
    batch = max(plan(examples.sizes, 600, [0, 0]), key=len)
    with torch.no_grad():
        whole = tasks(load(examples, batch))[0]
        shares = [tasks(load(examples, batch, rank, 2))[0] for rank in (0, 1)]
    assert float(sum(shares)) == pytest.approx(float(whole), rel=1e-5)


def test_a_given_outcome_is_never_likelier_than_its_condition(made):
    from recllm.feed.score import score

    scores = score(made.model, made.examples(TRAIN), 4_000, torch.device("cpu"))
    with torch.inference_mode():
        found = made.model.heads.predictions(scores.raw, "duration")
    assert (found["purchase"] <= found["click"]).all()
    assert (found["duration_low"] <= found["duration_median"]).all() and (found["duration_median"] <= found["duration_high"]).all()


def test_setup_depends_on_the_seed_alone(tiny):
    from recllm.feed.log import load_log

    first, second = (setup(tiny, load_log(tiny), 3) for _ in range(2))
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
