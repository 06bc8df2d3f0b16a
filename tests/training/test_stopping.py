"""What ends a run from outside: a launcher that died, a process beside it, a disk that is full; and what is said of it."""

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from recllm.cli import main
from recllm.errors import FullDiskError, StoppedTrainingError, TrainingError
from recllm.feed.log import load_log
from recllm.training import checkpoint, stopping
from recllm.training.guards import left_alone
from recllm.training.loop import Trainer
from recllm.training.record import Record
from recllm.training.run import train
from recllm.training.setup import setup

ROOT = Path(__file__).parents[2]
GONE = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:51221"


def quiet(_: str) -> None:
    return None


@contextmanager
def files_of_at_most(size: int):
    """As a disk that is full, for real."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# ---- the launcher

CHILD = """
import os, sys, time
from pathlib import Path
import recllm.cli
folder, launcher = Path(sys.argv[1]), os.getppid()
(folder / "imported").touch()
while sys.argv[2] == "dies" and os.getppid() == launcher:
    time.sleep(0.02)
from recllm.training.stopping import Stop  # as a Trainer does, a while later
stop = Stop()
(folder / "part").write_text(f"{stop.asked()} {'torch' in sys.modules}")
(folder / "part").rename(folder / "said")
"""
LAUNCHER = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, *sys.argv[1:]])
while not (Path(sys.argv[2]) / "imported").exists():
    time.sleep(0.02)
if sys.argv[3] == "waits":
    child.wait()
"""


@pytest.mark.parametrize(("what", "asked"), [("dies", True), ("waits", False)])
def test_a_launcher_that_dies_before_a_trainer_is_made_is_missed(tmp_path, what, asked):
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHELASTIC_RUN_ID": "one"}
    command = [sys.executable, tmp_path / "launcher.py", tmp_path / "child.py", tmp_path, what]
    subprocess.run(command, env=environment, timeout=60, check=True)
    until = time.monotonic() + 60
    while not (tmp_path / "said").exists() and time.monotonic() < until:
        time.sleep(0.02)
    # then the run is asked to stop; and the command line needed no torch to know
    assert (tmp_path / "said").read_text() == f"{asked} False"


def test_a_process_that_is_forked_later_has_another_launcher_and_a_run_of_its_own_has_none(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert stopping.launcher() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setattr(stopping, "BORN", (os.getpid() + 1, 1))
    assert stopping.launcher() == os.getppid()


# ---- other processes


def fails(message: str, *, struck: bool):
    def step(self, *_):
        if struck:
            os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError(message)

    return step


def test_only_errors_of_processes_that_are_gone_are_taken_for_such():
    assert left_alone(RuntimeError(GONE)) and not left_alone(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(("struck", "kind", "status"), [(True, StoppedTrainingError, 143), (False, TrainingError, 2)])
def test_a_process_that_is_left_alone_claims_no_checkpoint(tiny, tmp_path, monkeypatch, struck, kind, status):
    """Whether or not the launcher's signal comes before the broken sum does."""
    trainer = Trainer(setup(tiny, load_log(tiny)), tmp_path / "run", 0)
    monkeypatch.setattr(Trainer, "_step", fails(GONE, struck=struck))
    trainer.ranks = 2
    with pytest.raises(TrainingError, match=r"another process of this launch ended \(see its output\).*Connection closed by peer.*: the "
                       "same command goes on from the last checkpoint, if there is one") as error:
        trainer.run()
    assert type(error.value) is kind and error.value.status == status
    assert not checkpoint.newest(trainer.folder)


def test_a_run_of_one_process_hides_no_error_behind_a_signal(tiny, monkeypatch):
    monkeypatch.setattr(Trainer, "_step", fails("mat1 and mat2 shapes cannot be multiplied", struck=True))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(tiny, say=quiet)


# ---- the disk


def test_a_stop_whose_checkpoint_has_no_room_says_so(tiny, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    step = Trainer._step

    def struck(self, *given):
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(checkpoint, "flush", full)
        step(self, *given)

    monkeypatch.setattr(Trainer, "_step", struck)
    with pytest.raises(FullDiskError, match="expected room for a checkpoint .* found No space left") as error:
        train(tiny, say=quiet)
    assert "is written" not in str(error.value)


def test_a_log_that_has_no_room_is_named_and_keeps_whole_lines(tmp_path):
    record = Record(tmp_path, True, [])
    record.begin([{"kind": "continued"}])
    before = (tmp_path / "log.jsonl").read_text()
    with files_of_at_most(40):
        for write in (lambda: record.log("evaluation", step=1, losses=[0.1] * 9), lambda: record.begin([{"kind": "evaluation"}] * 9)):
            with pytest.raises(FullDiskError, match=r"log.jsonl: expected room to write it, found File too large: .* free some room, and "):
                write()
    assert (tmp_path / "log.jsonl").read_text() == before
    # when there is room again
    record.log("evaluation", step=1)
    assert (tmp_path / "log.jsonl").read_text() == before + '{"kind": "evaluation", "step": 1}\n'


def test_a_disk_that_fills_up_between_a_checkpoint_and_its_line_ends_in_one_line_and_the_run_goes_on(tiny, tmp_path, monkeypatch, capsys):
    import yaml

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    evaluation = Record.evaluation

    def filled(self, *given):
        with files_of_at_most(30):
            evaluation(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "evaluation", filled)
        assert main(["train", str(path)]) == 2
    said = capsys.readouterr().err
    assert "log.jsonl: expected room to write it, found File too large" in said and "the same command goes on" in said
    assert main(["train", str(path)]) == 0
