"""Signals as spot machines and ctrl-C send them: a run ends after its step, with a checkpoint."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from recllm.errors import StoppedTrainingError, TrainingError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# (this process, its parent) as it starts, for `recllm.cli` imports this file first: while a log is loaded and encoded the parent may die,
# and whoever takes over then is no launcher
BORN = (os.getpid(), os.getppid())


def launcher() -> int | None:
    """Id of the process that launched this one among others, None for a run of its own."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return BORN[1] if BORN[0] == os.getpid() else os.getppid()  # forked since, as notebooks launch


class Stop:
    """Hears SIGTERM and SIGINT while it is entered (`with`). A process whose launcher died is stopped too: nobody else would end it."""

    def __init__(self) -> None:
        self.heard = 0
        self.at_once = False
        self.before: dict[int, Any] = {}
        self.launcher = launcher()

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():  # elsewhere nobody may
            self.before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.heard = number
        if self.at_once:
            self.at_once = False
            raise self.error()

    def asked(self) -> bool:
        if self.launcher is not None and os.getppid() != self.launcher:
            self.heard = self.heard or signal.SIGTERM
        return bool(self.heard)

    def error(self, what: str = "") -> StoppedTrainingError:
        """`what` says what stands, such as ", a checkpoint is written": only who wrote it can tell."""
        number = self.heard or signal.SIGTERM  # another process heard it
        return StoppedTrainingError(f"stopped by {signal.Signals(number).name}{what}: the same command goes on", number)

    def left_alone(self, error: BaseException) -> TrainingError:
        """A sum over processes broke: another one crashed, and the launcher asks the others to stop; or it heard a signal first."""
        found = " ".join(str(error).split())[:160]
        text = (f"another process of this launch ended (see its output), and what this one did with it broke off ({found}): the same "
                f"command goes on from the last checkpoint, if there is one")
        return StoppedTrainingError(text, self.heard) if self.asked() else TrainingError(text)

    @contextmanager
    def within(self) -> Iterator[None]:
        """Around what may take minutes and changes no state: a signal ends it at once. Raises StoppedTrainingError."""
        self.at_once = True
        try:
            if self.asked():
                raise self.error()
            yield
        finally:
            self.at_once = False
