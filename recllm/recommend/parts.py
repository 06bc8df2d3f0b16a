"""One Parquet file made in parts, so that a long run that is killed goes on where it was and ends as it would have.

Parts lie in a folder beside the file, each written aside and renamed: whole or absent. `manifest.json` says what they are parts of.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recllm.errors import DataError
from recllm.model.files_recllm import whole_file, whole_folder

MANIFEST = "manifest.json"


def parts_folder(target: Path) -> Path:
    """Where the parts of a file lie until it is whole."""
    return target.with_name(f"{target.name}.parts")


def check_target(target: Path) -> None:
    """Raise DataError for a file that cannot be written: its folder is missing, or it is a folder itself."""
    if target.is_dir():
        raise DataError(f"{target}: expected the name of a Parquet file to write, found a folder: name a file in it")
    if not target.parent.is_dir():
        raise DataError(f"{target}: expected an existing folder to write into, found no {target.parent}: make it, or choose another")


def begin(target: Path, manifest: dict[str, Any]) -> Path:
    """The folder of a file's parts, new or as an interrupted run left it. Raises DataError where it was begun with other settings."""
    check_target(target)
    folder = parts_folder(target)
    if not folder.exists():
        with whole_folder(folder) as part:
            (part / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return folder
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: expected no such folder, or one with the parts of {target.name}, found another: choose another name")
    begun = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    keys = [k for k in {**begun, **manifest} if begun.get(k) != manifest.get(k)]
    other = [f"{k} {_shown(begun.get(k))} (now {_shown(manifest.get(k))})" for k in keys]
    if other:
        raise DataError(f"{folder} was begun with another {', '.join(other)}: give the same again to go on, or remove that folder to "
                        f"start over")
    return folder


def _shown(value: Any) -> str:
    return str(value)[:12] if isinstance(value, str) and len(value) == 64 else json.dumps(value, ensure_ascii=False)  # hashes are long


def write_in_parts(target: Path, manifest: dict[str, Any], schema: pa.Schema, size: int, users: int,
                   make: Callable[[Iterable[int]], pa.Table], label: str) -> int:
    """Make `target` from `make(users of a part, by code)`, `size` users a part, one part in memory at a time; parts that stand are kept.

    Returns how many users were made in this call. Afterwards the file is whole and the parts are gone. Raises DataError as `begin` does.
    """
    folder = begin(target, {**manifest, "users": users, "users_per_part": size})
    spans = [range(first, min(first + size, users)) for first in range(0, users, size)]
    paths = [folder / f"part-{number:06}.parquet" for number in range(len(spans))]
    todo = [(span, path) for span, path in zip(spans, paths, strict=True) if not path.is_file()]
    made = sum(len(span) for span, _ in todo)
    with tqdm(total=users, initial=users - made, desc=label, unit=" users", leave=False) as bar:
        for span, path in todo:
            with whole_file(path) as part:
                pq.write_table(make(_counted(span, bar)), part)
    _join(folder, paths, target, schema)
    return made


def _counted(span: range, bar: tqdm) -> Iterator[int]:
    """The codes of a part, each counted when it is done."""
    for code in span:
        yield code
        bar.update()


def _join(folder: Path, paths: list[Path], target: Path, schema: pa.Schema) -> None:
    """Stream the parts into the file, and remove them when it stands."""
    aside = folder / f".whole.{os.getpid()}"
    with pq.ParquetWriter(aside, schema) as writer:
        for path in paths:
            writer.write_table(pq.read_table(path, schema=schema))
    aside.rename(target)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")  # a kill while removing must not leave a folder without its manifest
    folder.rename(old)
    shutil.rmtree(old)
