"""Sessions of Ray and Spark: started for a run and gone after it, or one line that says what is missing."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from recllm.config import DataConfig
from recllm.data.executors import LocalExecutor, RayExecutor, SparkExecutor, executor_of
from recllm.errors import DataError, MissingExtraError
from tests.data.test_executors import gone, needs_java, wait_for

EXECUTORS = ["local", "ray", pytest.param("spark", marks=needs_java)]


def interruptible() -> None:
    """A child of a background job ignores ctrl-C, and hands that on: one that is to be interrupted must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def handlers_stay():
    """Ctrl-C and SIGTERM mean afterwards what they meant before."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def data_config(executor: str, **more) -> DataConfig:
    return DataConfig(interactions="log.csv", executor=executor, **more)


@pytest.mark.parametrize(("name", "kind"), [("local", LocalExecutor), ("ray", RayExecutor),
                                            pytest.param("spark", SparkExecutor, marks=needs_java)])
def test_one_line_of_the_config_chooses_the_executor(name, kind):
    executor = executor_of(data_config(name, workers=3))
    assert type(executor) is kind
    assert executor.workers == 3


def test_local_processes_take_no_options():
    with pytest.raises(ValueError, match="expected no executor_options for executor: local"):
        data_config("local", executor_options={"address": "auto"})


@pytest.mark.parametrize("name", EXECUTORS)
def test_nothing_is_left_behind(name, handlers_stay):
    """Neither processes (Ray's servers, Spark's Java) nor signal handlers."""
    before = set(psutil.Process().children(recursive=True))
    assert executor_of(data_config(name)).run(abs, [-1, 2, -3]) == [1, 2, 3]
    left = set(psutil.Process().children(recursive=True)) - before
    assert [p.name() for p in left if "resource_tracker" not in " ".join(p.cmdline())] == []  # multiprocessing's own stays to the end


@pytest.mark.parametrize("name", EXECUTORS)
def test_ctrl_c_stops_the_workers(name, tmp_path):
    # given a run with a worker that has a minute of work
    script = f"""
from recllm.config import DataConfig
from recllm.data.executors import executor_of
from tests.data.test_executors import linger
if __name__ == "__main__":
    executor_of(DataConfig(interactions="log.csv", executor="{name}")).run(linger, ["{tmp_path}"] * 2)
"""
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                               stderr=subprocess.PIPE, text=True, preexec_fn=interruptible)
    wait_for((tmp_path / "pid").is_file, 60)
    # when the caller alone is interrupted
    process.send_signal(signal.SIGINT)
    # then it ends by it, and the worker too
    _, said = process.communicate(timeout=30)
    assert said.rstrip().endswith("KeyboardInterrupt")
    wait_for(lambda: gone(tmp_path), 10)


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    """Each worker imports the script and would start workers of its own; Python ends it."""
    (tmp_path / "script.py").write_text("from recllm.data.executors import LocalExecutor\nLocalExecutor(2).run(abs, [1, 2])\n")
    found = subprocess.run([sys.executable, str(tmp_path / "script.py")], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                           capture_output=True, text=True, timeout=60)
    assert "WorkerError: abs: expected every worker to answer, found one ended by exit code 1" in found.stderr
    assert "if __name__" in found.stderr.splitlines()[-1]


@pytest.mark.parametrize(("name", "module", "package"), [("ray", "ray", "ray"), ("spark", "pyspark", "pyspark")])
def test_a_missing_package_is_named_with_its_extra(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"^data.executor: {package} is not installed: pip install 'recllm\[{name}\]'$"):
        executor_of(data_config(name))


def test_spark_without_java_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(DataError, match="needs Java 17 or later, found no java in PATH: apt-get install openjdk-17-jre-headless$"):
        executor_of(data_config("spark"))


@pytest.mark.parametrize(("options", "reason"), [({"adress": "auto"}, "Unknown keyword argument.*adress"),
                                                 ({"address": "127.0.0.1:9"}, "Connection refused")])
def test_ray_that_does_not_start_says_why_in_one_line(options, reason, handlers_stay):
    with pytest.raises(DataError, match=rf"^data.executor_options: expected what ray.init can start with, found .*: .*{reason}.*$"):
        executor_of(data_config("ray", executor_options=options)).run(abs, [1])


@needs_java
def test_spark_that_does_not_start_says_why_in_one_line(handlers_stay):
    said = "^data.executor_options: expected what Spark .* can start with, found .*Could not parse Master URL.*$"
    with pytest.raises(DataError, match=said):
        executor_of(data_config("spark", executor_options={"master": "here"})).run(abs, [1])


@needs_java
def test_a_java_that_is_too_old_says_so_in_one_line(monkeypatch, tmp_path):
    # given a java that cannot load Spark's classes
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'Error: class file version 61.0 (java.lang.UnsupportedClassVersionError: up to 55.0)' >&2; exit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"Java 17 or later.*UnsupportedClassVersionError"):
        executor_of(data_config("spark")).run(abs, [1])
