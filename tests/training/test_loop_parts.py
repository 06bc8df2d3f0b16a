"""The parts of the loop: the prefetching thread, accumulation and layers computed again, guards, checkpoints on a failing disk."""

import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recllm.errors import StoppedTrainingError, TrainingError
from recllm.feed import prefetch as prefetching
from recllm.feed.batches import load, plan
from recllm.feed.prefetch import prefetch
from recllm.training import checkpoint, loop, run
from recllm.training.guards import accelerator_for, check_step, memory
from recllm.training.loop import Trainer
from recllm.training.progress import FEWEST, Progress, pauses
from recllm.training.setup import setup
from recllm.training.step import Step, optimizer_for
from recllm.training.tasks import Tasks
from tests.conftest import stir
from tests.training.test_training import changed

# ---- prefetch


def names() -> list[str]:
    return [t.name for t in threading.enumerate()]


def test_batches_come_in_order_one_ahead_and_no_further():
    made = []

    def make(k):
        made.append(k)
        return k * k

    found = prefetch(make, range(6))
    assert next(found) == 0
    time.sleep(0.3)  # one lies ready, and one waits for room
    assert len(made) <= 3
    assert list(found) == [1, 4, 9, 16, 25] and "prefetch" not in names()


def test_an_error_is_raised_where_its_batch_was_due():
    found = prefetch(lambda k: 10 // k, [5, 2, 0, 1])
    assert [next(found), next(found)] == [2, 5]
    with pytest.raises(ZeroDivisionError):
        next(found)
    assert "prefetch" not in names()


def test_the_thread_ends_when_nobody_reads_any_more():
    found = prefetch(lambda k: k, range(1_000))
    assert next(found) == 0 and "prefetch" in names()
    found.close()
    assert "prefetch" not in names() and prefetching.LOOK < 1


# ---- a step


def gradients(made, accumulation=1, again=False, dropout=False):
    """Gradients of one global batch of a stirred model, by name."""
    made.model.zero_grad()
    config = changed(made.config, training={"accumulation": accumulation, "gradient_checkpointing": again})
    if again:
        made.model.body.activation_checkpointing_enable({"use_reentrant": False})
    tasks = Tasks(made.model, config.columns, made.processor, made.log, True, 0.1).train(dropout)
    made.model.body.train()  # layers are computed again in training alone
    for module in made.model.body.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
            module.p = 0.0
    examples = made.trained()
    batch = max(plan(examples.sizes, 600, [0, 0]), key=len)
    step = Step(tasks, config.training, accelerator_for(), 0)
    losses, norm, stop = step.gradients([load(examples, batch, k, accumulation) for k in range(accumulation)], 3, False)
    found = {n: p.grad.clone() for n, p in tasks.named_parameters() if p.requires_grad}
    if again:
        made.model.body.activation_checkpointing_disable()
    assert not stop and np.isfinite(norm)
    return losses, found


def same(one, two, **tolerance):
    assert set(one[1]) == set(two[1])
    torch.testing.assert_close(torch.tensor(two[0]), torch.tensor(one[0]), **tolerance)
    for name, value in one[1].items():
        torch.testing.assert_close(two[1][name], value, **tolerance)


@pytest.fixture
def fresh(tiny):
    from recllm.feed.log import load_log

    made = setup(tiny, load_log(tiny))
    stir(made.model)
    return made


def test_a_batch_in_three_parts_is_the_batch(fresh):
    # learned weights of the losses among them: they are no sum over labels
    same(gradients(fresh), gradients(fresh, accumulation=3), atol=1e-6, rtol=1e-4)


def test_layers_computed_again_give_the_same_gradients(fresh):
    plain = gradients(fresh, dropout=True)
    assert sum(float(v.abs().sum()) for n, v in plain[1].items() if "lora_" in n) > 0
    same(plain, gradients(fresh, again=True, dropout=True), atol=1e-7, rtol=1e-6)


def test_threads_add_up_in_one_order(fresh, tmp_path):
    # given so many rows for one item that two threads share the work of its slope
    rows, slope = torch.arange(40_000) % 7, torch.randn(40_000, 64)
    seen, threads, before = [], torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def once(_) -> None:
        table = torch.zeros(7, 64, requires_grad=True)
        table[rows].backward(slope)
        seen.append(table.grad)

    torch.set_num_threads(2)
    try:
        # when that happens again and again within a run
        Trainer(fresh, tmp_path / "run", 0, watch=lambda record: [once(k) for k in range(20)]).run()
    finally:
        torch.set_num_threads(threads)
    # then it is the same to the last bit, and nothing is left switched on
    assert len(seen) >= 20 and all(torch.equal(seen[0], other) for other in seen)
    assert torch.are_deterministic_algorithms_enabled() == before


def test_a_step_of_the_fused_optimizer_is_told_of(fresh, tmp_path, monkeypatch):
    """It writes past autograd: what was made of the weights would be stale."""
    monkeypatch.setattr(loop, "optimizer_for", lambda tasks, settings, fused: optimizer_for(tasks, settings, fused=True))
    trainer = Trainer(fresh, tmp_path / "run", 0)
    trainer.folder.mkdir()
    before, batch = fresh.model.version(), np.arange(2)
    trainer._step(batch, trainer._shares(batch), 0.5)
    assert fresh.model.version() != before


def test_bf16_trains_near_float32_and_ends_in_float32(tiny, monkeypatch, tmp_path):
    from recllm.training.run import train

    config = changed(tiny, training={"precision": "bf16", "epochs": 1})
    made = train(config, say=lambda _: None)
    assert not hasattr(made.model, "_original_forward") and made.model.heads.scale.dtype == torch.float32
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "float32"))
    from recllm.data.prepare import prepare

    plain = changed(tiny, training={"epochs": 1})
    prepare(plain)
    other = train(plain, say=lambda _: None)
    near = [(made.model.state_dict()[n] - v).abs().max() for n, v in other.model.state_dict().items() if v.is_floating_point()]
    assert 0 < float(max(near)) < 0.05


