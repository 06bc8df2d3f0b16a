"""Processes of this machine, the default executor."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess, parent_process
from typing import Any

from tqdm import tqdm

from recllm.data.executors.answers import bar, calling, collect, killed, name_of
from recllm.errors import WorkerError

ENDS = {signal.SIGINT, signal.SIGTERM}


class LocalExecutor:
    """`workers` processes; one worker, or one argument, runs in the caller's process."""

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers

    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        if self.workers == 1 or len(arguments) < 2:
            return [function(argument) for argument in tqdm(arguments, **bar(function, len(arguments)))]
        context = multiprocessing.get_context("spawn")  # a forked DuckDB or torch can hang
        others, workers = set(multiprocessing.active_children()), set[BaseProcess]()
        pool = ProcessPoolExecutor(min(self.workers, len(arguments)), mp_context=context, initializer=_live_as_the_caller_does)
        try:
            # a worker that still starts would meet an interrupt with a traceback, and this process without knowing its workers
            kept = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
            try:
                futures = [pool.submit(calling(function), argument) for argument in arguments]
                workers = set(multiprocessing.active_children()) - others
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, kept)
            return collect(function, futures)
        except BrokenProcessPool:
            raise self._lost(function, workers) from None
        except BaseException:
            for worker in workers:  # or the pool would wait for what they are at
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _lost(self, function: Callable[[Any], Any], workers: set[BaseProcess]) -> WorkerError:
        """Why the pool broke. The pool itself ends the other workers by SIGTERM."""
        for worker in workers:
            worker.join(5)
        codes = {worker.exitcode or 0 for worker in workers} - {0, -signal.SIGTERM}
        if -signal.SIGKILL in codes or not codes:
            return killed(function, "one killed by the system", f"lower data.workers (now {self.workers}) or data.memory")
        ends = ", ".join(f"exit code {code}" if code > 0 else signal.Signals(-code).name for code in sorted(codes))
        return WorkerError(f"{name_of(function)}: expected every worker to answer, found one ended by {ends}, its own words are above: "
                           f"a script that prepares with several workers must keep its calls under `if __name__ == \"__main__\":`")


def _live_as_the_caller_does() -> None:
    """Ctrl-C reaches the whole group of processes; the caller ends its workers, and they need not say a word. A caller that was killed
    ends nobody: then they end by themselves, in the middle of their task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDS)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()


def _end_with_the_caller() -> None:
    caller = parent_process()
    if caller is not None:
        wait([caller.sentinel])
        os._exit(1)
