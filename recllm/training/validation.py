"""Validation losses of a run, by which the best weights are kept; each process scores its share of the split."""

import torch
from accelerate import Accelerator

from recllm.feed.examples import Examples
from recllm.feed.score import score
from recllm.training.tasks import Tasks


@torch.no_grad()
def validation_losses(tasks: Tasks, examples: Examples, budget: int, accelerator: Accelerator) -> dict[str, float]:
    """Mean loss per known label of each task, weighted as in training, uncalibrated: the same on every process."""
    device, rank, ranks = accelerator.device, accelerator.process_index, accelerator.num_processes
    sums = torch.zeros(len(tasks.names), 2, device=device)
    if rank < len(examples):
        scores = score(tasks.model, examples, budget, device, rank, ranks, progress=accelerator.is_main_process)
        raw, weight = {n: v.to(device) for n, v in scores.raw.items()}, scores.weight.to(device)
        for index, name in enumerate(tasks.names):
            labels = scores.labels[:, index].to(device)
            sums[index, 0] = tasks.loss_of(name, raw, labels, weight)
            sums[index, 1] = (~labels.isnan() * weight).sum()
    total, known = accelerator.reduce(sums, "sum").T.tolist()
    return {name: loss / max(n, 1.0) for name, loss, n in zip(tasks.names, total, known, strict=True)}
