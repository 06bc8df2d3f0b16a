"""An executor is `run(function, arguments) -> list`, in order. Local processes are the default."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Protocol

from tqdm import tqdm


class Executor(Protocol):
    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """The function's results in the order of the arguments; the first error is raised."""
        ...


class LocalExecutor:
    """Processes of this machine; one worker, or one argument, runs in the caller's process."""

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers

    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        bar = {"total": len(arguments), "desc": getattr(function, "__name__", "task"), "delay": 2, "leave": False}
        if self.workers == 1 or len(arguments) < 2:
            return [function(argument) for argument in tqdm(arguments, **bar)]
        context = multiprocessing.get_context("spawn")  # a forked DuckDB or torch can hang
        with ProcessPoolExecutor(min(self.workers, len(arguments)), mp_context=context) as pool:
            return list(tqdm(pool.map(function, arguments), **bar))
