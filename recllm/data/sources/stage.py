"""From what a config names to local files that DuckDB reads: globs and folders are listed, the rest is staged, each state of it once.

Staged are: text that is not UTF-8, SQLite, Postgres, `datasets` ids, Arrow streams, and whatever lies behind a URL.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from recllm.config import DataConfig
from recllm.data.sources import places
from recllm.data.sources.arrow import is_stream, stream_to_parquet
from recllm.data.sources.files import detect
from recllm.data.sources.hub import datasets_to_parquet
from recllm.data.sources.places import local_files, name_of
from recllm.data.sources.postgres import SCHEMES, postgres_to_parquet, state_of
from recllm.data.sources.remote import fetch_file, remote_files
from recllm.data.sources.scan import ADAPTERS
from recllm.data.sources.sqlite import sqlite_to_parquet, state_files
from recllm.data.sources.text import encoding_of, transcode
from recllm.data.sources.watch import Unchanged
from recllm.data.whole import remove_leftovers
from recllm.errors import DataError

State = tuple[int, str]


def kind_of(data: DataConfig, source: str) -> str:
    """local, url, sqlite, postgres or datasets: where a source lies."""
    scheme = places.scheme(source)
    if scheme in SCHEMES:
        return "postgres"
    if scheme == "sqlite":
        return "sqlite"
    if scheme not in (None, "file"):
        return "url"
    if data.format == "datasets" and scheme is None and not Path(source).exists() and not source.startswith(("/", ".", "~")) \
            and not any(sign in source.partition("?")[0] for sign in "*["):
        return "datasets"
    return "local"


def local_paths(data: DataConfig, source: str) -> list[Path]:
    """The files, and folders that are read as one, of a source of kind local. Raises DataError where there is none."""
    return local_files(source.removeprefix("file://"), whole_folders=data.format in (*ADAPTERS, "datasets"))


def _facts(paths: Iterable[Path]) -> State:
    """Bytes of all files together, and a hash over their names, sizes and times. A path that is not there counts as such."""
    found = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) if p.exists() else (str(p), 0, 0) for p in paths]
    return sum(size for _, size, _ in found), name_of("", *found)


def source_state(data: DataConfig, source: str) -> State:
    """(bytes, a text that changes when the source does), for the fingerprint: size and time of files, ETags of URLs, the position of
    Postgres' log of writes. A `datasets` id stands still. Raises DataError as `stage` does, but not for a local file that is missing."""
    kind = kind_of(data, source)
    if kind == "postgres":
        return 0, state_of(source)
    if kind == "datasets":
        return 0, source
    if kind == "url":
        found = remote_files(source, data.storage)
        return sum(size for size, _ in found.values()), name_of(source, *found.items())
    if kind == "sqlite":
        return _facts(state_files(source))
    path = Path(source.removeprefix("file://"))
    if path.is_dir() and (data.format in (*ADAPTERS, "datasets") or places.is_datasets_folder(path)):
        return _facts(file for file in sorted(path.rglob("*")) if file.is_file())
    if not path.exists() and not any(sign in source for sign in "*?["):
        return 0, "missing"  # the simulated log is not written yet, and a missing file is said better by who reads it
    return _facts(local_paths(data, source))


def stage(data: DataConfig, source: str, folder: Path) -> list[str]:
    """The local files of a source, in order, each to be read by `scan` with the same format and delimiter.

    folder: where staged files lie, each state of a source in a folder of its own; what stands there is not made again, what an older
    state left goes. Raises DataError in one line where a source is missing, unreadable, half-written or changes while it is read; then
    nothing of it stays in the folder.
    """
    kind = kind_of(data, source)
    if kind == "local":
        return [str(_readable(data, path, folder)) for path in local_paths(data, source)]
    if kind == "url":
        found = remote_files(source, data.storage)
        with _own(folder, source, *found.items()) as own:
            copies = [fetch_file(source, name, state, own / str(index), data.storage) for index, (name, state) in enumerate(found.items())]
            return [str(_readable(data, copy, own / "made")) for copy in copies]
    writers: dict[str, Callable[[str, Path], None]] = {
        "postgres": postgres_to_parquet, "sqlite": sqlite_to_parquet, "datasets": datasets_to_parquet}
    return [str(_table(folder, source, source_state(data, source), writers[kind], state_files(source) if kind == "sqlite" else []))]


class _own:
    """The folder of one state of a source: made at the start, gone after an error; the older states of that source go at the end."""

    def __init__(self, folder: Path, source: str, *state: object) -> None:
        self.home = folder / name_of(source)
        self.path = self.home / name_of(source, *state)

    def __enter__(self) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        return self.path

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            for empty in (self.home, self.home.parent):
                if empty.is_dir() and not any(empty.iterdir()):
                    empty.rmdir()
            return
        for older in self.home.iterdir():
            if older != self.path:
                shutil.rmtree(older, ignore_errors=True)


def _table(folder: Path, source: str, state: State, write: Callable[[str, Path], None], files: list[Path]) -> Path:
    """The Parquet file of a table that is no file, made unless it stands."""
    with _own(folder, source, state) as own:
        target = own / "table.parquet"
        if not target.is_file():
            for file in files:
                if not places.readable(file):
                    raise DataError(f"expected a file at {file}, found none: check the path in the config's data section")
            with Unchanged(*files):
                write(source, target)
        return target


def _readable(data: DataConfig, path: Path, folder: Path) -> Path:
    """The file itself where DuckDB reads it, else its staged form."""
    if path.is_dir() or path.stat().st_size == 0:
        return path  # `scan` says what is wrong with an empty file
    kind = detect(path, data.format)
    if kind == "sqlite":
        return _table(folder, str(path), _facts(state_files(str(path))), sqlite_to_parquet, state_files(str(path)))
    if kind == "arrow" and is_stream(path):
        return _converted(folder, path, (), ".parquet", lambda target: stream_to_parquet(path, target))
    if kind in ("csv", "jsonl", "recbole"):
        encoding = encoding_of(path, data.encoding)
        if encoding is not None:
            suffix = "".join(s for s in path.suffixes[-2:] if s in (".gz", ".zst"))
            return _converted(folder, path, (encoding,), suffix, lambda target: transcode(path, encoding, target))
    return path


def _converted(folder: Path, path: Path, facts: tuple[str, ...], suffix: str, write: Callable[[Path], None]) -> Path:
    """A staged form of one file, below the same `key=value` folders; a changed suffix is replaced (.arrow) or gone (.gz)."""
    with _own(folder, str(path.absolute()), _facts([path]), *facts) as own:
        name = f"{path.name}{suffix}" if suffix == ".parquet" else path.name.removesuffix(suffix)
        target = own.joinpath(*places.key_values(path), name)
        if not target.is_file():
            with Unchanged(path):
                write(target)
        return target
