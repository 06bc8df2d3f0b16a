"""Preparation goes on after anything: SIGKILL, within a rename too, SIGTERM, ctrl-C, a full disk, no memory, a second run beside it.

The few kills here are placed by renames and stages, so they are the same on every machine; `tests.data.kills.kills` strikes at random.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from recllm.config import load_config
from recllm.data import engine
from recllm.data.prepare import prepare
from recllm.data.work import RUN, Once, Work
from recllm.errors import StoppedError
from tests.data.kills import ROOT, Run, World, chain, files, finished, summary, survived, write_config, write_log

ROWS = 5_000


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A log with every stage of preparation, and what an undisturbed run makes of it."""
    base = tmp_path_factory.mktemp("kills")
    return World(write_config(base / "log.yaml", write_log(base / "raw", ROWS, 0), shards=3), base / "base", base)


@pytest.fixture(scope="module")
def older(world):
    """A prepared folder of the same log with another period: what stands before the runs here begin."""
    interactions = json.loads(world.config.read_text())["data"]["interactions"]
    config = write_config(world.base / "older.yaml", interactions, negatives=False, period=600)
    run = Run(config, world.base / "older")
    assert run.end()[0] == 0
    return run.folder / "prepared"


def wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.002)


def one_line(said):
    """The last line of stderr, which must be all that there is of an error."""
    assert "Traceback" not in said and "leaked" not in said, said
    return said.strip().splitlines()[-1]


def goes_on(world, runs):
    """The same command ends with the bytes of an undisturbed run, does no finished task again, and leaves nothing beside the folder."""
    done = finished(runs / "log")
    run = Run(world.config, runs)
    code, said = run.end()
    assert code == 0 and "Traceback" not in said, said
    assert files(run.folder / "prepared") == world.expected
    now = finished(run.folder)
    assert all(now[name] == moment for name, moment in done.items())
    assert [p.name for p in run.folder.iterdir()] == ["prepared"] and not run.left()


def test_every_stage_has_tasks_here(world):
    assert world.stages == ["scatter", "write_tables", "gather", "write_pool", "draw_negatives", "complete", "finish"]


def test_six_kills_of_one_preparation_lose_nothing(world, older):
    # given a prepared folder, and a run for another one that is killed within renames, six times one after another
    renames = ["after scatter-0.json main", "before gather-0.json worker", "before pool.npz all", "before prepared all",
               "after prepared all", "after prepared all"]
    aims = [{"kind": rename.split()[-1], "rename": rename} for rename in renames]
    log = chain(world, world.base / "runs", aims, older)
    # then what stood before stood until the end, the last run's bytes are those of an undisturbed one, no finished task was done twice
    assert [survived(entry, old=True) for entry in log] == [True] * 6, log
    found = summary([entry | {"survived": True} for entry in log])
    assert found["kills"] == 6 and found["during_rename"] == 6 and found["redone_share_max"] == 0
    # (the fifth is killed when it has put the old folder back, the sixth when it has put the new one in its place)
    assert [entry["stands"] for entry in log] == ["old", "old", "old", "old aside", "old", "new"]
    assert log[1]["line"].startswith("recllm: gather: expected every worker to answer, found one killed")


def test_two_runs_refuse_each_other_and_a_killed_one_blocks_nobody(world):
    # given a run that stands still in the middle
    runs = world.base / "two"
    first = Run(world.config, runs, "after scatter-0.json stop")
    wait(lambda: psutil.Process(first.process.pid).status() == psutil.STATUS_STOPPED)
    # when a second one begins
    second = Run(world.config, runs)
    code, said = second.end(60)
    # then it ends with one line
    assert code == 2 and f"prepared: another run is writing it (process {first.process.pid} on " in one_line(said)
    assert len(said.strip().splitlines()) == 1
    # and when the first is killed, its workers end with it and the same command goes on
    first.process.kill()
    os.killpg(first.process.pid, signal.SIGCONT)
    assert first.end()[0] == -signal.SIGKILL and not first.left()
    goes_on(world, runs)


def test_sigterm_and_ctrl_c_end_in_one_line_and_the_same_command_goes_on(world):
    runs = world.base / "stopped"

    def stops(run):
        code, said = run.end(60)
        assert code == 2 and one_line(said) == "recllm: prepare: stopped: the same command goes on where it stopped", said
        assert not run.left() and not (run.folder / ".prepared.lock").exists()

    starting = Run(world.config, runs)
    wait(starting.workers)  # which have only begun to import
    os.killpg(starting.process.pid, signal.SIGINT)
    stops(starting)
    for rename in ("after scatter-0.json term", "after listed-items.parquet term", "before gather-0.json int", "after pool.npz int"):
        stops(Run(world.config, runs, rename))
    goes_on(world, runs)


