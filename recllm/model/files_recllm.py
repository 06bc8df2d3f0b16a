"""Files and folders that are either whole or not there: written under a temporary name and renamed; arrays as they lie in a file."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from safetensors import safe_open


def _at_work(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # of somebody else
        return True
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` at the end; after an error `path` is as it was before."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # several processes may write the same file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.rename(path)
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


def mapped_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped into memory: nothing is read before it is used, and processes share what they read.

    The map is private (whoever writes into an array gets his own copy of those pages, the file stays as it is) and lasts as long as one of
    the arrays; a file that is replaced by `whole_file` meanwhile changes none of them. Raises SafetensorError for a file that is cut off
    or of another kind, TypeError for one with a number that numpy has not.
    """
    with safe_open(path, framework="pt") as file:  # torch's tensors lie on the map, those of framework "np" are copies
        return {name: file.get_tensor(name).numpy() for name in file.keys()}
