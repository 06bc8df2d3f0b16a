"""What must not go on in silence: a launch of fewer processes than asked, a broken step, too little memory."""

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from recllm.config.sections import TrainingConfig
from recllm.errors import TrainingError
from recllm.feed.examples import Examples
from recllm.training.progress import Progress

BROKEN = "broken-step.json"
FULL = ("out of memory", "can't allocate memory", "not enough memory")
LEFT = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")  # in what torch says of a process that is gone


def accelerator_for(precision: str = "no") -> Accelerator:
    """Fail where `accelerate launch` started fewer processes than asked, as `--cpu --num_processes 2` does in silence."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product on CUDA, for `exact`
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # an earlier run of this process had another precision
    accelerator = Accelerator(mixed_precision=precision)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != world:
        raise TrainingError(f"expected WORLD_SIZE={world} processes, found {accelerator.num_processes}: on CPU launch with "
                            f"ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes N --num_machines 1")
    return accelerator


@contextmanager
def exact() -> Iterator[None]:
    """Around a run: sums are added up in one order. The slopes of an index are otherwise added by whichever thread comes first, other last
    bits each time, and a resumed run would not be the undisturbed one. It costs a fiftieth of a step on two cores. Where an operation has
    no such form, as some have none on CUDA, torch warns and goes on.
    """
    memory: Any = torch.utils.deterministic
    before = (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
              memory.fill_uninitialized_memory)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = before[2]


def left_alone(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone."""
    return isinstance(error, torch.distributed.DistError) or any(words in str(error).lower() for words in LEFT)


@contextmanager
def memory(settings: TrainingConfig) -> Iterator[None]:
    """Around a run: too little memory says which settings ask for less. Raises TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError, and on CPUs a plain one
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in FULL):
            raise
        checkpointing = "" if settings.gradient_checkpointing else ", set training.gradient_checkpointing=true"
        raise TrainingError(f"out of memory ({str(error)[:160]}): raise training.accumulation (now {settings.accumulation}: the same "
                            f"update in smaller parts){checkpointing}, or lower training.tokens_per_batch "
                            f"(now {settings.tokens_per_batch})") from error


def check_step(folder: Path, losses: list[float], norm: float, progress: Progress, spike: float | None, examples: Examples,
               batch: np.ndarray, write: bool = True) -> None:
    """Stop before a broken step is taken: a loss or gradient that is no number, or a loss far above the usual one.

    With `write` the rows of the batch are left in `folder`. Raises TrainingError that names the first of them.
    """
    loss, usual = sum(losses), progress.usual()
    jump = spike is not None and usual is not None and loss > spike * usual
    if math.isfinite(loss) and math.isfinite(norm) and not jump:
        return
    reason = f"a loss of {loss:.4g}, {spike} times the median of {usual:.4g}" if jump and math.isfinite(loss) else \
        f"a loss of {loss:.4g} and gradients of norm {norm:.4g}"
    rows = sorted({int(row) for index in batch for row in examples.groups[int(index)].row})
    if write:
        found = {"step": progress.step, "loss": str(loss), "gradient_norm": str(norm), "median": usual, "rows": rows}
        (folder / BROKEN).write_text(json.dumps(found) + "\n", encoding="utf-8")
    shown = ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
    raise TrainingError(f"step {progress.step}: expected a loss near those before, found {reason}; nothing of this step is kept. The "
                        f"rows of its batch in the prepared log are in {BROKEN} of the run's folder ({shown}): look for extreme numbers "
                        f"there, or lower training.learning_rate and start over with --again; training.spike=null lets spikes pass")


def check_validation(total: float, step: int) -> None:
    """Raises TrainingError for a validation loss that is no number."""
    if not math.isfinite(total):
        raise TrainingError(f"validation loss is {total} at step {step}: lower training.learning_rate, or look for extreme numbers in the "
                            f"log (scripts/prepare.py --check)")


def check_same_launch(saved: dict[str, Any], own: dict[str, Any], where: Path) -> None:
    """Raises TrainingError where a checkpoint was written by another number of processes (dropout is drawn by each) or another seed."""
    if any(saved[key] != value for key, value in own.items()):
        raise TrainingError(f"{where}: expected a checkpoint of {own['world_size']} processes and seed {own['seed']}, found "
                            f"{saved['world_size']} and {saved['seed']}: launch with --num_processes {saved['world_size']} as before, or "
                            f"start over with --again")
