"""TensorBoard and trackio beside the JSONL log, through Accelerate: extras behind this one file."""

from pathlib import Path

from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker

from recllm.errors import MissingExtraError


def trackers(names: list[str], folder: Path, project: str) -> list[GeneralTracker]:
    """The trackers of a run, by the names in `training.trackers`: TensorBoard's files lie in `<run>/tensorboard`, trackio's where it keeps
    its own (TRACKIO_DIR). Raises MissingExtraError for one that is not installed."""
    made: list[GeneralTracker] = []
    for name in names:
        try:
            tracker = TensorBoardTracker(name, logging_dir=folder) if name == "tensorboard" else TrackioTracker(project, name=folder.name)
            tracker.start()
        except ImportError:
            raise MissingExtraError(f"training.trackers: {name} is not installed: pip install 'recllm[{name}]'") from None
        made.append(tracker)
    return made
