"""One process of a comparison: STEPS steps of a training without dropout, in float64 or float32. `python process_worker.py YAML OUT DTYPE`.

The first process leaves in OUT the weights before and after, the gradients of the first step, and each step's loss; every one leaves in
OUT.<rank> how many rows of each request it trained, by epoch.
"""

import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

STEPS = 50


def cast(batch: Any, dtype: torch.dtype) -> Any:
    """A batch with its floats in another precision."""
    def one(value: torch.Tensor) -> torch.Tensor:
        return value.to(dtype) if value.is_floating_point() else value

    for field in fields(batch):
        value = getattr(batch, field.name)
        setattr(batch, field.name, {k: one(v) for k, v in value.items()} if isinstance(value, dict) else one(value))
    return batch


def work(path: str, out: Path, dtype: torch.dtype) -> None:
    from recllm.config import load_config
    from recllm.feed.batches import plan
    from recllm.feed.log import load_log
    from recllm.training import checkpoint, loop
    from recllm.training.guards import accelerator_for
    from recllm.training.setup import setup

    config, accelerator = load_config(path), accelerator_for()
    made = setup(config, load_log(config), 0)
    made.model.to(dtype)
    trainer = loop.Trainer(made, out.with_suffix(".run"), 0, accelerator)
    trainer.folder.mkdir(exist_ok=True)
    trainer.tasks.to(dtype)
    trainer.keeper.begin(trainer.record, resume=False)
    trainer.tasks.train()
    before, gradients, losses, rows = checkpoint.trainable_state(made.model), {}, [], []

    def first(*_: Any) -> None:
        if not gradients:
            gradients.update({n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None})

    trainer.optimizer.register_step_pre_hook(first)
    while trainer.progress.step < STEPS:
        batches = plan(trainer.train.sizes, config.training.tokens_per_batch, [0, trainer.progress.epoch])
        trainer.batches, trained = len(batches), Counter()
        for batch in batches:
            shares = [cast(share, dtype) for share in trainer._shares(batch)]
            for share in shares:
                trained.update(share.request[share.weight > 0].tolist())
            if trainer.progress.step < STEPS:
                trainer._step(batch, shares, 0.0)
                losses.append(trainer.progress.recent[-1])
        rows.append(trained)
        trainer.progress.epoch += 1
    torch.save(rows, f"{out}.{accelerator.process_index}")
    if accelerator.is_main_process:
        expected = Counter(int(r) for g in trainer.train.groups for r in trainer.train.log.request[g.row])
        torch.save({"before": before, "after": checkpoint.trainable_state(made.model), "gradients": gradients, "losses": losses,
                    "expected": expected}, out)
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), getattr(torch, sys.argv[3]))
