"""A whole training run by configuration, and the trained model of a finished one."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.errors import TrainingError
from recllm.feed.log import load_log
from recllm.training import checkpoint
from recllm.training.loop import Trainer, accelerator_for
from recllm.training.setup import Setup, setup


def run_folder(config: Config, seed: int) -> Path:
    return config.folder / f"seed-{seed}"


def _mark(config: Config) -> str:
    """Hash of what decides a run: the prepared log, the model and the training settings."""
    prepared = (config.prepared / "fingerprint").read_text() if (config.prepared / "fingerprint").is_file() else ""
    plain = config.model_dump_json(include={"model": True, "training": config.training.model_dump().keys() - {"trackers", "seed"}})
    return hashlib.sha256((prepared + plain).encode()).hexdigest()


def train(config: Config, *, seed: int | None = None, again: bool = False, say: Callable[[str], None] = print) -> Setup:
    """Train, or go on with an interrupted run, or take a finished one of the same data and settings. Returns it with its best weights.

    Raises DataError without a prepared log, TrainingError when the launch is not what was asked for.
    """
    seed = config.training.seed if seed is None else seed
    folder, log = run_folder(config, seed), load_log(config)
    accelerator = accelerator_for()  # before any file: a wrong launch leaves nothing
    mark = _mark(config)
    same = (folder / "mark").is_file() and (folder / "mark").read_text() == mark
    if not same and not again and (checkpoint.position(folder / "best") or {}).get("finished"):
        raise TrainingError(f"{folder} holds a finished run of other data or settings (model, training): pass --again to replace it, or "
                            f"set RECLLM_RUNS to keep both")
    if accelerator.is_main_process and (again or not same):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "mark").write_text(mark)
    accelerator.wait_for_everyone()
    done = checkpoint.position(folder / "best") or {}
    made = setup(config, log, seed)
    if done.get("finished"):
        say(f"{folder} is trained: {summary(done)}")
        checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
        made.model.eval()
        return made
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
    if (folder / "mark").read_text() != _mark(config):
        raise TrainingError(f"{folder} was trained on other data or settings (model, training): run scripts/train.py again")
    made = setup(config, load_log(config), seed)
    checkpoint.load_trainable(made.model, folder / "best" / checkpoint.WEIGHTS)
    made.model.eval()
    return made
