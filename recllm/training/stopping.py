"""Signals as spot machines and ctrl-C send them: a run ends after its step, with a checkpoint."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from recllm.errors import StoppedTrainingError

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Hears SIGTERM and SIGINT while it is entered (`with`). A process whose launcher died is stopped too: nobody else would end it."""

    def __init__(self) -> None:
        self.heard = 0
        self.at_once = False
        self.before: dict[int, Any] = {}
        self.launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None

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

    def error(self) -> StoppedTrainingError:
        number = self.heard or signal.SIGTERM  # another process heard it
        return StoppedTrainingError(f"stopped by {signal.Signals(number).name}, a checkpoint is written: the same command goes on", number)

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
