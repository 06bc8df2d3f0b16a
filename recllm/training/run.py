"""A whole training run by configuration, and the trained model of a finished one."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.errors import TrainingError
from recllm.feed.fit import Kept
from recllm.feed.log import load_log
from recllm.training import checkpoint, continued
from recllm.training.loop import Trainer, accelerator_for
from recllm.training.setup import Setup, setup


def run_folder(config: Config, seed: int) -> Path:
    return config.folder / f"seed-{seed}"


def _mark(config: Config, kept: Kept | None) -> str:
    """Hash of what decides a run: the prepared log, the model, the training settings and the release that it goes on from."""
    prepared = (config.prepared / "fingerprint").read_text() if (config.prepared / "fingerprint").is_file() else ""
    plain = config.model_dump_json(include={"model": True, "training": config.training.model_dump().keys() - {"trackers", "seed"}})
    origin = continued.text(kept) if kept else ""
    return hashlib.sha256((prepared + plain + origin).encode()).hexdigest()


def train(config: Config, *, seed: int | None = None, again: bool = False, init_from: Path | None = None,
          say: Callable[[str], None] = print) -> Setup:
    """Train, or go on with an interrupted run, or take a finished one of the same data and settings. Returns it with its best weights.

    With `init_from` the run starts from a release and trains on the rows that came after the release's own train split. Raises DataError
    without a prepared log, TrainingError when the launch is not what was asked for, or the release does not fit.
    """
    seed = config.training.seed if seed is None else seed
    folder, log = run_folder(config, seed), load_log(config)
    accelerator = accelerator_for()  # before any file: a wrong launch leaves nothing
    start = continued.start_from(init_from, config, log) if init_from else None
    kept = start.kept if start else None
    mark = _mark(config, kept)
    same = (folder / "mark").is_file() and (folder / "mark").read_text() == mark
    if not same and not again and (checkpoint.position(folder / "best") or {}).get("finished"):
        raise TrainingError(f"{folder} holds a finished run of other data or settings (model, training, --init-from): pass --again to "
                            f"replace it, or set RECLLM_RUNS to keep both")
    if accelerator.is_main_process and (again or not same):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if kept:  # the run stands on its own: the release may be gone when it is loaded
            continued.write(kept, folder)
        (folder / "mark").write_text(mark)
    accelerator.wait_for_everyone()
    done = checkpoint.position(folder / "best") or {}
    made = setup(config, log, seed, kept)
    if done.get("finished"):
        say(f"{folder} is trained: {summary(done)}")
        checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
        made.model.eval()
        return made
    if start:
        start.take_weights(made.model)
        if accelerator.is_main_process:
            say(start.summary(made))
    progress = Trainer(made, folder, seed, accelerator).run()
    made.model.eval()
    if accelerator.is_main_process:
        say(f"{folder}: {summary(vars(progress))}")
    return made


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
    if (folder / "mark").read_text() != _mark(config, kept):
        raise TrainingError(f"{folder} was trained on other data or settings (model, training): run scripts/train.py again")
    made = setup(config, load_log(config), seed, kept)
    checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
    made.model.eval()
    return made
