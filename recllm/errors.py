"""Every error that a user can cause, in one place. Messages say what was expected, what was found, where, and what to do."""

from difflib import get_close_matches


class RecllmError(ValueError):
    """Base of all errors that are the input's fault; the command line prints them as one line and ends with `status`."""

    status = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))  # names and values of the input may hold line feeds


class ConfigError(RecllmError):
    """A configuration or schema file cannot be used."""


class DataError(RecllmError):
    """A table cannot be used: a missing file or column, no usable rows, no positive label."""


class StoppedError(DataError):
    """A long step stopped for want of disk, memory, a worker, or a folder to itself. What it has done stands: call it again."""


class WorkerError(StoppedError):
    """A worker of an executor was killed, or ended without an answer."""


class FullRunError(DataError):
    """An append cannot give what a run over the whole log gives: prepare in full."""


class TrainingError(RecllmError):
    """Training cannot start or go on."""


class FullDiskError(TrainingError):
    """The disk takes no more of what a run writes. What was written before stands: with some room the same command goes on."""


class StoppedTrainingError(TrainingError):
    """A signal ended a run: the same command goes on from its last checkpoint. `status` is 128 and the signal's number, as a shell says
    it: 143 for SIGTERM, which spot machines send."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal


class MissingExtraError(RecllmError):
    """An optional dependency is needed and absent; the message holds the command that installs it."""


def did_you_mean(name: str, known: list[str]) -> str:
    """` Did you mean "click"?` for the nearest of `known`, or nothing when none is near."""
    near = get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.55)
    match = next((k for k in known if near and k.lower() == near[0]), None)
    return f' Did you mean "{match}"?' if match else ""
