"""Missing, empty, forbidden, half-written and moving inputs: each ends in one clear line and leaves no staged file."""

import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from recllm.data.prepare import prepare
from recllm.data.sources.scan import scan
from recllm.data.sources.stage import stage
from recllm.data.sources.watch import Unchanged
from recllm.errors import DataError
from tests.conftest import small_log
from tests.data.test_sources_text import compress, data, read

ROWS = "user,item\n" + "".join(f"u{k},item-{k * 7919 % 100_003}\n" for k in range(60_000))


def fails(source, folder, expected, **settings):
    """Reading ends in one line that says what is expected, and leaves nothing in the folder."""
    with pytest.raises(DataError, match=expected) as error:
        read(source, folder, **settings)
    assert "\n" not in str(error.value) and str(source).split("*")[0].rstrip("/") in str(error.value)
    assert not [p for p in Path(folder).rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet", "log.feather", "log.db", "log.csv.gz", "log.csv.zst"])
def test_missing_and_empty_files(tmp_path, name):
    fails(tmp_path / name, tmp_path / "staged", "expected a file at .*, found none")
    (tmp_path / name).touch()
    fails(tmp_path / name, tmp_path / "staged", "expected rows, found an empty file")


def test_empty_folders_and_unknown_names(tmp_path):
    (tmp_path / "log").mkdir()
    fails(tmp_path / "log", tmp_path / "staged", "expected a folder with files of a known format, found none")
    (tmp_path / "log" / "part.xyz").write_text("user\nu1\n", encoding="utf-8")
    fails(tmp_path / "log", tmp_path / "staged", "expected a name that ends in .*or data.format")


@pytest.mark.parametrize("name", ["log.csv.gz", "log.csv.zst", "log.jsonl.gz", "log.jsonl.zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.05])
def test_cut_compressed_text(tmp_path, name, encoding, share):
    # given a compressed file of which only the first part has been written
    text = ROWS if "csv" in name else "".join(json.dumps({"user": line}) + "\n" for line in ROWS.splitlines())
    path = compress(tmp_path / name, text.encode(encoding))
    assert len(read(path, tmp_path / "whole")) == text.count("\n") - ("csv" in name)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * share)])
    # then it is refused, when it is staged or when it is read
    fails(path, tmp_path / "staged", "could not (be read|read it)")


def test_a_file_that_is_not_what_its_name_says(tmp_path):
    (tmp_path / "log.csv.gz").write_text(ROWS, encoding="utf-8")
    fails(tmp_path / "log.csv.gz", tmp_path / "staged", "could not be read to its end")
    for name in ("log.parquet", "log.feather", "log.jsonl", "log.db"):
        (tmp_path / name).write_text(ROWS, encoding="utf-8")
        fails(tmp_path / name, tmp_path / "staged", "could not read it")


@pytest.mark.parametrize("kind", ["parquet", "feather", "stream", "jsonl"])
@pytest.mark.parametrize("share", [0.99, 0.5, 0.01])
def test_cut_tables(tmp_path, kind, share):
    table = pa.table({"user": [f"user-{k}" for k in range(50_000)]})
    path = tmp_path / f"log.{'arrow' if kind == 'stream' else kind}"
    if kind == "stream":
        with pa.ipc.new_stream(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=5_000)
    elif kind == "jsonl":
        table.to_pandas().to_json(path, orient="records", lines=True)
    else:
        getattr(table.to_pandas(), f"to_{kind}")(path)
    assert len(read(path, tmp_path / "whole")) == 50_000
    content = path.read_bytes()
    cut = int(len(content) * share)
    path.write_bytes(content[:cut - 1 if content[cut - 1:cut] == b"\n" else cut])  # JSON Lines: within a line
    fails(path, tmp_path / "staged", "could not (be read|read it)")


FORBIDDEN = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.data.test_sources_text import read
from recllm.errors import DataError
staged = Path(sys.argv[2])
read(sys.argv[3], staged)  # so that everything is imported while the interpreter's own files may be read
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for source in sys.argv[4:]:
    try:
        print("READ", read(source, sys.argv[2]))
    except DataError as error:
        print("LINE", error)
