"""Spark as executor: a context of this machine for the time of a run, a cluster's (`data.executor_options.master`), or the caller's."""

import os
import re
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from recllm.data.executors.answers import Answer, calling, collect, handlers_kept, killed
from recllm.errors import DataError, MissingExtraError

JAVA = "apt-get install openjdk-17-jre-headless"
QUIET = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "OFF",
         "spark.task.maxFailures": "1"}  # no retry: a task that died half-way has left half its files
HERE = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.memory": "512m"}


class SparkExecutor:
    """One job of one task an argument, so that errors arrive one by one and the first stops the rest.

    `options`: `master`, and settings by name (`spark.…`). Where a context is active, that one is used and the options are not.
    """

    def __init__(self, workers: int = 2, **options: Any) -> None:
        try:
            import pyspark
        except ImportError:
            raise MissingExtraError("data.executor: pyspark is not installed: pip install 'recllm[spark]'") from None
        home = os.environ.get("JAVA_HOME")
        if not shutil.which("java", path=f"{home}/bin" if home else None):
            raise DataError(f"data.executor: spark needs Java 17 or later, found no java in {f'{home}/bin' if home else 'PATH'}: {JAVA}")
        self.pyspark, self.workers, self.options, self._opened = pyspark, workers, options, ExitStack()

    def run(self, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        if not arguments:
            return []
        if self._active:
            return self._run(self._active, function, arguments)
        with self:
            return self._run(self._active, function, arguments)

    @property
    def _active(self) -> Any:
        return self.pyspark.SparkContext._active_spark_context  # there is no public way to ask without starting one

    def __enter__(self) -> "SparkExecutor":
        """One context for several runs, the caller's where there is one."""
        if not self._active:
            with ExitStack() as opening:
                opening.enter_context(handlers_kept())
                opening.enter_context(self._context())
                self._opened = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def _run(self, context: Any, function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[Any]:
        from py4j.protocol import Py4JJavaError

        call, tag = calling(function), f"recllm-{uuid.uuid4().hex}"

        def job(argument: Any) -> Answer:
            context.addJobTag(tag)
            found: Answer = context.parallelize([argument], 1).map(call).collect()[0]
            return found

        # a cluster may still be gathering its cores: jobs over their number wait in Spark's queue
        threads = ThreadPoolExecutor(min(len(arguments), max(self.workers, context.defaultParallelism)))
        try:
            return collect(function, [threads.submit(job, argument) for argument in arguments])
        except BaseException as error:
            threads.shutdown(wait=False, cancel_futures=True)
            context.cancelJobsWithTag(tag)
            if isinstance(error, Py4JJavaError) and re.search("exited unexpectedly|ExecutorLostFailure|SparkOutOfMemory", str(error)):
                raise killed(function, "one killed by the system",
                             f"lower data.workers (now {self.workers}) or data.memory, or take nodes with more of it") from None
            raise
        finally:
            threads.shutdown()

    @contextmanager
    def _context(self) -> Iterator[Any]:
        """A context in a Java machine of its own, both gone afterwards. Raises DataError where the options start none."""
        from pyspark.java_gateway import launch_gateway

        spark, conf = self.pyspark.SparkContext, self.pyspark.SparkConf().setAppName("recllm")
        master = self.options.get("master", f"local[{self.workers}]")
        settings = QUIET | (HERE | {"spark.executorEnv.PYTHONPATH": os.pathsep.join(sys.path)} if master.startswith("local") else {})
        settings |= {name: value for name, value in self.options.items() if name != "master"}
        for name, value in settings.items():
            conf.set(name, str(value).lower() if isinstance(value, bool) else str(value))
        kept, gateway, context = spark._gateway, None, None
        with tempfile.TemporaryFile("w+") as words:  # what Java says, for the case that it does not start
            try:
                gateway = kept or launch_gateway(conf, {"stderr": words})
                with warnings.catch_warnings():  # it warns of a pandas that it has not tried; no frame of ours passes through it
                    warnings.simplefilter("ignore", FutureWarning)
                    context = spark(master=master, gateway=gateway, conf=conf)
            except Exception as error:
                words.seek(0)
                said = re.findall(r"\S*(?:Exception|Error): .*", f"{error}\n{words.read()}") or [str(error).splitlines()[0]]
                raise DataError(f"data.executor_options: expected what Spark (on Java 17 or later) can start with, "
                                f"found {self.options}: {said[-1]}") from None
            finally:
                if context is None:
                    self._close(gateway, kept)
            context.pythonExec = os.environ.get("PYSPARK_PYTHON", sys.executable)
            try:
                yield context
            finally:
                context.stop()
                self._close(gateway, kept)

    def _close(self, gateway: Any, kept: Any) -> None:
        """End the Java machine unless it was there before: it would keep some 300 MB to the end of the process."""
        if gateway is None or kept is not None:
            return
        gateway.shutdown()
        gateway.proc.stdin.close()  # on which it ends
        gateway.proc.wait(30)
        self.pyspark.SparkContext._gateway = self.pyspark.SparkContext._jvm = None
