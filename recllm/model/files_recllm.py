"""Files and folders that are either whole or not there: written under a temporary name and renamed; arrays as they lie in a file."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import safe_open


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
    """A temporary folder to fill, which takes the place of `folder` at the end; after an error `folder` is as it was before."""
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def mapped_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped into memory: nothing is read before it is used, and processes share what they read.

    The map is private (whoever writes into an array gets his own copy of those pages, the file stays as it is) and lasts as long as one of
    the arrays; a file that is replaced by `whole_file` meanwhile changes none of them. Raises SafetensorError for a file that is cut off
    or of another kind, TypeError for one with a number that numpy has not.
    """
    with safe_open(path, framework="pt") as file:  # torch's tensors lie on the map, those of framework "np" are copies
        return {name: file.get_tensor(name).numpy() for name in file.keys()}
