"""The folder in which a preparation is made: locked, resumable, and put in the place of the old one only when it is whole.

`<name>/.prepared.work` holds what finished tasks made and, for each, `done/<stage>-<index>.json` with its result, written last. A run that
was killed is called again: tasks with a marker are not done again, and what stands without one is written anew.
A killed main process may leave tasks at work (of Ray or Spark above all): each holds the file `run`, and one of another run does not begin.
"""

import fcntl
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from recllm.data.executors import Executor
from recllm.data.stopped import stopped
from recllm.data.whole import flush, whole_file
from recllm.errors import DataError, StoppedError

Result = TypeVar("Result")
STAGES = ("buckets", "dropped", "data", "partial", "candidates", "spill", "done")
FINGERPRINT = "fingerprint"
RUN = "run"  # whose work it is: locked shared by each task, and exclusively by a run that begins
PATIENCE = 60.0  # seconds for the tasks of a killed run to end


def discard(folder: Path) -> None:
    """Delete a folder, its fingerprint first: what a kill leaves of it is then never taken for whole."""
    (folder / FINGERPRINT).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _at_work(folder: Path, run: str) -> Iterator[None]:
    """Around a task: no other run begins meanwhile. Raises StoppedError where one has."""
    with (folder / RUN).open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if file.read() != run:
            raise StoppedError(f"{folder}: another run has begun here: this one ends")
        yield


@dataclass(frozen=True)
class Once:
    """A stage that keeps its result, so that no finished task is done twice. Pickled to wherever the executor runs it."""

    stage: Callable[[Any], Any]
    folder: Path
    run: str

    @property
    def __name__(self) -> str:  # the executor's progress bar says it
        return self.stage.__name__

    def marker(self, index: int) -> Path:
        return self.folder / "done" / f"{self.stage.__name__}-{index}.json"

    def __call__(self, task: Any) -> None:
        try:
            with _at_work(self.folder, self.run):
                plain = asdict(self.stage(task))
                with whole_file(self.marker(task.index)) as part:
                    part.write_text(json.dumps(plain), encoding="utf-8")
        except (OSError, MemoryError, duckdb.Error) as error:
            if known := stopped(error):
                raise known from None
            raise


class Work:
    """`with Work(target, mark) as work`: one run at a time; `mark` says what the result depends on; what was made for another one is
    thrown away."""

    def __init__(self, target: Path, mark: str) -> None:
        self.target, self.mark = target, mark
        self.folder = target.with_name(f".{target.name}.work")
        self.old = target.with_name(f".{target.name}.old")
        self.lock = target.with_name(f".{target.name}.lock")
        self.id = uuid.uuid4().hex

    @classmethod
    def restore(cls, target: Path) -> None:
        """Put the old folder back where a run was killed between the two renames of `finish`: for who reads the target first."""
        work = cls(target, "")
        if (work.old / FINGERPRINT).is_file() and not target.exists():
            work._take_lock()
            try:
                if (work.old / FINGERPRINT).is_file() and not target.exists():
                    work.old.rename(target)
            finally:
                work._leave_lock()

    def __enter__(self) -> "Work":
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _begin(self) -> None:
        self._restore()
        self._outlive_tasks()
        mark = self.folder / FINGERPRINT
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == self.mark):
            discard(self.folder)
        shutil.rmtree(self.folder / "spill", ignore_errors=True)
        for part in list(self.folder.rglob(".*.part")):  # of killed tasks: nobody else writes here
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        for name in STAGES:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / RUN).write_text(self.id, encoding="utf-8")
        if not mark.is_file():
            with whole_file(mark) as part:
                part.write_text(self.mark, encoding="utf-8")

    def _restore(self) -> None:
        """What was killed between the two renames of `finish`, or just behind them."""
        if (self.old / FINGERPRINT).is_file() and not self.target.exists():
            self.old.rename(self.target)
        elif self.old.exists():
            discard(self.old)

    def _outlive_tasks(self) -> None:
        """Wait for tasks that a killed run left at work; from then on none of it begins. Raises StoppedError after PATIENCE."""
        if not (self.folder / RUN).is_file():
            return
        end = time.monotonic() + PATIENCE
        with (self.folder / RUN).open("r+b") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise StoppedError(f"{self.folder}: tasks of a run that was killed are still at work: stop them, or wait") from None
                    time.sleep(0.05)
            file.truncate(0)

    def tidy(self) -> None:
        """Remove what a run that was killed at its very end left beside its finished folder, unless another run is at work."""
        if self.old.exists() or self.lock.exists():
            try:
                self._take_lock()
            except StoppedError:
                return
            self._restore()
            self._leave_lock()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        shutil.rmtree(self.folder / "spill", ignore_errors=True)
        if isinstance(error, DataError) and not isinstance(error, StoppedError):
            discard(self.folder)  # the input's fault: nothing of it is of use
        self._leave_lock()
        if isinstance(error, DataError) and not any(self.target.parent.iterdir()):
            self.target.parent.rmdir()
        if error is not None and (known := stopped(error)):
            raise known from None

    def _leave_lock(self) -> None:
        self.lock.unlink(missing_ok=True)
        os.close(self.handle)

    def _take_lock(self) -> None:
        """Hold the lock file until the end. Raises StoppedError where another run does."""
        while True:
            self.handle = os.open(self.lock, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(self.handle, 200).decode(errors="replace") or "unknown"
                os.close(self.handle)
                raise StoppedError(f"{self.target}: another run is writing it ({owner}): wait for it, or stop it") from None
            if self.lock.exists() and os.fstat(self.handle).st_ino == self.lock.stat().st_ino:
                break
            os.close(self.handle)  # the last owner removed the file between our two calls
        os.truncate(self.handle, 0)
        os.write(self.handle, f"process {os.getpid()} on {socket.gethostname()}".encode())

    def run(self, executor: Executor, stage: Callable[[Any], Result], tasks: Sequence[Any], made: type[Result],
            say: Callable[[str], None]) -> list[Result]:
        """The results of all tasks, in order; those that were done before are read and not done again."""
        once = Once(stage, self.folder, self.id)
        open_tasks = [task for task in tasks if not once.marker(task.index).is_file()]
        if len(open_tasks) < len(tasks):
            say(f"{once.__name__}: {len(tasks) - len(open_tasks)} of {len(tasks)} tasks were done before")
        executor.run(once, open_tasks)
        return [made(**json.loads(once.marker(task.index).read_text(encoding="utf-8"))) for task in tasks]

    @property
    def whole(self) -> bool:
        """Whether every step was done, and a run was killed in `finish`: what the steps read may be gone by now."""
        return (self.folder / "done" / "whole").is_file()

    def finish(self, keep: Sequence[str]) -> None:
        """Leave only the entries `keep` that are not empty, and put the folder in the target's place; the old one goes when the new one
        stands. Between the two renames the old one stands aside, where the next run finds it."""
        with whole_file(self.folder / "done" / "whole") as part:
            part.write_text("", encoding="utf-8")
        for entry in sorted(self.folder.iterdir()):
            if entry.name not in (*keep, "done", FINGERPRINT) or entry.is_dir() and not any(entry.iterdir()):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for folder in (self.folder, *(p for p in self.folder.rglob("*") if p.is_dir())):
            flush(folder)
        if self.target.exists():
            self.target.rename(self.old)
        self.folder.rename(self.target)
        flush(self.target.parent)
        discard(self.old)
