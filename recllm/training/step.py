"""One optimiser step over a global batch: each process's share in parts, gradients and losses added up over all of them."""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from recllm.config.sections import TrainingConfig
from recllm.feed.batches import Batch
from recllm.training.tasks import Tasks


def optimizer_for(tasks: Tasks, settings: TrainingConfig, fused: bool = False) -> torch.optim.AdamW:
    """Two groups: LoRA adapters of pretrained layers, and new parts."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for name, parameter in tasks.named_parameters():
        if parameter.requires_grad:
            groups["lora_" in name].append(parameter)
    rates = {True: settings.lora_learning_rate, False: settings.learning_rate}
    made = [{"params": groups[k], "lr": rates[k], "base": rates[k]} for k in (True, False) if groups[k]]
    return torch.optim.AdamW(made, weight_decay=settings.weight_decay, fused=fused)


class Step:
    """Gradients of a global batch, the same on every process.

    One sum over processes carries gradients, losses and the wish to stop. DDP is not used: its buckets are laid out anew after the first
    step, so that a resumed run of more than two processes would add in another order than an uninterrupted one. What that costs is the
    overlap with the backward pass, for a few MB of LoRA and heads.
    """

    def __init__(self, tasks: Tasks, settings: TrainingConfig, accelerator: Accelerator, seed: int) -> None:
        self.tasks, self.settings, self.accelerator, self.seed = tasks, settings, accelerator, seed
        self.parameters = [p for p in tasks.parameters() if p.requires_grad]
        self.rank, self.parts = accelerator.process_index, settings.accumulation
        tasks.shares = accelerator.num_processes * self.parts

    def gradients(self, shares: list[Batch], step: int, wish: bool) -> tuple[list[float], float, bool]:
        """Leave the clipped gradients of the global batch: (each task's loss per label, norm of the gradients, whether to stop).

        `shares` are this process's parts of the batch; `wish` says that this process was asked to stop.
        """
        told: Any = 0
        for part, share in enumerate(shares):
            # dropout is keyed by (seed, step, share): a resumed run draws what an uninterrupted one would
            set_seed(hash((self.seed, step, self.rank * self.parts + part)) % 2**31)
            loss, each = self.tasks(share.to(self.accelerator.device))
            loss.backward()  # the loss is over the whole batch's labels, so parts and processes add up
            told = told + torch.cat([each, loss.detach()[None]])
        told = self._sum(torch.cat([told, told.new_tensor([float(wish)])]))
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        *losses, loss, stop, length = torch.cat([told, norm[None].to(told)]).tolist()  # the one wait for the device of a step
        return losses, length if loss == loss else loss, stop > 0

    def _sum(self, told: torch.Tensor) -> torch.Tensor:
        """Add up gradients and `told` over processes. A share without any use of a parameter counts as a gradient of zero."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.accelerator.num_processes == 1:
            return told
        flat = torch.cat([*(p.grad.flatten() for p in self.parameters if p.grad is not None), told.to(self.parameters[0])])
        flat = self.accelerator.reduce(flat, "sum")
        place = 0
        for parameter in self.parameters:
            parameter.grad = flat[place : place + parameter.numel()].view_as(parameter)
            place += parameter.numel()
        return flat[place:]
