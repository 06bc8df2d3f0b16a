"""Ray as executor: a cluster of this machine for the time of a run, one that `data.executor_options.address` names, or the caller's."""

import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from recllm.data.executors.answers import attempt, collect, handlers_kept, killed
from recllm.errors import DataError, MissingExtraError

STORE = 128 * 2**20  # bytes of the object store: only tasks and counts pass through it
SECONDS = 10.0  # to reach a cluster; Ray itself would try for minutes


class RayExecutor:
    """One task an argument. `options` are those of `ray.init`, `address` above all; in a session that is there they are not used."""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        try:
            import ray
        except ImportError:
            raise MissingExtraError("data.executor: ray is not installed: pip install 'recllm[ray]'") from None
        self.ray, self.workers, self.options, self._opened = ray, workers, options, ExitStack()

    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        if not arguments:
            return []
        if self.ray.is_initialized():
            return self._run(function, arguments)
        with self:
            return self._run(function, arguments)

    def __enter__(self) -> "RayExecutor":
        """One session for several runs, the caller's where there is one."""
        if not self.ray.is_initialized():
            with ExitStack() as opening:
                opening.enter_context(handlers_kept())
                opening.callback(self.ray.shutdown)
                self._start()
                self._opened = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def _run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        ray = self.ray
        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError,
                ray.exceptions.LocalRayletDiedError)
        task = ray.remote(num_cpus=1, max_retries=0)(attempt)  # no retry: a task that died half-way has left half its files
        references = [task.remote(function, os.getcwd(), argument) for argument in arguments]
        try:
            return collect(function, [reference.future() for reference in references])
        except BaseException as error:
            for reference in references:  # nothing of ours may go on in a session of the caller's
                ray.cancel(reference, force=True)
            if isinstance(error, lost):
                raise killed(function, f"one lost ({type(error).__name__})",
                             f"lower data.workers (now {self.workers}) or data.memory, or take nodes with more of it") from None
            raise

    def _start(self) -> None:
        """Start or join a cluster. Raises DataError where the options lead to none."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"address": "local", "log_to_driver": False, "logging_level": logging.ERROR} | self.options
        if options["address"] == "local":
            options = {"num_cpus": self.workers, "object_store_memory": STORE, "include_dashboard": False} | options
        try:
            host, _, port = options["address"].removeprefix("ray://").rpartition(":")
            if host:
                socket.create_connection((host, int(port)), SECONDS).close()
            self.ray.init(**options)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise DataError(f"data.executor_options: expected what ray.init can start with, found {self.options}: "
                            f"{str(error).strip().splitlines()[0]}") from None
