"""What every executor shares: a call that catches its error on the spot, and the answers as they come in."""

import contextlib
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from tqdm import tqdm

from recllm.errors import DataError, RecllmError, WorkerError


class WorkerTraceback(Exception):
    """The traceback of an unexpected error as it stood in the worker: text, for tracebacks do not pickle."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Answer:
    """What one call gave: a value, or its error with the worker's traceback."""

    value: Any = None
    error: Exception | None = None
    trace: str = ""

    def open(self) -> Any:
        """The value. Raises the error as the worker did; an unexpected one has the worker's traceback as its cause."""
        if self.error is not None:
            raise self.error from (None if isinstance(self.error, RecllmError) else WorkerTraceback(self.trace))
        return self.value


def attempt(function: Callable[[Any], Any], folder: str, argument: Any) -> Answer:
    """One call in a worker, in the caller's working folder, so that relative paths mean what they mean there.

    Frameworks wrap the errors of their tasks, each in its own way; caught here and sent as a value they come back as they were.
    """
    if not os.path.isdir(folder):
        return Answer(error=DataError(f"data.executor: expected the folder {folder} on every worker, found none on {os.uname().nodename}: "
                                      f"workers of a cluster need one file system, mounted under the same path"))
    try:
        with contextlib.chdir(folder):
            answer = Answer(function(argument))
    except Exception as error:
        answer = Answer(error=error, trace=traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(answer))
        return answer
    except Exception as problem:
        what = type(answer.value if answer.error is None else answer.error).__name__
        text = f"{what} cannot be sent back from a worker ({type(problem).__name__}: {problem})"
        return Answer(error=RuntimeError(f"{text}; it said: {answer.error}" if answer.error else text), trace=answer.trace)


def calling(function: Callable[[Any], Any]) -> Callable[[Any], Answer]:
    """What a worker calls with each argument."""
    return partial(attempt, function, os.getcwd())


def name_of(function: Callable[[Any], Any]) -> str:
    return getattr(function, "__name__", "task")


def bar(function: Callable[[Any], Any], total: int) -> dict[str, Any]:
    """The progress bar's settings: named after the function, shown only where it takes a while."""
    return {"total": total, "desc": name_of(function), "delay": 2, "leave": False}


def collect(function: Callable[[Any], Any], futures: Sequence["Future[Answer]"]) -> list[Any]:
    """The values in the order of the futures; raises the first error as soon as it is there."""
    places = {future: place for place, future in enumerate(futures)}
    values: list[Any] = [None] * len(futures)
    for future in tqdm(as_completed(futures), **bar(function, len(futures))):
        values[places[future]] = future.result().open()
    return values


def killed(function: Callable[[Any], Any], found: str, remedy: str) -> WorkerError:
    return WorkerError(f"{name_of(function)}: expected every worker to answer, found {found}, most likely because memory ran out: {remedy}")


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Ray and Spark set signal handlers of their own and leave them there, where they act on a session that is gone."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():
                signal.signal(number, handler)
