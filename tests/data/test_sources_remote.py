"""Any fsspec URL: inputs are found, staged whole and once; a prepared folder goes to a URL and comes back whole, or not at all."""

import os
import shutil
import time
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from recllm.data.prepare import prepare
from recllm.data.sources.remote import MARK, fetch_file, fetch_folder, remote_files, upload_folder
from recllm.data.sources.stage import source_state, stage
from recllm.errors import DataError, MissingExtraError
from recllm.feed.log import load_log
from recllm.model.files_recllm import whole_folder
from tests.conftest import small_log
from tests.data.test_sources_text import compress, data, read


@pytest.fixture(scope="module")
def server():
    """moto's S3 on a free port of this machine."""
    pytest.importorskip("s3fs", reason="needs pip install 'recllm[s3]'")
    servers = pytest.importorskip("moto.server", reason="needs pip install moto flask flask-cors")
    running = servers.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["s3", "memory"])
def bucket(request):
    """(URL of an empty folder, storage options, its file system)."""
    if request.param == "memory":
        system, storage = fsspec.filesystem("memory"), {}
        url = f"memory://logs-{time.time_ns()}"
    else:
        storage = {"endpoint_url": request.getfixturevalue("server"), "key": "an-access-key", "secret": "a-s3cret"}
        system = fsspec.filesystem("s3", **storage)
        url = f"s3://logs-{time.time_ns()}"
    system.mkdir(url)
    return url, storage, system


def test_a_file_a_glob_and_a_partitioned_folder_behind_a_url(tmp_path, bucket):
    url, storage, system = bucket
    for day, users in (("2026-01-01", ["u1", "u2"]), ("2026-01-02", ["u3"])):
        path = compress(tmp_path / "part.csv.gz", ("user,city\n" + "".join(f"{u},Tromsø\n" for u in users)).encode("utf-16"))
        system.makedirs(f"{url}/log/day={day}", exist_ok=True)
        system.put_file(str(path), f"{url}/log/day={day}/part-0.csv.gz")
    system.pipe_file(f"{url}/log/_SUCCESS", b"")
    pd.DataFrame({"user": ["0017"], "n": [2**63 - 1]}).to_parquet(tmp_path / "log.parquet")
    system.put_file(str(tmp_path / "log.parquet"), f"{url}/log.parquet")
    expected = [("u1", "Tromsø", "2026-01-01"), ("u2", "Tromsø", "2026-01-01"), ("u3", "Tromsø", "2026-01-02")]
    for source in (f"{url}/log", f"{url}/log/*/part-*.csv.gz"):
        assert read(source, tmp_path / "staged", storage=storage) == expected
    assert read(f"{url}/log.parquet", tmp_path / "staged", storage=storage) == [("0017", str(2**63 - 1))]


def test_what_stands_is_not_copied_again_and_what_changed_is(tmp_path, bucket):
    url, storage, system = bucket
    system.pipe_file(f"{url}/log.csv", b"user\nu1\n")
    config, source = data(storage=storage), f"{url}/log.csv"
    state, (first,) = source_state(config, source), stage(config, source, tmp_path / "staged")
    made = os.stat(first).st_mtime_ns
    assert stage(config, source, tmp_path / "staged") == [first] and os.stat(first).st_mtime_ns == made
    assert source_state(config, source) == state
    # given another content of the same size
    system.pipe_file(f"{url}/log.csv", b"user\nu2\n")
    assert source_state(config, source) != state
    assert read(source, tmp_path / "staged", storage=storage) == [("u2",)]
    assert not Path(first).exists()


def test_a_file_that_changes_between_being_found_and_being_read_is_refused(tmp_path, bucket):
    url, storage, system = bucket
    system.pipe_file(f"{url}/log.csv", b"user\nu1\n")
    ((name, state),) = remote_files(f"{url}/log.csv", storage).items()
    system.pipe_file(f"{url}/log.csv", b"user\nu1\nu2\n")
    with pytest.raises(DataError, match="changed while it was read"):
        fetch_file(f"{url}/log.csv", name, state, tmp_path / "staged", storage)
    assert not [p for p in (tmp_path / "staged").rglob("*") if p.is_file()]