def test_evaluations_fall_within_and_at_the_end_of_an_epoch():
    assert pauses(10, 1) == {10} and pauses(10, 3) == {3, 7, 10} and pauses(1, 4) == {1}


# ---- guards


class Groups:
    groups = [type("Group", (), {"row": np.array([row, row + 100])}) for row in range(5)]


@pytest.mark.parametrize(("losses", "norm", "words"), [([float("nan"), 1.0], 1.0, "a loss of nan"), ([1.0], float("inf"), "norm inf"),
                                                      ([30.0], 1.0, "10.0 times the median of 2")])  # fmt: skip
def test_a_broken_step_stops_with_its_rows(tmp_path, losses, norm, words):
    progress = Progress(step=40, recent=[2.0] * FEWEST)
    with pytest.raises(TrainingError, match=words) as error:
        check_step(tmp_path, losses, norm, progress, 10.0, Groups, np.array([3, 1]))
    assert "step 40" in str(error.value) and "(1, 3, 101, 103)" in str(error.value) and "training.learning_rate" in str(error.value)
    assert json.loads((tmp_path / "broken-step.json").read_text())["rows"] == [1, 3, 101, 103]


def test_an_ordinary_step_or_a_spike_that_may_pass_goes_on(tmp_path):
    progress = Progress(recent=[2.0] * FEWEST)
    check_step(tmp_path, [19.0], 50.0, progress, 10.0, Groups, np.array([0]))
    check_step(tmp_path, [300.0], 50.0, progress, None, Groups, np.array([0]))
    check_step(tmp_path, [300.0], 50.0, Progress(recent=[2.0] * 3), 10.0, Groups, np.array([0]))  # too early to say
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
                                   torch.OutOfMemoryError("CUDA out of memory")])  # fmt: skip
def test_too_little_memory_says_which_settings_ask_for_less(tiny, error):
    with pytest.raises(TrainingError, match=r"training.accumulation \(now 1.*gradient_checkpointing=true.*tokens_per_batch \(now 1024"):
        with memory(tiny.training):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), memory(tiny.training):
        raise RuntimeError("shapes differ")


# ---- checkpoints


@pytest.fixture
def trainer(fresh, tmp_path):
    made = Trainer(fresh, tmp_path / "run", 0)
    made.folder.mkdir()
    return made


def saved(trainer) -> list[str]:
    return sorted(p.name for p in (trainer.folder / checkpoint.FOLDER).iterdir())


def test_the_last_two_and_the_best_are_kept(trainer):
    trainer.progress.best_name = checkpoint.name_of(2, 0)
    for step in range(1, 7):
        trainer.progress.step = step
        trainer._save()
    assert saved(trainer) == [checkpoint.name_of(s, 0) for s in (2, 5, 6)]
    size = sum(p.stat().st_size for p in (trainer.folder / checkpoint.FOLDER / saved(trainer)[0]).iterdir())
    assert size < 4 * sum(v.numel() * 4 for v in checkpoint.trainable_state(trainer.setup.model).values()) + 200_000  # no frozen weights


