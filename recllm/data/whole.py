"""Files that are either whole or not there: written aside under a temporary name, flushed to
the disk and renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def flush(path: Path) -> None:
    """Make sure that a file's, or a folder's, content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _at_work(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of somebody else
        return True
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete the parts that killed processes left below a folder; those of running ones stay."""
    for part in folder.rglob(".*.part"):
        number = part.name.split(".")[-2]
        if not (number.isdecimal() and _at_work(int(number))):
            part.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` at the end; after an error `path` is as it was before."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # several processes may write the same file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy where links are not to be had; a target that stands stays. For files that are
    replaced and never written to, as those of a prepared folder are."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with whole_file(target) as part:
            shutil.copy2(source, part)
