"""The folder in which a preparation is made: locked, resumable, and put in the place of the old one only when it is whole.

`<name>/.prepared.work` holds what finished tasks made and, for each, `done/<stage>-<index>.json` with its result, written last. A run that
was killed is called again: tasks with a marker are not done again, and what stands without one is written anew.
"""

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from recllm.data.executors import Executor
from recllm.data.whole import flush, whole_file
from recllm.errors import DataError, StoppedError

Result = TypeVar("Result")
STAGES = ("buckets", "dropped", "data", "partial", "candidates", "spill", "done")
FINGERPRINT = "fingerprint"
GO_ON = "the same command goes on where it stopped"


def stopped(error: BaseException) -> StoppedError | None:
    """An error of the machine (no disk, no memory) as one line, or None for any other."""
    words = " ".join(str(error).split())
    if getattr(error, "errno", None) in (28, 122) or "No space left" in words or "max_temp_directory_size" in words:
        return StoppedError(f"the disk is full ({words[:160]}): free some room, {GO_ON}")
    if isinstance(error, MemoryError | duckdb.OutOfMemoryException):
        return StoppedError(f"not enough memory ({words[:160]}): raise data.memory, or lower data.workers; {GO_ON}")
    return None


@dataclass(frozen=True)
class Once:
    """A stage that keeps its result, so that no finished task is done twice. Pickled to wherever the executor runs it."""

    stage: Callable[[Any], Any]
    folder: Path

    @property
    def __name__(self) -> str:  # the executor's progress bar says it
        return self.stage.__name__

    def marker(self, index: int) -> Path:
        return self.folder / "done" / f"{self.stage.__name__}-{index}.json"

    def __call__(self, task: Any) -> None:
        try:
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

    @classmethod
    def restore(cls, target: Path) -> None:
        """Put the old folder back where a run was killed between the two renames of `finish`: for who reads the target first."""
        work = cls(target, "")
        if work.old.exists() and not target.exists():
            work._take_lock()
            try:
                if work.old.exists() and not target.exists():
                    work.old.rename(target)
            finally:
                work.lock.unlink(missing_ok=True)
                os.close(work.handle)

    def __enter__(self) -> "Work":
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if self.old.exists():  # killed between the two renames of `finish`, or just behind them
            shutil.rmtree(self.old) if self.target.exists() else self.old.rename(self.target)
        mark = self.folder / FINGERPRINT
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == self.mark):
            shutil.rmtree(self.folder, ignore_errors=True)
        for part in self.folder.rglob(".*.part"):  # of killed tasks: nobody else writes here
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        for name in STAGES:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not mark.is_file():
            with whole_file(mark) as part:
                part.write_text(self.mark, encoding="utf-8")
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        shutil.rmtree(self.folder / "spill", ignore_errors=True)
        if isinstance(error, DataError) and not isinstance(error, StoppedError):
            shutil.rmtree(self.folder, ignore_errors=True)  # the input's fault: nothing of it is of use
        self.lock.unlink(missing_ok=True)
        os.close(self.handle)
        if isinstance(error, DataError) and not any(self.target.parent.iterdir()):
            self.target.parent.rmdir()
        if error is not None and (known := stopped(error)):
            raise known from None

    def _take_lock(self) -> None:
        """Hold the lock file until the end. Raises StoppedError where another run does."""
        while True:
            self.handle = os.open(self.lock, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
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
        once = Once(stage, self.folder)
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
        """Leave only the entries `keep`, and put the folder in the target's place; the old one goes when the new one stands."""
        with whole_file(self.folder / "done" / "whole") as part:
            part.write_text("", encoding="utf-8")
        for entry in sorted(self.folder.iterdir()):
            if entry.name not in (*keep, "done", FINGERPRINT):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for folder in (self.folder, *(p for p in self.folder.rglob("*") if p.is_dir())):
            flush(folder)
        if self.target.exists():
            self.target.rename(self.old)
        self.folder.rename(self.target)
        flush(self.target.parent)
        shutil.rmtree(self.old, ignore_errors=True)
