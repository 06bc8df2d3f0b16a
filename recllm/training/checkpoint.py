"""Checkpoints: trainable weights, optimiser, position; written aside, flushed, renamed, with the SHA-256 of each file (DESIGN 6).

`<run>/checkpoints/<step>-<evaluations>` are folders of a name of their own, so none is ever written over: a kill, or a full disk, leaves
those before it as they are. One that is damaged is removed with a warning, and the one before it is taken.
"""

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from recllm.data.whole import flush
from recllm.errors import FullDiskError, TrainingError
from recllm.model.modeling_recllm import RecllmModel

WEIGHTS, OPTIMIZER, POSITION, MANIFEST = "trainable.safetensors", "optimizer.pt", "position.json", "manifest.json"
FOLDER = "checkpoints"


def trainable_state(model: RecllmModel) -> dict[str, torch.Tensor]:
    """Everything that training changes: parameters with a gradient, and buffers (calibration, duration bins)."""
    wanted = {n for n, p in model.named_parameters() if p.requires_grad} | {n for n, _ in model.heads.named_buffers(prefix="heads")}
    return {n: v.detach().cpu().contiguous().clone() for n, v in model.state_dict().items() if n in wanted}


def load_state(model: RecllmModel, state: dict[str, torch.Tensor], where: Path) -> None:
    """Put in what `trainable_state` gave. Raises TrainingError when it belongs to another model; `where` is for the message."""
    own = trainable_state(model)
    wrong = sorted({n for n in state if n not in own or state[n].shape != own[n].shape} | (set(own) - set(state)))
    if wrong:
        raise TrainingError(f"{where}: expected the weights of this config's model, found others (first: {wrong[0]}): "
                            f"the config or the prepared log changed; train again with --again")
    model.load_state_dict(state, strict=False)


def load_trainable(model: RecllmModel, path: Path) -> None:
    """Load a file of `trainable_state`. Raises TrainingError when it is damaged or belongs to another model."""
    if (path.parent / MANIFEST).is_file() and (fault := damage(path.parent)):  # folders of earlier versions have none
        raise TrainingError(f"{path.parent}: expected the files that training wrote, found {fault}: train again with --again")
    load_state(model, safetensors.torch.load_file(path), path)


# ---- writing


def save(folder: Path, model: RecllmModel, optimizer: Any = None, **position: Any) -> None:
    """Write a checkpoint folder that is whole or not there. Raises FullDiskError where the disk does not take it."""
    files = {WEIGHTS: safetensors.torch.save(trainable_state(model)), POSITION: (json.dumps(position, indent=1) + "\n").encode()}
    if optimizer is not None:
        packed = io.BytesIO()
        torch.save(optimizer, packed)
        files[OPTIMIZER] = packed.getvalue()
    files[MANIFEST] = json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in files.items()}, indent=1).encode()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        for name, content in files.items():  # small, so made in memory: the disk's errors are then the system's, in one place
            (part / name).write_bytes(content)
            flush(part / name)
        flush(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        flush(folder.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise FullDiskError(f"{folder}: expected room for a checkpoint of {sum(map(len, files.values())) / 1e6:.1f} MB, found "
                            f"{error.strerror or error}: the one before it stands; free some room, and the same command goes on") from None


def name_of(step: int, evaluations: int) -> str:
    """Names sort as they were written; one that was written before an evaluation is not the one behind it."""
    return f"{step:08d}-{evaluations:04d}"


def prune(folder: Path, keep: int, best: str | None) -> None:
    """Keep the newest `keep` checkpoints of a run's folder, the best one, and the best ones that those kept go by: without it none of them
    could be gone on from."""
    every = _checkpoints(folder)
    needed = {best} | {_best_of(path) for path in every[-keep:]}
    for old in every[:-keep]:
        if old.name not in needed:
            shutil.rmtree(old, ignore_errors=True)


def _best_of(checkpoint: Path) -> str | None:
    """The name of the best checkpoint that one goes by; None where it cannot be read any more."""
    try:
        return (position(checkpoint) or {}).get("best_name")
    except ValueError:
        return None


# ---- reading


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run's folder, the oldest first."""
    return sorted(p for p in (folder / FOLDER).glob("*-*") if p.is_dir() and not p.name.startswith("."))


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, None where they are as they were written."""
    try:
        sums = json.loads((folder / MANIFEST).read_bytes())
        for name, expected in sums.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                return f"{name} changed"
    except FileNotFoundError as error:
        return f"no {Path(error.filename).name}"
    except (ValueError, AttributeError):
        return f"no JSON in {MANIFEST}"
    return None


def newest(folder: Path, say: Callable[[str], None] = print, remove: bool = True) -> Path | None:
    """The newest whole checkpoint of a run's folder whose best one is whole too, None without one. Damaged ones, and those whose best
    is gone, are named and with `remove` deleted: what a run writes later must be newer than what it came from."""
    for path in reversed(_checkpoints(folder)):
        fault = damage(path)
        best = None if fault else _best_of(path)
        if best and best != path.name and (lost := damage(path.parent / best)):
            fault = f"its best checkpoint {best} damaged ({lost})"
        if not fault:
            return path
        say(f"{path}: expected a whole checkpoint, found {fault}: going on from the one before it")
        if remove:
            shutil.rmtree(path, ignore_errors=True)
    return None


def position(folder: Path) -> dict[str, Any] | None:
    """What `save` recorded beside the weights, or None when there is no checkpoint."""
    path = folder / POSITION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def weights_sum(folder: Path) -> str:
    """SHA-256 of a checkpoint's weights: which ones were measured, or released."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def load_optimizer(folder: Path) -> Any:
    """Optimiser state of a checkpoint of ours: tensors and plain values only."""
    return torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)


def read(folder: Path) -> dict[str, Any]:
    """A checkpoint in memory: `weights`, `own` (the optimiser and the tasks' own parameters) and `position`."""
    return {"weights": safetensors.torch.load_file(folder / WEIGHTS), "own": load_optimizer(folder), "position": position(folder)}
