"""TensorBoard beside the JSONL log, an extra behind this one file."""

from pathlib import Path
from typing import Any, Protocol

from recllm.errors import MissingExtraError


class Tracker(Protocol):
    def log(self, values: dict[str, float], step: int) -> None:
        """Record values of one step."""


class TensorBoard:
    """Scalars under `<run>/tensorboard`. Raises MissingExtraError where tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("training.trackers: tensorboard is not installed: pip install 'recllm[tensorboard]'") from None
        self.writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


def trackers(names: list[str], folder: Path) -> list[Tracker]:
    """The trackers of a run, by the names in `training.trackers`."""
    return [TensorBoard(folder) for name in names if name == "tensorboard"]
