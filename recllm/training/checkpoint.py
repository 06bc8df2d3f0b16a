"""Checkpoints: trainable weights, optimiser, position and world size, written under a temporary name and renamed (DESIGN 6)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from recllm.errors import TrainingError
from recllm.model.files_recllm import whole_folder
from recllm.model.modeling_recllm import RecllmModel

WEIGHTS = "trainable.safetensors"


def trainable_state(model: RecllmModel) -> dict[str, torch.Tensor]:
    """Everything that training changes: parameters with a gradient, and buffers (calibration, duration bins)."""
    wanted = {n for n, p in model.named_parameters() if p.requires_grad} | {n for n, _ in model.heads.named_buffers(prefix="heads")}
    return {n: v.detach().cpu().contiguous().clone() for n, v in model.state_dict().items() if n in wanted}


def load_trainable(model: RecllmModel, path: Path) -> None:
    """Load what `trainable_state` gave. Raises TrainingError when the file belongs to another model."""
    state = load_file(path)
    own = trainable_state(model)
    wrong = sorted({n for n in state if n not in own or state[n].shape != own[n].shape} | (set(own) - set(state)))
    if wrong:
        raise TrainingError(f"{path}: expected the weights of this config's model, found others (first: {wrong[0]}): "
                            f"the config or the prepared log changed; train again with --again")
    model.load_state_dict(state, strict=False)


def save(folder: Path, model: RecllmModel, optimizer: Any = None, **position: Any) -> None:
    """Write a checkpoint folder in one rename; a kill leaves the old one or the new one, never half of one."""
    with whole_folder(folder) as part:
        save_file(trainable_state(model), part / WEIGHTS)
        if optimizer is not None:
            torch.save(optimizer, part / "optimizer.pt")
        (part / "position.json").write_text(json.dumps(position, indent=1) + "\n", encoding="utf-8")


def position(folder: Path) -> dict[str, Any] | None:
    """What `save` recorded beside the weights, or None when there is no checkpoint."""
    path = folder / "position.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def load_optimizer(folder: Path) -> Any:
    """Optimiser state of a checkpoint of ours: tensors and plain values only."""
    return torch.load(folder / "optimizer.pt", weights_only=True)
