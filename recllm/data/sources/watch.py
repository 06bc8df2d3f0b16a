"""Does a file stand still while it is read?"""

from pathlib import Path
from types import TracebackType

from recllm.errors import DataError


class Unchanged:
    """`with Unchanged(paths): read` raises DataError at the end where the size or the time of a file is no longer what it was.

    A reader's own DataError gives way to it: what looks like a broken file is then one that somebody was still writing.
    """

    def __init__(self, *paths: str | Path) -> None:
        self.paths = [Path(path) for path in paths]

    def __enter__(self) -> "Unchanged":
        self.before = [_state(path) for path in self.paths]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not isinstance(error, DataError):
            return
        for path, before in zip(self.paths, self.before, strict=True):
            now = _state(path)
            if now != before:
                raise DataError(f"{path}: expected a file that stands still, found one that changed while it was read ({_said(before)} "
                                f"before, {_said(now)} after): wait until it is written, or give a copy") from None


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _said(state: tuple[int, int] | None) -> str:
    return "no file" if state is None else f"{state[0]} bytes"
