"""Which errors are the machine's and none of the input's: then what is done stands, and the same command goes on."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from recllm.errors import StoppedError

GO_ON = "the same command goes on where it stopped"


def stopped(error: BaseException) -> StoppedError | None:
    """An error of the machine (no disk, no memory) as one line, or None for any other."""
    words = " ".join(str(error).split())
    if getattr(error, "errno", None) in (28, 122) or "No space left" in words or "max_temp_directory_size" in words:
        return StoppedError(f"the disk is full ({words[:160]}): free some room, {GO_ON}")
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return StoppedError(f"not enough memory ({words[:160]}): raise data.memory, or lower data.workers; {GO_ON}")
    return None


@contextmanager
def stoppable(name: str) -> Iterator[None]:
    """SIGTERM ends as ctrl-C does: the workers with it, and in one line. Raises StoppedError."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        raise StoppedError(f"{name}: stopped: the same command goes on where it stopped") from None
    finally:
        signal.signal(signal.SIGTERM, before)