"""


@pytest.fixture
def open_folder():
    """A folder that every user may enter: pytest's own are closed to all others."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_files_and_folders_that_may_not_be_read(open_folder):
    # given a file, a folder of a partitioned log, and a folder on the way, all without rights, and a process that is not root
    for part in ("a", "b"):
        (open_folder / "log" / f"day={part}").mkdir(parents=True)
        (open_folder / "log" / f"day={part}" / "log.csv").write_text("user\nu1\n", encoding="utf-8")
    (open_folder / "log.csv").write_text("user\nu1\n", encoding="utf-8")
    (open_folder / "open.csv").write_text("user\nu1\n", encoding="utf-8")
    closed = [open_folder / "log.csv", open_folder / "log" / "day=b"]
    for p in closed:
        p.chmod(0)
    sources = [open_folder / "log.csv", open_folder / "log", open_folder / "log" / "day=b" / "log.csv",
               open_folder / "log" / "day=b" / "*.csv", open_folder / "open.csv"]
    try:
        root = Path(__file__).parent.parent.parent
        done = subprocess.run([sys.executable, "-c", FORBIDDEN, str(root), str(open_folder / "staged"),
                               str(open_folder / "open.csv"), *map(str, sources)], cwd="/",
                              capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": "/nonexistent"})
    finally:
        for p in closed:
            p.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    for line in lines[:4]:
        assert line.startswith("LINE") and "expected a readable" in line and "Permission denied" in line
    assert lines[4] == "READ [('u1',)]" and not (open_folder / "staged").exists()


def test_a_file_that_grows_while_it_is_transcoded(tmp_path):
    # given a log in UTF-16 that another process keeps writing
    path, stop = tmp_path / "log.csv", threading.Event()
    path.write_bytes((ROWS * 10).encode("utf-16"))

    def grow():
        with path.open("ab") as file:
            while not stop.is_set():
                file.write("u,i\n".encode("utf-16-le"))
                file.flush()

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        fails(path, tmp_path / "staged", "expected a file that stands still, found one that changed while it was read")
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("change", ["grows", "is replaced", "goes", "only its time"])
def test_unchanged_around_any_read(tmp_path, change):
    path = tmp_path / "log.csv"
    path.write_text("user\nu1\n", encoding="utf-8")
    with Unchanged(path, tmp_path / "other.csv"):
        path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="log.csv: expected a file that stands still.*changed while it was read .8 bytes before"):
        with Unchanged(path):
            if change == "grows":
                with path.open("a", encoding="utf-8") as file:
                    file.write("u2\n")
            elif change == "is replaced":
                path.unlink()
                path.write_text("user\nu2 and more\n", encoding="utf-8")
            elif change == "goes":
                path.unlink()
            else:
                os.utime(path, ns=(1, 1))
    # a reader's own error gives way, any other error stays
    path.write_text("user\nu1\n", encoding="utf-8")
    with pytest.raises(DataError, match="stands still"), Unchanged(path):
        path.write_text("user\n", encoding="utf-8")
        raise DataError("malformed")
    with pytest.raises(KeyError), Unchanged(path):
        path.write_text("user\nu1\nu2\n", encoding="utf-8")
        raise KeyError("ours")


def test_a_full_disk_leaves_no_part_of_a_staged_file(tmp_path):
    # given a limit on the size of files that a child process writes
    (tmp_path / "log.csv").write_bytes((ROWS * 5).encode("utf-16"))
    code = ("import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)); from tests.data.test_sources_text import read\n"
            "from pathlib import Path\n"
            "try: read(sys.argv[1], Path(sys.argv[2]))\nexcept ValueError as error: print(type(error).__name__, error)")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "log.csv"), str(tmp_path / "staged")], capture_output=True, text=True,
                          timeout=120, cwd=Path(__file__).parent.parent.parent)
    assert "DataError" in done.stdout and "File too large" in done.stdout, done.stderr
    assert not (tmp_path / "staged").exists()


def test_what_a_killed_process_left_is_never_taken_for_a_staged_file(tmp_path):
    # given a child process that was killed while it transcoded
    (tmp_path / "log.csv").write_bytes((ROWS * 60).encode("utf-16"))
    staged = tmp_path / "staged"
    code = "import sys; from pathlib import Path; from tests.data.test_sources_text import read; read(sys.argv[1], Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log.csv"), str(staged)], cwd=Path(__file__).parent.parent.parent)
    while not (parts := list(staged.rglob(".*.part"))) and child.poll() is None:
        time.sleep(0.001)
    child.kill()
    child.wait()
    assert parts and child.returncode == -signal.SIGKILL and not list(staged.rglob("log.csv"))
    # then the next read is whole, and its file the only one
    assert len(read(tmp_path / "log.csv", staged)) == (ROWS * 60).count("\n") - 1
    assert [p.name for p in staged.rglob("*") if p.is_file()] == ["log.csv"]


def test_a_declared_format_reads_any_name_and_scan_alone_reads_what_needs_no_staging(tmp_path):
    (tmp_path / "export.dat").write_bytes(gzip.decompress(gzip.compress(b"user;n\n0017;1\n")))
    assert read(tmp_path / "export.dat", tmp_path / "staged", format="csv") == [("0017", "1")]
    connection = duckdb.connect()
    pd.DataFrame({"user": ["0017"]}).to_parquet(tmp_path / "log.parquet")
    assert connection.sql(f"SELECT * FROM {scan(connection, tmp_path / 'log.parquet')}").fetchall() == [("0017",)]
    assert stage(data(), str(tmp_path / "log.parquet"), tmp_path / "staged") == [str(tmp_path / "log.parquet")]


def test_preparation_says_a_half_written_log_in_one_line_and_writes_nothing(shop, tmp_path):
    # given a log that is cut in the middle of its rows, where no sample sees it
    content = compress(tmp_path / "whole.csv.gz", small_log(users=400).encode()).read_bytes()
    (tmp_path / "log.csv.gz").write_bytes(content[:-100])
    config = shop("", name="none.csv")
    config = config.model_copy(update={"data": config.data.model_copy(update={"interactions": [str(tmp_path / "log.csv.gz")]})})
    with pytest.raises(DataError, match="log.csv.gz: could not be read to its end .*half-written") as error:
        prepare(config)
    assert "\n" not in str(error.value) and not (config.folder.exists() and any(config.folder.iterdir()))
