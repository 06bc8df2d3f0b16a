"""A whole training run by configuration, and the trained model of a finished one."""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from recllm.config import Config
from recllm.errors import StoppedTrainingError, TrainingError
from recllm.feed.fit import Kept
from recllm.feed.log import load_log
from recllm.training import checkpoint, continued
from recllm.training.folder import MARK, alone, differences, fingerprint, mark_of, refusal, write_about
from recllm.training.guards import accelerator_for
from recllm.training.loop import Trainer
from recllm.training.setup import Setup, setup


def run_folder(config: Config, seed: int) -> Path:
    return config.folder / f"seed-{seed}"


def train(config: Config, *, seed: int | None = None, again: bool = False, init_from: Path | None = None,
          say: Callable[[str], None] = print) -> Setup:
    """Train, or go on with an interrupted run, or take a finished one of the same data and settings. Returns it with its best weights.

    With `init_from` the run starts from a release and trains on the rows that came after the release's own train split. Raises DataError
    without a prepared log, TrainingError when the launch is not what was asked for, the release does not fit, or the folder holds a run of
    other settings; StoppedTrainingError after a signal.
    """
    seed = config.training.seed if seed is None else seed
    folder = run_folder(config, seed)
    accelerator = accelerator_for(config.training.precision)  # before any file: a wrong launch leaves nothing
    main = accelerator.is_main_process
    with alone(folder) if main else nullcontext():
        log = load_log(config)
        start = continued.start_from(init_from, config, log) if init_from else None
        kept = start.kept if start else None
        _check_alike(config, continued.text(kept), accelerator)
        if main:
            _open(folder, config, seed, kept, again, accelerator)
        accelerator.wait_for_everyone()
        done = _everywhere(checkpoint.position(folder / "best") if main else None, accelerator) or {}
        made = setup(config, log, seed, kept)
        if done.get("finished"):
            if main:
                say(f"{folder} is trained: {summary(done)}")
            if main or (folder / "best").is_dir():  # other machines may not see it, and have nothing to do
                checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
        else:
            if start:
                start.take_weights(made.model)
                if main:
                    say(start.summary(made))
            try:
                progress = Trainer(made, folder, seed, accelerator).run()
            except StoppedTrainingError as error:
                if again:
                    error.args = (f"{error}, without --again, which begins anew",)
                raise
            if main:
                say(f"{folder}: {summary(vars(progress))}")
        made.model.eval()
        return made


def _everywhere(value: Any, accelerator: Accelerator) -> Any:
    """The first process's value on all of them: on other machines the folder may not be seen."""
    return broadcast_object_list([value])[0] if accelerator.num_processes > 1 else value


def _check_alike(config: Config, origin: str, accelerator: Accelerator) -> None:
    """Raise TrainingError on every process where one has another prepared log, other settings or another release than the first: each
    reads its own machine's, and batches of two logs would be trained on as if they were one."""
    mine = {"the prepared log": fingerprint(config), "model, training and --init-from": mark_of(config, origin)}
    found = gather_object([mine]) if accelerator.num_processes > 1 else [mine]
    for process, other in enumerate(found):
        if differing := [name for name in mine if other[name] != found[0][name]]:
            name = differing[0]
            first, own = (each[name][:12] for each in (found[0], other))
            raise TrainingError(f"process {process}: expected {name} of the first process ({first}), found {own}: give every machine "
                                f"the same config and the same prepared folder ({config.prepared}), then launch again")


def _open(folder: Path, config: Config, seed: int, kept: Kept | None, again: bool, accelerator: Accelerator) -> None:
    """Make the run's folder, or leave what is there of the same run. Raises TrainingError for what another run has done there."""
    origin = continued.text(kept)
    mark, path = mark_of(config, origin), folder / MARK
    if not again and path.is_file() and path.read_text() == mark:
        return
    if not again:
        finished = (checkpoint.position(folder / "best") or {}).get("finished")
        if finished or checkpoint.newest(folder, lambda _: None, remove=False):
            raise refusal(folder, config, origin, "a finished run" if finished else "checkpoints of a run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if kept:  # the run stands on its own: the release may be gone when it is loaded
        continued.write(kept, folder)
    write_about(folder, config, seed, origin, accelerator.num_processes, str(accelerator.device))
    path.write_text(mark)


def summary(position: dict) -> str:
    """What a run reached, in one line."""
    best: dict[str, Any] = next(r for r in position["history"] if r["step"] == position["best_step"])
    losses = ", ".join(f"{k} {v:.4f}" for k, v in best["validation"].items())
    return f"best of {len(position['history'])} evaluations at epoch {best['epoch']:.2f} ({position['seconds']:.0f} s): validation {losses}"


def load_trained(config: Config, seed: int | None = None) -> Setup:
    """A finished run with its best weights and calibration. Raises TrainingError when there is none for this config."""
    seed = config.training.seed if seed is None else seed
    folder = run_folder(config, seed)
    if not (checkpoint.position(folder / "best") or {}).get("finished"):
        raise TrainingError(f"expected a finished run in {folder}, found none: run scripts/train.py with this config first")
    kept = continued.read(folder)
    origin = continued.text(kept)
    if (folder / MARK).read_text() != mark_of(config, origin):
        found = "; ".join(differences(folder, config, origin))
        raise TrainingError(f"{folder} was trained on other data or settings ({found}): run scripts/train.py again")
    made = setup(config, load_log(config), seed, kept)
    checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
    made.model.eval()
    return made
