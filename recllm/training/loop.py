"""The loop, on one screen: plan an epoch, step over its global batches, evaluate, keep the best, stop early, resume (DESIGN 6)."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, extract_model_from_parallel

from recllm.errors import StoppedTrainingError
from recllm.feed.batches import Batch, load, plan
from recllm.feed.prefetch import prefetch
from recllm.feed.score import score
from recllm.training import checkpoint
from recllm.training.calibration import calibrate
from recllm.training.guards import accelerator_for, check_step, check_validation, exact, left_alone, memory
from recllm.training.keeper import Keeper
from recllm.training.progress import Progress, pauses, rate
from recllm.training.record import Record
from recllm.training.setup import VALIDATION, Setup
from recllm.training.step import Step, optimizer_for
from recllm.training.stopping import Stop
from recllm.training.tasks import Tasks
from recllm.training.trackers import trackers
from recllm.training.validation import validation_losses


class Trainer:
    """One run over one setup. `folder` receives `checkpoints/`, `best/` and what `Record` writes; `watch` every evaluation's record."""

    def __init__(self, setup: Setup, folder: Path, seed: int, accelerator: Accelerator | None = None,
                 watch: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.setup, self.seed, self.settings, self.watch = setup, seed, setup.config.training, watch
        self.accelerator = accelerator = accelerator or accelerator_for(self.settings.precision)
        self.folder, self.rank, self.ranks = folder, accelerator.process_index, accelerator.num_processes
        if self.settings.gradient_checkpointing:  # reentrant, the prefix would get no gradient, in silence
            setup.model.body.activation_checkpointing_enable({"use_reentrant": False})
        accelerator.prepare_model(setup.model, evaluation_mode=True)  # to its device, and bf16 where asked; Step adds up over processes
        self.tasks = Tasks(setup.model, setup.config.columns, setup.processor, setup.log, self.settings.loss == "uncertainty",
                           self.settings.retrieval_weight).to(accelerator.device)
        self.optimizer = optimizer_for(self.tasks, self.settings, fused=accelerator.device.type == "cuda")
        self.stepping, self.stop, self.progress = Step(self.tasks, self.settings, accelerator, seed), Stop(), Progress()
        self.train, self.validation = setup.trained(), setup.examples(VALIDATION)
        self.impressions = np.array([len(g.row) for g in self.train.groups])
        main, rows = accelerator.is_main_process, sum(int((~g.sampled).sum()) for g in self.train.groups)
        self.record = Record(folder, main, trackers(list(self.settings.trackers), folder, setup.config.name) if main else [])
        self.keeper = Keeper(setup, self.tasks, self.optimizer, folder, seed, accelerator, rows)
        self.started = time.monotonic()

    def run(self, resume: bool = True) -> Progress:
        """Train to the end of the epochs, the budget, or patience; then load the best weights and calibrate.

        Raises StoppedTrainingError after a signal; FullDiskError; TrainingError for a broken step, for want of memory, and where another
        process is gone.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = self.progress = self.keeper.begin(self.record, resume)
        try:
            with exact(), self.stop, memory(self.settings):
                try:
                    while progress.epoch < self.settings.epochs and progress.worse < self.settings.patience and self._epoch():
                        pass
                except StoppedTrainingError:
                    self._save()
                    self.record.time("stopped", progress.step, self._seconds())
                    main = self.accelerator.is_main_process
                    raise self.stop.error(f", {'a checkpoint is written' if main else 'the first process writes a checkpoint'}") from None
                self._finish()
        except RuntimeError as error:
            if self.ranks > 1 and (self.stop.asked() or left_alone(error)):
                raise self.stop.left_alone(error) from None
            raise
        finally:
            self.record.close()
        progress.seconds = self._seconds()
        return progress

    def _epoch(self) -> bool:
        """One epoch, or what is left of it. Returns false when the run is at its end."""
        settings, progress = self.settings, self.progress
        batches = plan(self.train.sizes, settings.tokens_per_batch, [self.seed, progress.epoch])
        self.batches, self.pauses = len(batches), pauses(len(batches), settings.evaluations_per_epoch)
        self.record.show(len(batches) * settings.epochs, progress.step)
        if self._evaluate_if_due() and progress.batch == 0:  # a run that was stopped after an epoch's last step
            return self._spent() < 1.0
        todo = batches[progress.batch :]
        self.tasks.train()
        with closing(prefetch(self._shares, todo)) as shares:
            for batch in todo:
                spent = self._spent()
                if spent >= 1.0 or progress.worse >= settings.patience:
                    break
                self._step(batch, next(shares), spent)
                if not self._evaluate_if_due() and self.keeper.due(progress.step):
                    self._save()
        if progress.counted or not progress.history:
            self._evaluate()  # the budget ended inside an epoch: at least one evaluated checkpoint
        return self._spent() < 1.0

    def _shares(self, batch: np.ndarray) -> list[Batch]:
        """This process's parts of a global batch; with accumulation it is split as over so many more processes."""
        parts = self.settings.accumulation
        return [load(self.train, batch, self.rank * parts + part, self.ranks * parts) for part in range(parts)]

    def _step(self, batch: np.ndarray, shares: list[Batch], spent: float) -> None:
        progress, share = self.progress, rate(self.settings, self.progress.step, spent)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * share
        losses, norm, stop = self.stepping.gradients(shares, progress.step, self.stop.asked())
        check_step(self.folder, losses, norm, progress, self.settings.spike, self.train, batch, write=self.accelerator.is_main_process)
        self.optimizer.step()
        torch.autograd.graph.increment_version(self.stepping.parameters)  # the fused optimizer writes past autograd; `version` counts
        self.optimizer.zero_grad(set_to_none=True)
        progress.add(losses)
        self.record.step(sum(losses), int(self.impressions[batch].sum()), spent)
        if stop:
            raise self.stop.error()

    # ---- schedule

    def _spent(self) -> float:
        """Share of the run that is done: of the epochs' batches, or of the wall-clock budget, whichever is further."""
        done = (self.progress.epoch + self.progress.batch / max(self.batches, 1)) / self.settings.epochs
        if not self.settings.minutes:
            return done
        spent = max(done, self._seconds() / (self.settings.minutes * 60))
        if self.ranks == 1:
            return spent
        # the first process's value on all of them: clocks differ, decisions must not
        return float(broadcast(torch.tensor([spent], dtype=torch.float32, device=self.accelerator.device))[0])

    def _seconds(self) -> float:
        return self.progress.seconds + time.monotonic() - self.started

    def _save(self) -> None:
        self.keeper.save(self.progress, self._seconds())

    # ---- evaluation

    def _evaluate_if_due(self) -> bool:
        if self.progress.batch not in self.pauses or self.progress.evaluated():
            return False
        self._evaluate()
        return True

    def _evaluate(self) -> None:
        """Validation loss, the record, and a checkpoint."""
        progress = self.progress
        with self.stop.within():
            losses = validation_losses(self.tasks, self.validation, 4 * self.settings.tokens_per_batch, self.accelerator)
        total = sum(self.setup.config.columns.outcomes[n].loss_weight * v for n, v in losses.items())
        check_validation(total, progress.step)
        record = progress.book([*self.tasks.names, "retrieval"], losses, total, self.batches)
        if record["best"]:
            progress.best_name = checkpoint.name_of(progress.step, len(progress.history))
        self._save()
        self.record.evaluation(record, self._seconds())
        if self.watch is not None:
            self.watch(record)

    def _finish(self) -> None:
        """The best weights, calibrated, in float32; what was written last says that the run is finished."""
        with self.stop.within():
            self.keeper.take_best(self.progress)
            extract_model_from_parallel(self.setup.model, keep_fp32_wrapper=False)
            scores = score(self.setup.model, self.validation, 4 * self.settings.tokens_per_batch, self.accelerator.device,
                           progress=self.accelerator.is_main_process)
            found = calibrate(self.setup.model.heads, scores, self.setup.config, self.tasks.names)
            self.record.log("calibration", **found)
            self.record.curves(self.progress.history)
        self.record.time("finished", self.progress.step, self._seconds())
        self.keeper.finish(self.progress, self._seconds(), found)
