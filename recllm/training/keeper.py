"""Keeps a run's state on the disk and brings it back: which process writes, when, and what the others then know."""

import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from recllm.errors import TrainingError
from recllm.training import checkpoint
from recllm.training.guards import check_same_launch
from recllm.training.progress import Progress
from recllm.training.record import Record
from recllm.training.setup import Setup
from recllm.training.tasks import Tasks


class Keeper:
    """Checkpoints of one run. The first process reads and writes, so the folder needs to be seen by that one alone."""

    def __init__(self, setup: Setup, tasks: Tasks, optimizer: torch.optim.Optimizer, folder: Path, seed: int, accelerator: Accelerator,
                 rows: int) -> None:
        self.setup, self.tasks, self.optimizer, self.folder, self.accelerator = setup, tasks, optimizer, folder, accelerator
        self.settings, self.main, kept = setup.config.training, accelerator.is_main_process, setup.kept
        self.about = {"seed": seed, "world_size": accelerator.num_processes}
        # rows that one epoch trains on, and the release that the run goes on from
        self.origin = {"rows": rows, **({"release": kept.release, "trained_until": kept.trained_until} if kept else {})}
        self.saved = time.monotonic()

    def begin(self, record: Record, resume: bool) -> Progress:
        """Go on from the newest whole checkpoint, or start; and put the log back to where it was then.

        Raises TrainingError when it was written by another number of processes or another model.
        """
        path = checkpoint.newest(self.folder, record.say) if resume and self.main else None
        fresh = {"weights": checkpoint.trainable_state(self.setup.model), "own": self.tasks.own_state(), "position": None}
        state, progress = self.agreed(fresh if path is None else checkpoint.read(path)), Progress()
        if saved := state["position"]:
            check_same_launch(saved, self.about, self.folder)
            self.optimizer.load_state_dict(state["own"].pop("optimizer"))
            progress = Progress(**{k: saved[k] for k in vars(progress)})
        checkpoint.load_state(self.setup.model, state["weights"], self.folder)
        self.tasks.load_own(state["own"])
        begun = [{"kind": "continued", **self.origin}] if self.setup.kept else []
        record.begin([*begun, *({"kind": "evaluation", **r} for r in progress.history)])
        record.time("resumed" if saved else "started", progress.step, progress.seconds)
        return progress

    def due(self, step: int) -> bool:
        steps = self.settings.checkpoint_steps
        return bool(steps and step % steps == 0) or time.monotonic() - self.saved > self.settings.checkpoint_minutes * 60

    def save(self, progress: Progress, seconds: float) -> None:
        """Write a checkpoint; the other processes go on and wait in the next sum."""
        path = self.folder / checkpoint.FOLDER / checkpoint.name_of(progress.step, len(progress.history))
        if self.main and not path.exists():  # stopped twice at one place
            state = {"optimizer": self.optimizer.state_dict(), **self.tasks.own_state()}
            checkpoint.save(path, self.setup.model, state, **self._position(progress, seconds))
            checkpoint.prune(self.folder, self.settings.keep_checkpoints, progress.best_name)
        self.saved = time.monotonic()

    def take_best(self, progress: Progress) -> None:
        """Put the best weights into the model, on every process. Raises TrainingError where the disk lost them."""
        path, weights = self.folder / checkpoint.FOLDER / str(progress.best_name), None
        if self.main:
            if fault := checkpoint.damage(path):
                raise TrainingError(f"{path}: expected the best checkpoint whole, found {fault}: the same command goes on from before it")
            weights = checkpoint.read(path)["weights"]
        checkpoint.load_state(self.setup.model, self.agreed(weights), path)

    def finish(self, progress: Progress, seconds: float, calibration: dict[str, float]) -> None:
        """Write `best/`, with which a run is finished."""
        if self.main:
            checkpoint.save(self.folder / "best", self.setup.model, **self._position(progress, seconds), calibration=calibration,
                            finished=True)
        self.accelerator.wait_for_everyone()

    def agreed(self, value: Any) -> Any:
        """The first process's value on all of them."""
        return broadcast_object_list([value])[0] if self.accelerator.num_processes > 1 else value

    def _position(self, progress: Progress, seconds: float) -> dict[str, Any]:
        return {**vars(progress), "seconds": round(seconds, 1), **self.about, **self.origin}
