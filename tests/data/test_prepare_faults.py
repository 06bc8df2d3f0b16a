"""Faulty inputs through the whole of `prepare`: one line, nothing written; and a prepared folder that is replaced while it is read."""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pandas as pd
import pytest

from recllm.cli import main
from recllm.data.prepare import check, prepare
from recllm.errors import DataError
from recllm.feed import log as feed
from tests.conftest import small_log
from tests.data.kills import ROOT, files, write_config


def fails(config, expected):
    """Preparation ends in one line and leaves nothing in the run's folder."""
    with pytest.raises(DataError, match=expected) as error:
        prepare(config)
    assert "\n" not in str(error.value) and not (config.folder.exists() and any(config.folder.iterdir()))


@pytest.mark.parametrize("name", ["log.parquet", "log.jsonl.gz"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_half_written_file_among_whole_ones(shop, tmp_path, name, workers):
    frame = pd.read_csv(pd.io.common.StringIO(small_log(users=300)), dtype=str)
    config = shop(small_log(), name="whole.csv", workers=workers)
    path = tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_json(path, orient="records", lines=True)
    path.write_bytes(path.read_bytes()[:-200])
    both = config.data.model_copy(update={"interactions": [*config.data.interactions, str(path)]})
    fails(config.model_copy(update={"data": both}), f"{name}: .*could not (be read|read it)")


def test_a_file_that_grows_while_it_is_prepared(shop, tmp_path):
    config, stop = shop(small_log(users=400)), threading.Event()
    line = small_log().splitlines()[1]

    def grow():
        with (tmp_path / "log.csv").open("a", encoding="utf-8") as file:
            while not stop.is_set():
                file.write(line + "\n")
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        fails(config, "log.csv: expected a file that stands still, found one that changed while it was read")
    finally:
        stop.set()
        writer.join()


NOBODY = """
import os, sys
from recllm.cli import main
assert main(["prepare", sys.argv[1]]) == 0  # so that everything is imported while the interpreter's own files may be read
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(["prepare", sys.argv[2]]))
"""


def test_a_folder_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to all others
        folder = Path(name)
        for path in (folder, folder / "runs", folder / "log", folder / "log" / "day=1", folder / "log" / "day=2"):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        rows = small_log(users=40).replace("user_id", "user").replace("item_id", "item").replace("duration", "seconds")
        for path in (folder / "open.csv", *(folder / "log").glob("*")):
            (path / "log.csv" if path.is_dir() else path).write_text(rows, encoding="utf-8")
        configs = [write_config(folder / f"{n}.yaml", [str(source)], negatives=False, workers=1)
                   for n, source in (("open", folder / "open.csv"), ("closed", folder / "log"))]
        (folder / "log" / "day=2").chmod(0)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "RECLLM_RUNS": str(folder / "runs"), "HOME": "/nonexistent"}
        done = subprocess.run([sys.executable, "-c", NOBODY, *map(str, configs)], capture_output=True, text=True, env=env, timeout=120)
        (folder / "log" / "day=2").chmod(0o755)
    said = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert said.startswith("recllm: ") and said.endswith("day=2: expected a readable folder, found Permission denied: change its rights")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_check_writes_nothing(shop, tmp_path, encoding, capsys):
    # given a log that is read as it stands, and one that must be transcoded first
    config = shop(small_log())
    (tmp_path / "log.csv").write_bytes(small_log().encode(encoding))
    before = files(tmp_path)
    assert [result.rows for _, result in check(config)] == [144]
    assert files(tmp_path) == before
    # also where there is something to find
    (tmp_path / "log.csv").write_bytes((small_log() + ",i1,1700000000,,tv,Oslo,1,1,0,5\n").encode(encoding))
    (tmp_path / "log.yaml").write_text(config.model_dump_json(by_alias=True), encoding="utf-8")
    before = files(tmp_path)
    assert main(["prepare", str(tmp_path / "log.yaml"), "--check"]) == 1 and "missing_user" in capsys.readouterr().out
    assert files(tmp_path) == before


def test_a_log_that_is_read_while_another_takes_its_place_is_old_or_new_and_never_both(shop, monkeypatch):
    config, another = shop(small_log()), shop(small_log(), period=60)
    prepare(config)
    rows = len(feed.load_log(config).frame)
    read = feed.Report.read_from
    # given a folder that is replaced between the first file that is read and the last
    def replaced(folder):
        prepare(another)
        return read(folder)

    with monkeypatch.context() as patch, pytest.raises(DataError, match="prepared anew while it was read: call again$"):
        patch.setattr(feed.Report, "read_from", replaced)
        feed.load_log(config)
    assert len(feed.load_log(another).frame) == rows