def test_what_is_not_there_is_one_line_without_secrets(tmp_path, bucket):
    url, storage, _ = bucket
    for source in (f"{url}/none.csv", f"{url}/none-*.csv", f"{url}-no-bucket/log.csv"):
        with pytest.raises(DataError, match="found none|could not be reached") as error:
            read(source, tmp_path / "staged", storage=storage)
        assert "\n" not in str(error.value) and "a-s3cret" not in str(error.value) and not (tmp_path / "staged").exists()


def test_no_server_and_no_file_system_are_one_line(tmp_path):
    with pytest.raises(MissingExtraError, match="gs://b/log.csv: its file system is not installed: pip install gcsfs"):
        read("gs://b/log.csv", tmp_path / "staged")
    with pytest.raises(DataError, match="could not be reached or read: .*nosuch"):
        read("nosuch://b/log.csv", tmp_path / "staged")
    pytest.importorskip("s3fs", reason="needs pip install 'recllm[s3]'")
    storage = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "a-s3cret", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(DataError, match="s3://b/log.csv: could not be reached or read") as error:
        read("s3://b/log.csv", tmp_path / "staged", storage=storage)
    assert "a-s3cret" not in str(error.value)


@pytest.fixture
def prepared(tmp_path):
    """A folder as preparation leaves it: files, folders, and its mark."""
    folder = tmp_path / "prepared"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "train-0.parquet").write_bytes(os.urandom(300_000))
    (folder / "report.json").write_text("{}", encoding="utf-8")
    (folder / MARK).write_text("abc", encoding="utf-8")
    return folder


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def fetched(url, folder, storage):
    """As reading a prepared folder fetches it."""
    with whole_folder(folder) as part:
        fetch_folder(url, part, storage)


def test_a_prepared_folder_goes_and_comes_back_whole(tmp_path, bucket, prepared):
    url, storage, system = bucket
    upload_folder(prepared, f"{url}/prepared", storage)
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "older").touch()
    fetched(f"{url}/prepared", tmp_path / "back", storage)
    assert contents(tmp_path / "back") == contents(prepared)
    # and a later one takes its place, with nothing of the older left
    (prepared / "data" / "train-0.parquet").rename(prepared / "data" / "train-1.parquet")
    (prepared / MARK).write_text("abd", encoding="utf-8")
    upload_folder(prepared, f"{url}/prepared", storage)
    fetched(f"{url}/prepared", tmp_path / "back", storage)
    assert contents(tmp_path / "back") == contents(prepared)


def test_a_folder_that_was_copied_in_part_is_never_taken_for_a_whole_one(tmp_path, bucket, prepared):
    url, storage, system = bucket
    with pytest.raises(DataError, match="expected a prepared folder with its fingerprint, found none"):
        fetched(f"{url}/prepared", tmp_path / "back", storage)
    upload_folder(prepared, f"{url}/prepared", storage)
    # given a second copy that breaks off at a file which cannot be read
    (prepared / MARK).write_text("abd", encoding="utf-8")
    os.rename(prepared / "report.json", tmp_path / "aside")
    (prepared / "report.json").symlink_to("/proc/self/mem")  # is a file, opens, and cannot be read
    with pytest.raises(DataError, match="could not be reached or read|did not arrive whole"):
        upload_folder(prepared, f"{url}/prepared", storage)
    # then no mark is left, and what lies here stays as it was
    assert not system.exists(f"{url}/prepared/{MARK}")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "older").touch()
    with pytest.raises(DataError, match="was copied only in part"):
        fetched(f"{url}/prepared", tmp_path / "back", storage)
    assert list(contents(tmp_path / "back")) == ["older"] and not list(tmp_path.glob(".back*"))
    with pytest.raises(DataError, match="expected a prepared folder with its fingerprint, found none: prepare it first"):
        upload_folder(tmp_path / "back", f"{url}/other", storage)


def test_a_prepared_folder_goes_out_once_and_is_fetched_where_it_is_not(shop, bucket):
    # given a log whose prepared folder goes to a URL
    url, storage, _ = bucket
    config = shop(small_log(), out=f"{url}/prepared", storage=storage)
    said: list[str] = []
    prepare(config, say=said.append)
    prepare(config, say=said.append)  # the same stands there: nothing is copied again
    assert [line.startswith("copying") for line in said].count(True) == 1
    here = load_log(config)
    # when another machine has nothing
    shutil.rmtree(config.prepared)
    there = load_log(config)
    # then it gets the same log
    pd.testing.assert_frame_equal(here.frame, there.frame)
