"""Where a run stands, and what follows from it: learning rates, evaluations, patience. All of it is in a checkpoint."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from recllm.config.sections import TrainingConfig

RECENT = 50  # steps whose median a loss is compared with
FEWEST = 20  # of them, before there is a median worth the name


@dataclass
class Progress:
    """Everything but tensors that the next step depends on."""

    epoch: int = 0
    step: int = 0  # optimiser steps done
    batch: int = 0  # batches of the epoch done
    seconds: float = 0.0  # wall clock spent training
    best: float = float("inf")
    best_step: int = 0
    best_name: str | None = None  # of the best weights' checkpoint
    worse: int = 0  # evaluations since the best
    history: list[dict[str, Any]] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)  # of each task's loss since the last evaluation
    counted: int = 0  # steps in `sums`
    recent: list[float] = field(default_factory=list)  # losses of the last steps

    def add(self, losses: list[float]) -> None:
        """Book a step and its global losses of each task."""
        self.step, self.batch, self.counted = self.step + 1, self.batch + 1, self.counted + 1
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(losses), losses, strict=True)]
        self.recent = [*self.recent, sum(losses)][-RECENT:]

    def usual(self) -> float | None:
        """Median of the recent losses, None while there are few."""
        return median(self.recent) if len(self.recent) >= FEWEST else None

    def evaluated(self) -> bool:
        return bool(self.history) and self.history[-1]["step"] == self.step

    def book(self, names: list[str], losses: dict[str, float], total: float, batches: int) -> dict[str, Any]:
        """Book an evaluation in an epoch of `batches`; returns its record, in which nothing depends on a clock. At an epoch's end the next
        one begins."""
        epoch = self.epoch + self.batch / max(batches, 1)
        better = total < self.best
        if better:
            self.best, self.best_step = total, self.step
        self.worse = 0 if better else self.worse + 1
        train = dict(zip(names, (s / self.counted for s in self.sums), strict=False)) if self.counted else {}
        record = {"step": self.step, "epoch": epoch, "validation": losses, "train": train, "best": better}
        self.history.append(record)
        self.sums, self.counted = [], 0
        if self.batch == batches:
            self.epoch, self.batch = self.epoch + 1, 0
        return record


def pauses(batches: int, evaluations: int) -> set[int]:
    """After how many batches of an epoch to evaluate; always at its end."""
    return {round(batches * (k + 1) / evaluations) for k in range(evaluations)} - {0}


def rate(settings: TrainingConfig, step: int, spent: float) -> float:
    """Share of the learning rate: up over the first steps, then linearly down to a twentieth at the end of the run."""
    return min(1.0, (step + 1) / max(settings.warmup_steps, 1)) * max(1.0 - spent, 0.05)
