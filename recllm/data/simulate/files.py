"""The folder of a simulation: all of its files or none, reused when it was drawn with the same settings."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from recllm.data.simulate.common import Records
from recllm.errors import DataError

Settings = dict[str, Any]
Tables = dict[str, pd.DataFrame | Records]  # file name -> its rows


def checked(version: int, world: str, whole: dict[str, int], **more: bool) -> Settings:
    """The settings as they are stored. Raises DataError unless the `whole` ones are whole and positive, the seed at least 0."""
    for name, value in whole.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"data.simulate.{name}: expected a whole number of at least {least}, found {value!r}")
    return {"version": version, "world": world, **whole, **more}


def reusable(folder: Path, settings: Settings, files: tuple[str, ...]) -> bool:
    """Whether the folder holds all files of a simulation with these settings. Raises DataError for any other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "world.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "something else"
    if found == settings and all((folder / name).is_file() for name in files):
        return True
    raise DataError(f"{folder}: expected no folder, an empty one, or a whole simulation with {settings}, found {found}: "
                    f"delete it or choose another path")


def _write(path: Path, rows: pd.DataFrame | Records) -> None:
    if not isinstance(rows, pd.DataFrame):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        rows.to_csv(path, index=False, lineterminator="\n")
    else:
        rows.to_parquet(path, index=False)


def write_whole(folder: Path, tables: Tables, save: Callable[[Path], None], done: Callable[[], bool]) -> None:
    """Write the tables, and world.json by `save`, beside the folder and put them in its place, an empty one or none.

    `done` says whether another process has just finished the same folder; a failed write is raised unless it has.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process of the same number
    part.mkdir(parents=True)
    try:
        for name, rows in tables.items():
            _write(part / name, rows)
        save(part / "world.json")
        part.rename(folder)  # takes the place of an empty folder, never of a full one
    except OSError:
        if not done():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