FULL = """
import json, os, shutil, subprocess, sys
from pathlib import Path
from tests.data.kills import files
disk, older, config, copy = map(Path, sys.argv[1:])
size = 256 * 1024
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
env, said, code = {**os.environ, "RECLLM_RUNS": str(disk)}, [], 2
old = files(older)
size += sum(p.stat().st_blocks * 512 for p in older.rglob("*")) + 200_000
subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
shutil.copytree(older, disk / "log" / "prepared")
while code == 2 and len(said) < 12:  # a little more room each time
    done = subprocess.run([sys.executable, "-m", "recllm", "prepare", config], env=env, capture_output=True, text=True)
    code = done.returncode
    said.append([done.stderr, files(disk / "log" / "prepared") == old])
    size += 400_000
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)
shutil.copytree(disk / "log", copy)
print(json.dumps([code, said]))
"""


def test_a_full_disk_is_one_line_and_with_more_room_the_same_command_goes_on(world, older, tmp_path):
    # given a small disk in memory of our own, on which each run finds a little more room than the last
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", tmp_path]).returncode:
        pytest.skip("neither root nor a name space of its own may mount a tmpfs here")
    (tmp_path / "disk").mkdir()
    done = subprocess.run(["unshare", "-rm", sys.executable, "-c", FULL, tmp_path / "disk", older, world.config, tmp_path / "copy"],
                          capture_output=True, text=True, cwd=ROOT, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    code, said = json.loads(done.stdout)
    # then all of them but the last say so in one line, and the folder of before stands
    assert code == 0 and len(said) > 2
    for text, stands in said[:-1]:
        line = one_line(text)
        assert line.startswith("recllm: the disk is full (") and line.endswith("the same command goes on where it stopped"), text
        assert stands
    assert files(tmp_path / "copy" / "prepared") == world.expected
    assert [p.name for p in (tmp_path / "copy").iterdir()] == ["prepared"]


def test_too_little_memory_is_one_line_and_with_more_the_same_call_goes_on(world, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path))
    config = load_config(world.config, ["data.workers=1", "data.memory=1MB"])
    with monkeypatch.context() as patch:
        patch.setattr(engine, "LEAST", engine.MIB)
        with pytest.raises(StoppedError, match="^not enough memory .*raise data.memory, or lower data.workers; the same command") as error:
            prepare(config)
        assert "\n" not in str(error.value)
    prepare(config)
    assert files(config.prepared) == world.expected


def test_tasks_that_a_killed_run_left_at_work_are_waited_for_and_begin_no_more(tmp_path, monkeypatch):
    # given a run that ended without its tasks, as on a cluster: one is at work, one is queued
    work = Work(tmp_path / "prepared", "mark").__enter__()
    work._leave_lock()
    queued = Once(print, work.folder, work.id)
    script = "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_SH); print('in', flush=True); time.sleep(60)"
    task = subprocess.Popen([sys.executable, "-c", script, str(work.folder / RUN)], stdout=subprocess.PIPE, text=True)
    try:
        assert task.stdout is not None and task.stdout.readline() == "in\n"
        # then the next run does not begin beside it
        monkeypatch.setattr("recllm.data.work.PATIENCE", 0.2)
        with pytest.raises(StoppedError, match="tasks of a run that was killed are still at work"):
            Work(tmp_path / "prepared", "mark").__enter__()
        assert not (tmp_path / ".prepared.lock").exists()
    finally:
        task.kill()
        task.wait()
    # and when it is over, the queued task finds that it is no longer wanted
    with Work(tmp_path / "prepared", "mark"), pytest.raises(StoppedError, match="another run has begun here"):
        queued(None)


def test_what_a_killed_deletion_left_is_taken_neither_for_work_nor_for_a_prepared_folder(tmp_path, monkeypatch):
    # given work for one configuration, and one for another that was killed while it threw that away
    with Work(tmp_path / "prepared", "one") as work:
        (work.folder / "buckets" / "0").mkdir()
        (work.folder / "done" / "scatter-0.json").write_text("{}", encoding="utf-8")

    delete = shutil.rmtree

    def killed(folder, **settings):
        if folder != work.folder:
            return delete(folder, **settings)
        delete(folder / "buckets")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        Work(tmp_path / "prepared", "another").__enter__()
    # then the first one's markers count no more
    with Work(tmp_path / "prepared", "one") as work:
        assert not list((work.folder / "done").iterdir())
    # and half of an old folder is not put back
    (tmp_path / ".prepared.old" / "data").mkdir(parents=True)
    with Work(tmp_path / "prepared", "one"):
        assert not (tmp_path / ".prepared.old").exists() and not (tmp_path / "prepared").exists()
