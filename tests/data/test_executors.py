"""Executors: one contract for all of them, then what each one alone can get wrong."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from recllm.config import DataConfig
from recllm.data.executors import LocalExecutor, RayExecutor, SparkExecutor, executor_of
from recllm.data.scatter import ScatterResult, ScatterTask, scatter
from recllm.errors import DataError, MissingExtraError, WorkerError
from tests.conftest import small_log

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no java on this machine")


class Inexplicable(Exception):
    """An error that does not survive pickling: it wants two arguments and keeps one."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what)


def late_square(number: int) -> tuple[int, int]:
    """The first arguments answer last."""
    time.sleep(0.3 / (number + 1))
    return number * number, os.getpid()


def refuse(number: int) -> int:
    if number == 1:
        raise DataError(f'column "clck" is not in log-{number}.csv. Did you mean "click"?')
    return number


def stumble(number: int) -> float:
    return 1 / number


def puzzle(number: int) -> None:
    raise Inexplicable("lost the thread", "here")


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def folder_of(number: int) -> str:
    return os.getcwd()


def linger(path: str) -> None:
    """Half a minute of work, or an error at once; the mark says that a run was not stopped."""
    if path == "fail":
        time.sleep(1)
        raise DataError("no such file")
    Path(path).with_suffix(".started").touch()
    time.sleep(20)
    Path(path).touch()


class Contract:
    """What an executor must do: a new one subclasses this with its own `executor`."""

    @pytest.fixture
    def executor(self):
        raise NotImplementedError

    def test_results_are_in_the_order_of_the_arguments_and_come_from_other_processes(self, executor):
        squares, workers = zip(*executor.run(late_square, range(5)), strict=True)
        assert squares == (0, 1, 4, 9, 16)
        assert os.getpid() not in workers

    def test_no_argument_gives_no_result(self, executor):
        assert executor.run(late_square, []) == []

    def test_one_argument_gives_one_result(self, executor):
        assert [square for square, _ in executor.run(late_square, [7])] == [49]

    def test_an_error_of_the_input_comes_back_as_it_was_raised(self, executor):
        with pytest.raises(DataError) as caught:
            executor.run(refuse, [0, 1, 2])
        assert type(caught.value) is DataError
        assert str(caught.value) == 'column "clck" is not in log-1.csv. Did you mean "click"?'
        assert caught.value.__cause__ is None

    def test_an_unexpected_error_keeps_its_type_and_shows_where_in_the_worker_it_arose(self, executor):
        with pytest.raises(ZeroDivisionError, match="^division by zero$") as caught:
            executor.run(stumble, [1, 0])
        assert "in stumble\n    return 1 / number" in str(caught.value.__cause__)

    def test_an_error_that_does_not_pickle_comes_back_in_words(self, executor):
        with pytest.raises(RuntimeError, match="Inexplicable cannot be sent back from a worker .*it said: lost the thread"):
            executor.run(puzzle, [0, 1])

    def test_a_killed_worker_is_one_line_that_says_what_to_do(self, executor):
        with pytest.raises(WorkerError, match=r"^die: expected every worker to answer, found one .*: lower data.workers \(now 2\)") as caught:
            executor.run(die, [0, 1])
        assert "\n" not in str(caught.value) and caught.value.__suppress_context__

    def test_the_first_error_stops_what_still_runs(self, executor, tmp_path):
        # given one task that fails at once beside one that would take long
        begun = time.monotonic()
        with pytest.raises(DataError, match="no such file"):
            executor.run(linger, [str(tmp_path / "done"), "fail"])
        # then nobody waited for the long one, and it ended before its end
        assert (tmp_path / "done.started").exists()
        assert time.monotonic() - begun < 15
        assert not (tmp_path / "done").exists()

    def test_relative_paths_mean_the_same_in_a_worker(self, executor, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert set(executor.run(folder_of, [0, 1])) == {str(tmp_path)}

    def test_tasks_with_a_config_and_their_results_travel(self, executor, shop, monkeypatch):
        config = shop(small_log())
        found = executor.run(scatter, [ScatterTask(config, path, 0, None, 1) for path in config.data.interactions * 2])
        assert found == [ScatterResult(144, {}, {}, [])] * 2


class TestLocal(Contract):
    @pytest.fixture
    def executor(self):
        return LocalExecutor(2)

    def test_one_argument_gives_one_result(self, executor):
        assert executor.run(late_square, [7]) == [(49, os.getpid())]  # in this process: starting another takes longer


class TestRay(Contract):
    """In a session of the caller's, which must live on through errors and killed workers."""

    @pytest.fixture(scope="class")
    def session(self):
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20)
        yield
        assert ray.is_initialized()
        ray.shutdown()

    @pytest.fixture
    def executor(self, session):
        return RayExecutor(2)


@needs_java
class TestSpark(Contract):
    """In a context of the caller's, which must live on through errors and killed workers."""

    @pytest.fixture(scope="class")
    def session(self):
        executor = SparkExecutor(2)
        with executor._context() as context:
            yield
            assert context.parallelize([1, 2]).sum() == 3

    @pytest.fixture
    def executor(self, session):
        return SparkExecutor(2)


@dataclass(frozen=True)
class Processes:
    """Names of this process's descendants."""

    names: frozenset[int]

    @classmethod
    def now(cls) -> "Processes":
        return cls(frozenset(p.pid for p in psutil.Process().children(recursive=True)))


def sessions() -> set[str]:
    """Names of the descendants of this process that are no Python of multiprocessing's own."""
    names = set()
    for child in psutil.Process().children(recursive=True):
        names.add(child.name())
    return names