def test_the_best_that_an_older_one_goes_by_is_kept_too(trainer):
    # given a run whose best was step 3 until step 5
    for step, best in ((1, None), (2, None), (3, 3), (4, 3), (5, 5)):
        trainer.progress.step, trainer.progress.best_name = step, best and checkpoint.name_of(best, 0)
        trainer._save()
    assert saved(trainer) == [checkpoint.name_of(s, 0) for s in (3, 4, 5)]
    # when the newest is damaged
    (trainer.folder / checkpoint.FOLDER / checkpoint.name_of(5, 0) / checkpoint.OPTIMIZER).unlink()
    # then the one before it is a place to go on from, not step 0
    assert checkpoint.newest(trainer.folder, lambda _: None).name == checkpoint.name_of(4, 0)
    # and the next one drops what nobody needs
    trainer.progress.step, trainer.progress.best_name = 6, checkpoint.name_of(6, 0)
    (trainer.folder / checkpoint.FOLDER / checkpoint.name_of(4, 0) / checkpoint.POSITION).write_text("{")
    trainer._save()
    assert saved(trainer) == [checkpoint.name_of(s, 0) for s in (4, 6)]


@pytest.mark.parametrize("how", ["cut", "flipped", "missing", "manifest"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(trainer, how):
    for step in (1, 2):
        trainer.progress.step = step
        trainer._save()
    last = trainer.folder / checkpoint.FOLDER / saved(trainer)[-1]
    weights = last / checkpoint.WEIGHTS
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif how == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif how == "missing":
        (last / checkpoint.OPTIMIZER).unlink()
    else:
        (last / checkpoint.MANIFEST).write_text("{")
    said = []
    assert checkpoint.newest(trainer.folder, said.append).name == checkpoint.name_of(1, 0)
    assert f"{last}: expected a whole checkpoint" in said[0] and not last.exists()


def test_a_checkpoint_whose_best_is_gone_is_no_place_to_go_on_from(trainer):
    for step in (1, 2, 3):
        trainer.progress.step, trainer.progress.best_name = step, None if step == 1 else checkpoint.name_of(2, 0)
        trainer.settings.__dict__["keep_checkpoints"] = 3
        trainer._save()
    (trainer.folder / checkpoint.FOLDER / checkpoint.name_of(2, 0) / checkpoint.WEIGHTS).unlink()
    assert checkpoint.newest(trainer.folder, lambda _: None).name == checkpoint.name_of(1, 0)


def test_a_full_disk_leaves_the_checkpoint_of_before_and_no_part(trainer, monkeypatch):
    trainer.progress.step = 1
    trainer._save()

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "flush", full)
    trainer.progress.step = 2
    with pytest.raises(TrainingError, match="expected room for a checkpoint of .* MB, found No space left .* the same command goes on"):
        trainer._save()
    assert saved(trainer) == [checkpoint.name_of(1, 0)]
    monkeypatch.undo()
    trainer._save()
    assert saved(trainer) == [checkpoint.name_of(1, 0), checkpoint.name_of(2, 0)]


@pytest.mark.parametrize("name", ["the prepared log", "model, training and --init-from"])
def test_machines_that_were_given_different_logs_or_settings_are_told_apart(tiny, monkeypatch, name):
    # given three processes, of which the last reads another machine's files
    def gathered(mine):
        return [mine[0], mine[0], {**mine[0], name: "0" * 64}]

    monkeypatch.setattr(run, "gather_object", gathered)
    with pytest.raises(TrainingError, match=f"process 2: expected {name} of the first process .*, found 000000000000: give every machine"):
        run._check_alike(tiny, "", SimpleNamespace(num_processes=3))


def test_a_stopped_run_that_began_anew_goes_on_without_that(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path))
    from recllm.data.prepare import prepare

    def struck(self, *_):
        raise StoppedTrainingError("stopped by SIGTERM, a checkpoint is written: the same command goes on", 15)

    prepare(tiny)
    monkeypatch.setattr(run.Trainer, "run", struck)
    for again, expected in ((False, "goes on$"), (True, "goes on, without --again, which begins anew$")):
        with pytest.raises(StoppedTrainingError, match=expected) as caught:
            run.train(tiny, again=again, say=lambda _: None)
        assert caught.value.status == 143


def test_another_number_of_processes_or_seed_is_refused_by_its_number(trainer, monkeypatch):
    trainer.progress.step = 1
    trainer._save()
    trainer.keeper.about["world_size"] = 4
    with pytest.raises(TrainingError, match="expected a checkpoint of 4 processes .*, found 1 and 0: launch with --num_proc.* 1"):
        trainer.keeper.begin(trainer.record, True)
