"""Files and folders that are either whole or not there: written aside under a temporary name, flushed to
the disk and renamed."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of `folder` at the end; after an error, ctrl-C among them, `folder` is as it was
    before. What killed processes left beside it goes first; the old folder, where one of them had set it aside, is put back."""
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    _clear(folder)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.exists() and not folder.exists():  # stopped between the two renames
            old.rename(folder)
        _discard(part)
        _discard(old)


def _clear(folder: Path) -> None:
    """Remove what dead processes left of `folder`, put back the old one where it was set aside; what live ones write stays."""
    names = re.compile(rf"\.{re.escape(folder.name)}\.([0-9]+)\.(part|old)")
    found = [(path, match) for path in folder.parent.glob(".*") if (match := names.fullmatch(path.name)) and path.is_dir()]
    # a name with our own number was left by a process of before that had it too
    left = [(path, match[2]) for path, match in found if int(match[1]) == os.getpid() or not _at_work(int(match[1]))]
    with suppress(FileNotFoundError):  # another process does the same
        # the one that was set aside last, first
        for path, end in sorted(left, key=lambda one: (one[1] == "old", -one[0].stat().st_ctime_ns)):
            if end == "old" and not folder.exists():
                path.rename(folder)
            else:
                _discard(path)


def _discard(folder: Path) -> None:
    """Delete a folder, or a link to one. An old one is renamed first: what a kill leaves of it is then never put back."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(folder if part.exists() else folder.rename(part), ignore_errors=True)


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
