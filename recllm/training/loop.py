"""The loop, on one screen: plan an epoch, step over its global batches, evaluate, keep the best, stop early, resume (DESIGN 6)."""

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from tqdm import tqdm

from recllm.errors import TrainingError
from recllm.feed.batches import load, plan
from recllm.feed.score import score
from recllm.training import checkpoint
from recllm.training.calibration import calibrate
from recllm.training.setup import VALIDATION, Setup
from recllm.training.tasks import Tasks
from recllm.training.trackers import trackers


@dataclass
class Progress:
    """Where a run stands; what a checkpoint records."""

    epoch: int = 0
    step: int = 0  # optimiser steps done
    batch: int = 0  # batches of the epoch done
    seconds: float = 0.0  # wall clock spent training
    best: float = float("inf")
    best_step: int = 0
    worse: int = 0  # evaluations since the best
    history: list[dict[str, Any]] = field(default_factory=list)


def accelerator_for() -> Accelerator:
    """Fail where `accelerate launch` started fewer processes than asked, as `--cpu --num_processes 2` does in silence."""
    # buffers are calibration and bins, the same everywhere: sending them at every step would buy nothing
    accelerator = Accelerator(kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise TrainingError(f"expected WORLD_SIZE={world} processes, found {accelerator.num_processes}: on CPU launch with "
                            f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes N --num_machines 1")
    return accelerator


def optimizer_for(tasks: Tasks, settings: Any) -> torch.optim.AdamW:
    """Two groups: LoRA adapters of pretrained layers, and new parts."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in tasks.named_parameters():
        if parameter.requires_grad:
            groups["lora_" in name].append(parameter)
    rates = {True: settings.lora_learning_rate, False: settings.learning_rate}
    made = [{"params": groups[k], "lr": rates[k], "base": rates[k]} for k in (True, False) if groups[k]]
    return torch.optim.AdamW(made, weight_decay=settings.weight_decay)


class Trainer:
    """One run over one setup. `folder` receives `last/`, `best/` and `log.jsonl`; `watch` every evaluation's record."""

    def __init__(self, setup: Setup, folder: Path, seed: int, accelerator: Accelerator | None = None,
                 watch: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.setup, self.folder, self.seed, self.watch = setup, folder, seed, watch
        self.settings = setup.config.training
        self.accelerator = accelerator or accelerator_for()
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        tasks = Tasks(setup.model, setup.config.columns, setup.processor, setup.log, self.settings.loss == "uncertainty",
                      self.settings.retrieval_weight)
        self.tasks, self.optimizer = self.accelerator.prepare(tasks, optimizer_for(tasks, self.settings))
        self.bare = self.accelerator.unwrap_model(self.tasks)
        self.train, self.validation = setup.trained(), setup.examples(VALIDATION)
        self.trackers = trackers(list(self.settings.trackers), folder) if self.accelerator.is_main_process else []
        self.progress = Progress()
        self.started = time.monotonic()

    # ---- schedule

    def _spent(self) -> float:
        """Share of the run that is done: of the epochs' batches, or of the wall-clock budget, whichever is further."""
        done = (self.progress.epoch + self.progress.batch / max(self.batches, 1)) / self.settings.epochs
        seconds = self.progress.seconds + time.monotonic() - self.started
        budget = seconds / (self.settings.minutes * 60) if self.settings.minutes else 0.0
        return float(self._agree(max(done, budget)))

    def _agree(self, value: float) -> float:
        """The first process's value on all of them: clocks differ, decisions must not."""
        if self.ranks == 1:
            return value
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor([value], device=self.accelerator.device))[0])

    def _set_rates(self, spent: float) -> None:
        """Linear warm-up over the first steps, then linearly down to a twentieth at the end of the run."""
        warm = min(1.0, (self.progress.step + 1) / max(self.settings.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * warm * max(1.0 - spent, 0.05)

    # ---- run

    def run(self, resume: bool = True) -> Progress:
        """Train to the end of the epochs, the budget, or patience; then load the best weights and calibrate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if resume and checkpoint.position(self.folder / "last"):
            self._restore()
        elif self.setup.kept:
            self._log("continued", **self._origin())
        while self.progress.epoch < self.settings.epochs and self.progress.worse < self.settings.patience and self._epoch():
            pass
        checkpoint.load_trainable(self.bare.model, self.folder / "best" / checkpoint.WEIGHTS)
        found = calibrate(self.bare.model.heads, self._score(), self.setup.config, self.bare.names)
        if self.accelerator.is_main_process:
            checkpoint.save(self.folder / "best", self.bare.model, **self._position(), calibration=found, finished=True)
        self._log("calibration", **found)
        self.progress.seconds = self._seconds()
        return self.progress

    def _epoch(self) -> bool:
        """One epoch. Returns false when the budget is spent."""
        settings, progress = self.settings, self.progress
        batches = plan(self.train.sizes, settings.tokens_per_batch, [self.seed, progress.epoch])
        self.batches = len(batches)
        pauses = {round(len(batches) * (k + 1) / settings.evaluations_per_epoch) for k in range(settings.evaluations_per_epoch)}
        sums: list[torch.Tensor] = []
        bar = tqdm(batches, initial=progress.batch, desc=f"epoch {progress.epoch + 1}", delay=2, leave=False,
                   disable=not self.accelerator.is_main_process)
        self.tasks.train()
        for batch in batches[progress.batch :]:
            spent = self._spent()
            if spent >= 1.0:
                break
            self._set_rates(spent)
            # dropout is keyed by (seed, step, rank): a resumed run draws what an uninterrupted one would
            set_seed(hash((self.seed, progress.step, self.rank)) % 2**31)
            loss, each = self.tasks(load(self.train, batch, self.rank, self.ranks).to(self.accelerator.device))
            self.accelerator.backward(loss * self.ranks)  # DDP averages gradients, the loss is already over the global batch
            self.accelerator.clip_grad_norm_(self.tasks.parameters(), settings.gradient_clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            sums.append(each)
            progress.step, progress.batch = progress.step + 1, progress.batch + 1
            bar.update()
            if progress.batch in pauses:
                self._evaluate(sums)
                sums = []
                if progress.worse >= settings.patience:
                    break
        bar.close()
        if sums or not progress.history:
            self._evaluate(sums)  # the budget ended inside an epoch: at least one evaluated checkpoint
        if self._spent() >= 1.0 and progress.batch < len(batches):
            return False
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self._save("last", {"optimizer": self.optimizer.state_dict(), **self.bare.own_state()})
        return self._spent() < 1.0

    def _score(self) -> Any:
        return score(self.bare.model, self.validation, 4 * self.settings.tokens_per_batch, self.accelerator.device,
                     progress=self.accelerator.is_main_process)

    def _evaluate(self, sums: list[torch.Tensor]) -> None:
        """Validation loss, the record, and a checkpoint when it is the best so far."""
        progress, names = self.progress, [*self.bare.names, "retrieval"]
        losses = validation_losses(self.bare, self._score())
        total = sum(self.setup.config.columns.outcomes[n].loss_weight * v for n, v in losses.items())
        if not math.isfinite(total):
            raise TrainingError(f"validation loss is {total} at step {progress.step}: lower training.learning_rate, or look for extreme "
                                f"numbers in the log (scripts/prepare.py --check)")
        better = total < progress.best
        progress.best, progress.best_step = (total, progress.step) if better else (progress.best, progress.best_step)
        progress.worse = 0 if better else progress.worse + 1
        train = self.accelerator.reduce(torch.stack(sums).mean(0), "sum").tolist() if sums else []  # each process held its share
        record = {"step": progress.step, "epoch": progress.epoch + progress.batch / max(self.batches, 1), "validation": losses,
                  "train": dict(zip(names, train, strict=False)), "best": better, "seconds": self._seconds()}
        progress.history.append(record)
        if better:
            self._save("best", None)
        self._log("evaluation", **record)
        if self.watch is not None:
            self.watch(record)

    # ---- records

    def _seconds(self) -> float:
        return round(self.progress.seconds + time.monotonic() - self.started, 1)

    def _position(self) -> dict[str, Any]:
        return {**vars(self.progress), "seconds": self._seconds(), "seed": self.seed, "world_size": self.ranks, **self._origin()}

    def _origin(self) -> dict[str, Any]:
        """Rows that one epoch trains on, and the release that the run goes on from."""
        kept = self.setup.kept
        return {"rows": sum(int((~g.sampled).sum()) for g in self.train.groups),
                **({"release": kept.release, "trained_until": kept.trained_until} if kept else {})}

    def _save(self, name: str, optimizer: Any) -> None:
        if self.accelerator.is_main_process:
            checkpoint.save(self.folder / name, self.bare.model, optimizer, **self._position())
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        """Go on from `last/`. Raises TrainingError when it was written by another number of processes or another model."""
        saved = checkpoint.position(self.folder / "last") or {}
        if saved["world_size"] != self.ranks or saved["seed"] != self.seed:
            raise TrainingError(f"{self.folder}/last: expected a checkpoint of {self.ranks} processes and seed {self.seed}, found "
                                f"{saved['world_size']} and {saved['seed']}: launch as before, or start over with --again")
        checkpoint.load_trainable(self.bare.model, self.folder / "last" / checkpoint.WEIGHTS)
        saved_state = checkpoint.load_optimizer(self.folder / "last")
        self.optimizer.load_state_dict(saved_state["optimizer"])
        self.bare.load_own(saved_state)
        self.progress = Progress(**{k: saved[k] for k in vars(self.progress)})
        self._log("resumed", step=self.progress.step)

    def _log(self, kind: str, **facts: Any) -> None:
        if not self.accelerator.is_main_process:
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, **facts}) + "\n")
        if kind == "evaluation":
            for tracker in self.trackers:
                tracker.log({f"{part}/{k}": v for part in ("train", "validation") for k, v in facts[part].items()}, facts["step"])
            shown = ", ".join(f"{k} {v:.4f}" for k, v in facts["validation"].items())
            tqdm.write(f"step {facts['step']} (epoch {facts['epoch']:.2f}, {facts['seconds']:.0f} s): validation {shown}"
                       f"{'  best' if facts['best'] else ''}")


def validation_losses(tasks: Tasks, scores: Any) -> dict[str, float]:
    """Mean loss per known label of each task, weighted as in training, uncalibrated."""
    heads, losses = tasks.model.heads, {}
    raw = {n: v.to(heads.scale.device) for n, v in scores.raw.items()}
    for index, name in enumerate(tasks.names):
        labels, weight = scores.labels[:, index].to(heads.scale.device), scores.weight.to(heads.scale.device)
        losses[name] = tasks.loss_of(name, raw, labels, weight) / max(float((~labels.isnan() * weight).sum()), 1.0)
    return {n: float(v) for n, v in losses.items()}
