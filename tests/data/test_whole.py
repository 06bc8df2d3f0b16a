"""Folders that take the place of others: the new one or the old one, whatever stops the writer, and nothing left beside them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recllm.data import whole
from recllm.model.files_recllm import whole_folder


def put(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def standing(parent: Path) -> dict[str, str]:
    """Name of each folder -> what its file holds."""
    return {path.name: (path / "file").read_text() for path in sorted(parent.iterdir())}


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    return int(subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(("when", "which", "stands"),
                         [("before", 1, "old"), ("after", 1, "old"), ("before", 2, "old"), ("after", 2, "new")])
def test_a_swap_that_is_stopped_leaves_the_old_folder_or_the_new_one(when, which, stands, tmp_path, monkeypatch):
    # given an old folder, and ctrl-C around one of the two renames
    folder, rename, calls = put(tmp_path / "release", "old"), Path.rename, []

    def stopping(self, target):
        calls.append(target)
        if len(calls) == which and when == "before":
            raise KeyboardInterrupt
        found = rename(self, target)
        if len(calls) == which:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Path, "rename", stopping)
    # when
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as part:
        (part / "file").write_text("new")
    # then
    assert standing(tmp_path) == {"release": stands}


def test_an_error_while_it_is_filled_leaves_the_old_folder(tmp_path):
    folder = put(tmp_path / "release", "old")
    with pytest.raises(OSError, match="full"), whole_folder(folder) as part:
        (part / "file").write_text("new")
        raise OSError("full")
    assert standing(tmp_path) == {"release": "old"}


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(tmp_path, dead):
    # given what a killed process left, one of before with our own number, one that runs, and names of others
    folder, live = put(tmp_path / "release", "old"), os.getppid()
    for name in (f".release.{dead}.part", f".release.{dead}.old", f".release.{os.getpid()}.part", f".release.{os.getpid()}.old"):
        put(tmp_path / name, "left")
    stays = {f".release.{live}.part": "live", f".release.{live}.old": "live", f".release-2.{dead}.part": "of another",
             ".release.work": "no number"}  # fmt: skip
    for name, text in stays.items():
        put(tmp_path / name, text)
    # when
    with whole_folder(folder) as part:
        (part / "file").write_text("new")
    # then
    assert standing(tmp_path) == stays | {"release": "new"}


@pytest.mark.parametrize("ends", ["fails", "succeeds"])
def test_a_folder_that_a_killed_process_had_set_aside_is_put_back_first(ends, tmp_path, dead):
    # given a process that was killed between the two renames
    put(tmp_path / f".release.{dead}.old", "old")
    put(tmp_path / f".release.{dead}.part", "never took its place")
    folder = tmp_path / "release"
    # when
    if ends == "fails":
        with pytest.raises(OSError, match="full"), whole_folder(folder):
            raise OSError("full")
    else:
        with whole_folder(folder) as part:
            (part / "file").write_text("new")
            assert standing(tmp_path)["release"] == "old"
    # then
    assert standing(tmp_path) == {"release": "old" if ends == "fails" else "new"}


def test_of_two_that_were_set_aside_the_later_one_is_put_back(tmp_path, dead):
    for name, text in (("first", "older"), ("second", "newer")):
        put(tmp_path / name, text)
    (tmp_path / "first").rename(tmp_path / f".release.{dead}.old")
    time.sleep(0.05)  # file systems tell times by the tick
    (tmp_path / "second").rename(tmp_path / f".release.{os.getpid()}.old")
    with pytest.raises(OSError, match="full"), whole_folder(tmp_path / "release"):
        raise OSError("full")
    assert standing(tmp_path) == {"release": "newer"}


def test_parts_of_files_go_with_their_process_and_stay_with_it(tmp_path, dead):
    for number in (dead, os.getpid(), os.getppid()):
        (tmp_path / f".rows.{number}.part").write_text("")
    whole.remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f".rows.{number}.part" for number in (os.getpid(), os.getppid())}
