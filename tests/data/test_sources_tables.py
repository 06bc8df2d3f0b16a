"""Any log as tables: Arrow, `datasets`, SQLite and Postgres, each staged once for each state of it."""

import decimal
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from contextlib import closing
from datetime import UTC, date, datetime
from glob import glob
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest

from recllm.data.sources.places import shown
from recllm.data.sources.scan import scan
from recllm.data.sources.stage import source_state, stage
from recllm.errors import DataError, MissingExtraError
from tests.data.test_sources_text import data, read

TABLE = pa.table({"user": ["0017", "u2"], "n": pa.array([2**63 - 1, None]), "half": [0.5, 17.0], "tags": [["a", "b"], []]})
ROWS = [("0017", str(2**63 - 1), "0.5", '["a","b"]'), ("u2", None, "17", "[]")]


@pytest.mark.parametrize("suffix", [".arrow", ".feather", ".ipc"])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_arrow_files_and_streams(tmp_path, suffix, compression, stream):
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(str(tmp_path / f"log{suffix}"), TABLE.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(TABLE)
    assert read(tmp_path / f"log{suffix}", tmp_path / "staged") == ROWS
    # a stream becomes Parquet, a file is read where it lies
    assert bool(list((tmp_path / "staged").rglob("*.parquet"))) == stream


def test_typed_leaves_the_types_of_parquet_and_arrow(tmp_path):
    parquet.write_table(TABLE, tmp_path / "log.parquet")
    feather.write_feather(TABLE, tmp_path / "log.feather")
    connection = duckdb.connect()
    for name in ("log.parquet", "log.feather"):
        typed = connection.sql(f"SELECT * FROM {scan(connection, tmp_path / name, typed=True, wanted=['tags[1]'])}")
        assert [str(t) for t in typed.types] == ["VARCHAR", "BIGINT", "DOUBLE", "VARCHAR[]", "VARCHAR"]
        assert typed.fetchall()[0] == ("0017", 2**63 - 1, 0.5, ["a", "b"], "b")
        text = connection.sql(f"SELECT * FROM {scan(connection, tmp_path / name)}")
        assert {str(t) for t in text.types} == {"VARCHAR"}


def test_datasets_folders_and_ids(tmp_path, monkeypatch):
    import datasets

    # given a saved dataset, and one of two splits that lies in the cache of the Hub's ids, as where there is no network
    datasets.Dataset(TABLE).save_to_disk(str(tmp_path / "saved"))
    assert read(tmp_path / "saved", tmp_path / "staged") == ROWS
    home = tmp_path / "made"
    home.mkdir()
    for split, table in (("train", TABLE), ("test", TABLE.slice(1))):
        parquet.write_table(table, home / f"{split}.parquet")
    datasets.load_dataset(str(home), cache_dir=str(tmp_path / "first"))
    (built,) = (p.parent for p in (tmp_path / "first").rglob("dataset_info.json"))
    cached = Path(shutil.copytree(built, tmp_path / "cache" / "owner___clicks" / "default" / "0.0.0" / built.name))
    for file in list(cached.glob("*.arrow")):
        file.rename(file.with_name("clicks-" + file.name.rpartition("-")[2]))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # then an id gives its splits, or the one that it names
    assert read("owner/clicks", tmp_path / "staged", format="datasets") == [*ROWS, ROWS[1]]
    assert read("owner/clicks?split=test", tmp_path / "staged", format="datasets") == [ROWS[1]]
    for odd, expected in (("owner/nothing", "expected a local path or the id of a dataset, could not load it"),
                          ("owner/clicks?part=1", "expected only config, split and revision after")):
        with pytest.raises(DataError, match=expected) as error:
            read(odd, tmp_path / "other", format="datasets")
        assert "\n" not in str(error.value) and not (tmp_path / "other").exists()


@pytest.fixture
def shop_db(tmp_path):
    """A SQLite database with values of every type, in a folder with a name that a URL must quote."""
    path = tmp_path / "my shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute('CREATE TABLE "the events" (user, n INTEGER, half REAL, city TEXT)')
        connection.executemany('INSERT INTO "the events" VALUES (?, ?, ?, ?)', [
            ("0017", 2**63 - 1, 0.1 + 0.2, "Tromsø"), (17, None, 17.0, ""), (b"u3", 3, None, None)])
        connection.commit()
    return path


def test_sqlite_by_table_by_query_and_by_its_only_table(tmp_path, shop_db):
    rows = [("0017", str(2**63 - 1), "0.30000000000000004", "Tromsø"), ("17", None, "17", ""), ("u3", "3", None, None)]
    url = f"sqlite:///{shop_db}"
    assert read(f"{url}?table=the%20events", tmp_path / "staged") == rows
    assert read(f"{url}?query=SELECT user, city FROM 'the events' WHERE n > 3", tmp_path / "staged") == [("0017", "Tromsø")]
    assert read(shop_db, tmp_path / "staged") == rows
    # and it is read again only when it has changed
    before = source_state(data(), url)
    assert source_state(data(), url) == before
    with closing(sqlite3.connect(shop_db)) as connection:
        connection.execute('DELETE FROM "the events" WHERE n IS NULL')
        connection.commit()
    assert source_state(data(), url) != before
    assert read(f"{url}?table=the events", tmp_path / "staged") == [rows[0], rows[2]]


def test_what_sqlite_cannot_give_is_one_line(tmp_path, shop_db):
    with closing(sqlite3.connect(shop_db)) as connection:
        connection.execute("CREATE TABLE users (user)")
        connection.commit()
    (tmp_path / "none.db").write_bytes(b"no database at all" * 100)
    url = f"sqlite:///{shop_db}"
    for source, expected in [
        (str(shop_db), "expected one table, found the events, users: choose with"), (f"{url}?table=user", 'Did you mean "users"'),
        (f"{url}?query=SELEC", "syntax error"), (f"{url}?query=DELETE FROM users", "readonly"), (f"{url}?tabel=x", "expected sqlite:///FILE"),
        (f"{url}?query=SELECT user, user FROM users", "expected one column of each name"),
        ("sqlite:////no/such.db?table=x", "expected a file at /no/such.db"), (str(tmp_path / "none.db"), "file is not a database"),
    ]:
        with pytest.raises(DataError, match=expected) as error:
            read(source, tmp_path / "staged")
        assert "\n" not in str(error.value) and not (tmp_path / "staged").exists()


@pytest.fixture(scope="module")
def postgres():
    """URL of a real server in a folder of its own, on a free port of this machine; stopped at the end."""
    pytest.importorskip("adbc_driver_postgresql", reason="needs pip install 'recllm[postgres]'")
    found = sorted(glob("/usr/lib/postgresql/*/bin/initdb")) or [p for p in [shutil.which("initdb")] if p]
    if not found:
        pytest.skip("needs a Postgres server: apt-get install -y postgresql")
    binaries = Path(found[-1]).parent
    home = Path(tempfile.mkdtemp(prefix="recllm-postgres-"))
    as_user = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(home, "nobody")
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command):
        subprocess.run([*as_user, *command], check=True, capture_output=True, cwd=home, timeout=60)

    (home / "password").write_text("s3cr:t/å\n", encoding="utf-8")
    (home / "password").chmod(0o644)
    try:
        run(binaries / "initdb", "-D", home / "data", "-U", "shop", "--auth=scram-sha-256", f"--pwfile={home}/password", "-E", "UTF8",
            "--no-sync")
        run(binaries / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log", "-o",
            f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off", "start")
        yield f"postgresql://shop:s3cr%3At%2F%C3%A5@127.0.0.1:{port}/postgres"
    finally:
        if (home / "data" / "postmaster.pid").exists():
            run(binaries / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def execute(url, *statements):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_postgres_values_of_every_type(tmp_path, postgres):
    execute(postgres, "DROP SCHEMA IF EXISTS sales CASCADE", "CREATE SCHEMA sales", "CREATE TYPE sales.kind AS ENUM ('view', 'buy')", """
        CREATE TABLE sales."Events" ("user" text, n bigint, half float8, ok boolean, at timestamptz, naive timestamp, day date, id uuid,
            price numeric(20, 4), device jsonb, tags text[], kind sales.kind)""", """
        INSERT INTO sales."Events" VALUES ('0017', 9223372036854775807, 0.1, true, '2026-03-01 12:00:00.123+02', '2026-03-01 12:00:00',
            '2026-03-01', '00000000-0000-0000-0000-00000000000a', 12345678901234.5678, '{"os": "iOS"}', '{a,"b c"}', 'buy')""",
        """INSERT INTO sales."Events" VALUES ('u2')""")
    source = f"{postgres}?table=sales.Events"
    (first, second) = read(source, tmp_path / "staged", wanted=["device.os"])
    assert first[:4] == ("0017", str(2**63 - 1), "0.1", "true") and second == ("u2", *[None] * 12)
    assert datetime.fromisoformat(first[4]) == datetime(2026, 3, 1, 10, 0, 0, 123_000, tzinfo=UTC)
    assert first[5] == "2026-03-01 12:00:00" and date.fromisoformat(first[6]) == date(2026, 3, 1)
    assert uuid.UUID(first[7]).int == 10 and decimal.Decimal(first[8]) == decimal.Decimal("12345678901234.5678")
    assert first[9:] == ('{"os": "iOS"}', '["a","b c"]', "buy", "iOS")
    # a query, and other options for the server
    query = f"{postgres}?sslmode=disable&query=SELECT \"user\", n %2B 0 AS m FROM sales.\"Events\" WHERE ok"
    assert read(query, tmp_path / "staged") == [("0017", str(2**63 - 1))]


def test_a_large_table_of_postgres_is_staged_in_batches_once_per_state(tmp_path, postgres):
    execute(postgres, "DROP TABLE IF EXISTS big", "CREATE TABLE big AS SELECT 'user-' || k AS \"user\", k, repeat('x', 200) AS pad "
            "FROM generate_series(1, 200000) k")
    source = f"{postgres}?table=big"
    (path,) = stage(data(), source, tmp_path / "staged")
    assert parquet.ParquetFile(path).metadata.num_rows == 200_000 and parquet.ParquetFile(path).num_row_groups > 1
    state, made = source_state(data(), source), os.stat(path).st_mtime_ns
    if source_state(data(), source) == state:  # the server itself may write, such as a checkpoint: then it is read again
        assert stage(data(), source, tmp_path / "staged") == [path] or source_state(data(), source) != state
    execute(postgres, "DELETE FROM big WHERE k > 5")
    assert source_state(data(), source) != state
    (again,) = stage(data(), source, tmp_path / "staged")
    assert parquet.ParquetFile(again).metadata.num_rows == 5 and os.stat(again).st_mtime_ns > made and not Path(path).exists()


def test_what_postgres_cannot_give_is_one_line_without_the_password(tmp_path, postgres):
    wrong = postgres.replace("s3cr", "wr0ng")
    for source, expected in [
        (f"{postgres}?table=nothing", 'relation "nothing" does not exist'), (postgres, "expected postgresql://user:password@host"),
        (f"{postgres}?query=SELECT 1 / 0 AS x", "division by zero"), (f"{wrong}?table=x", "password authentication failed"),
        (f"{postgres.replace('127.0.0.1', 'no-such-host.invalid')}?table=x", "could not read it"),
    ]:
        with pytest.raises(DataError, match=expected) as error:
            read(source, tmp_path / "staged")
        said = str(error.value)
        assert "\n" not in said and "***" in said and not any(p in said for p in ("s3cr", "wr0ng", "%3At"))
        assert not (tmp_path / "staged").exists()
    for odd in ("pa/ss", "pa@ss", "pa?ss", "p#a@ss"):
        with pytest.raises(DataError, match="expected a password in which / . # @ are written as") as error:
            read(f"postgresql://shop:{odd}@127.0.0.1/db?table=x", tmp_path / "staged")
        assert not any(part in str(error.value) for part in ("pa/", "pa@", "ss@", "pa?", "p#"))
    assert shown("postgresql://u@h/db?password=abc&table=t") == "postgresql://u@h/db?password=***&table=t"


@pytest.mark.parametrize("module, source, expected", [
    ("adbc_driver_postgresql", "postgresql://u:pw@h/db?table=t", r"pip install 'recllm\[postgres\]'"),
    ("datasets", "owner/name", r"pip install 'recllm\[hub\]'")])
def test_an_extra_that_is_not_installed_is_named(tmp_path, monkeypatch, module, source, expected):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=expected):
        read(source, tmp_path / "staged", format="datasets")
    assert not (tmp_path / "staged").exists()
