"""Executors: one contract for all of them, then what each one alone can get wrong."""

import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from recllm.config import DataConfig
from recllm.data.executors import LocalExecutor, RayExecutor, SparkExecutor, executor_of
from recllm.data.scatter import ScatterResult, ScatterTask, scatter
from recllm.errors import DataError, WorkerError
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


def linger(folder: str) -> None:
    """Writes which process it is and works for a minute."""
    (Path(folder) / "part").write_text(str(os.getpid()))
    (Path(folder) / "part").rename(Path(folder) / "pid")
    time.sleep(60)


def linger_or_fail(argument: tuple[str, bool]) -> None:
    """The second fails as soon as the first is at work."""
    folder, fail = argument
    if not fail:
        linger(folder)
    wait_for((Path(folder) / "pid").is_file)
    raise DataError("no such file")


def wait_for(condition, seconds=30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.05)


def gone(folder: Path) -> bool:
    """Whether the lingering process has ended."""
    return not psutil.pid_exists(int((folder / "pid").read_text()))


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
        said = r"^die: expected every worker to answer, found one .*because memory ran out: lower data.workers \(now 2\) or data.memory"
        with pytest.raises(WorkerError, match=said) as caught:
            executor.run(die, [0, 1])
        assert "\n" not in str(caught.value) and caught.value.__suppress_context__

    def test_the_first_error_stops_what_still_runs(self, executor, tmp_path):
        # given a task that works for a minute, and one that fails meanwhile
        begun = time.monotonic()
        with pytest.raises(DataError, match="^no such file$"):
            executor.run(linger_or_fail, [(str(tmp_path), False), (str(tmp_path), True)])
        # then nobody waited for the long one, and it is no longer at work
        assert time.monotonic() - begun < 30
        wait_for(lambda: gone(tmp_path), 10)

    def test_relative_paths_mean_the_same_in_a_worker(self, executor, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert set(executor.run(folder_of, [0, 1])) == {str(tmp_path)}

    def test_tasks_with_a_config_and_their_results_travel(self, executor, shop):
        config = shop(small_log())
        found = executor.run(scatter, [ScatterTask(config, path, path, 0, 0, None, 1) for path in config.data.interactions * 2])
        hours = {1_700_000_000 // 3600 + 2 * k: 12 for k in range(12)}
        assert found == [ScatterResult(144, {}, {}, [], hours, 144)] * 2


class TestLocal(Contract):
    @pytest.fixture
    def executor(self):
        return LocalExecutor(2)

    def test_one_argument_gives_one_result(self, executor):
        assert executor.run(late_square, [7]) == [(49, os.getpid())]  # in this process: starting another takes longer


@pytest.fixture(scope="module")
def ray():
    """One session for all tests: it must live on through errors and killed workers."""
    with RayExecutor(2) as executor:
        yield executor
        assert executor.ray.is_initialized()
    assert not executor.ray.is_initialized()


class TestRay(Contract):
    @pytest.fixture
    def executor(self, ray):
        return ray

    def test_a_session_that_is_there_is_taken_and_left(self, executor):
        assert executor_of(DataConfig(interactions="log.csv", executor="ray", workers=7)).run(abs, [-1, -2]) == [1, 2]
        assert executor.ray.cluster_resources()["CPU"] == 2


@pytest.fixture(scope="module")
def spark():
    """One context for all tests: it must live on through errors and killed workers."""
    with SparkExecutor(2, **{"spark.app.name": "nightly", "spark.eventLog.enabled": False}) as executor:
        yield executor
        assert executor.run(abs, [-1]) == [1]


@needs_java
class TestSpark(Contract):
    @pytest.fixture
    def executor(self, spark):
        return spark

    def test_a_context_that_is_there_is_taken_and_left(self, executor):
        from pyspark import SparkContext

        context = SparkContext.getOrCreate()
        assert executor_of(DataConfig(interactions="log.csv", executor="spark", workers=7)).run(abs, [-1, -2]) == [1, 2]
        assert SparkContext.getOrCreate() is context

    def test_settings_reach_spark(self, executor):
        from pyspark import SparkContext

        context = SparkContext.getOrCreate()
        assert (context.appName, context.master, context.getConf().get("spark.eventLog.enabled")) == ("nightly", "local[2]", "false")
