"""An executor is `run(function, arguments) -> list`, in order: processes of this machine, Ray, Spark (`data.executor`).

What goes to the workers and comes back is small: tasks that name files, counts as results. Rows stay in files, which all workers
must see under the same paths. Function and arguments must pickle, the function by its name in an importable module.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from recllm.config import DataConfig
from recllm.data.executors.local import LocalExecutor
from recllm.data.executors.ray_ import RayExecutor
from recllm.data.executors.spark import SparkExecutor

__all__ = ["Executor", "LocalExecutor", "RayExecutor", "SparkExecutor", "executor_of", "opened"]


class Executor(Protocol):
    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        """The function's results in the order of the arguments.

        The first error to arrive is raised as it was raised in the worker, and what still runs is stopped. Raises WorkerError where
        a worker was killed.
        """
        ...


def executor_of(data: DataConfig) -> Executor:
    """The executor that a config names. Raises MissingExtraError where its package is absent, DataError where Spark finds no Java."""
    if data.executor == "ray":
        return RayExecutor(data.workers, **data.executor_options)
    if data.executor == "spark":
        return SparkExecutor(data.workers, **data.executor_options)
    return LocalExecutor(data.workers)


def opened(executor: Executor) -> AbstractContextManager[Executor]:
    """`with opened(executor)`: one session of Ray or Spark for several runs; without it each run starts and ends its own."""
    return executor if isinstance(executor, RayExecutor | SparkExecutor) else nullcontext(executor)
