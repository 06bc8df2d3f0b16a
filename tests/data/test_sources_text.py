"""Any log as text: delimiters, encodings, compression, nested JSON, partitioned folders; each becomes the same rows."""

import gzip
import io
import json

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest
from pydantic import ValidationError

from recllm.config import DataConfig
from recllm.data.prepare import prepare
from recllm.data.sources.files import reading
from recllm.data.sources.scan import scan
from recllm.data.sources.stage import source_state, stage
from recllm.errors import DataError
from tests.conftest import small_log

LINES = ["user,item,city", "0017,i1,Tromsø", '9223372036854775807,i2,"Oslo, by the ""fjord"""', "u3,i3,Łódź"]
ROWS = [("0017", "i1", "Tromsø"), ("9223372036854775807", "i2", 'Oslo, by the "fjord"'), ("u3", "i3", "Łódź")]
TEXT = "\r\n".join(LINES) + "\r\n"


def data(source="unused", **settings):
    return DataConfig(interactions=str(source), **settings)


def read(source, folder, *, wanted=(), columns="*", **settings):
    """All rows of a source, staged where it must be, as tuples of text."""
    config, connection = data(source, **settings), duckdb.connect()
    relations = [scan(connection, path, format=config.format, delimiter=config.delimiter, wanted=wanted)
                 for path in stage(config, str(source), folder)]
    with reading(source):
        return [row for relation in relations for row in connection.sql(f"SELECT {columns} FROM {relation}").fetchall()]


def compress(path, content):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("declared", [False, True])
def test_any_delimiter_is_found_or_declared(tmp_path, delimiter, declared):
    # given the same table with another delimiter, quoted only where that asks for it
    (tmp_path / "log.csv").write_text("\n".join(delimiter.join(f'"{c}"' for c in row) for row in [("user", "item", "city"), *[
        tuple(cell.replace('"', '""') for cell in row) for row in ROWS]]), encoding="utf-8")
    # then its rows are the same
    assert read(tmp_path / "log.csv", tmp_path / "staged", delimiter=delimiter if declared else None) == ROWS


@pytest.mark.parametrize("encoding, declared", [
    ("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("utf-32", None), ("utf-16-le", "utf-16-le"), ("iso8859-2", None),
    ("utf-8", "utf-8"), ("utf-8-sig", "UTF8"), ("cp1250", "cp1250"), ("utf-16", "utf-16"), ("gb18030", "gb18030")])
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_any_encoding_gives_the_same_rows(tmp_path, encoding, declared, suffix):
    declared = declared or ("iso8859-2" if encoding == "iso8859-2" else None)
    text = TEXT if encoding not in ("iso8859-2", "cp1250") else TEXT.replace("ø", "ö")
    path = tmp_path / f"log.csv{suffix}"
    compress(path, text.encode(encoding)) if suffix else path.write_bytes(text.encode(encoding))
    expected = [tuple(cell.replace("ø", "ö") if text != TEXT else cell for cell in row) for row in ROWS]
    assert read(path, tmp_path / "staged", encoding=declared) == expected
    # and UTF-8 is read where it lies
    assert (tmp_path / "staged").exists() == (not encoding.startswith("utf-8"))


def test_a_long_text_is_transcoded_whole_and_once(tmp_path):
    # given 3 MB in which characters of several bytes lie across every border of a MiB
    rows = [f"u{k},ødegård-{k},Łódź" for k in range(70_000)]
    (tmp_path / "log.csv").write_bytes(("user,item,city\n" + "\n".join(rows) + "\n").encode("utf-16"))
    assert read(tmp_path / "log.csv", tmp_path / "staged") == [tuple(row.split(",")) for row in rows]
    # when it is read again, nothing is written; when it has changed, its new state takes the old one's place
    (staged,) = stage(data(), str(tmp_path / "log.csv"), tmp_path / "staged")
    with open(staged, "a", encoding="utf-8") as file:
        file.write("mark,mark,mark\n")
    assert read(tmp_path / "log.csv", tmp_path / "staged")[-1] == ("mark", "mark", "mark")
    (tmp_path / "log.csv").write_bytes("user\nnew\n".encode("utf-16"))
    assert read(tmp_path / "log.csv", tmp_path / "staged") == [("new",)]
    assert len([p for p in (tmp_path / "staged").rglob("*") if p.is_file()]) == 1


def test_an_encoding_that_is_not_declared_or_wrong_is_one_line(tmp_path):
    (tmp_path / "log.csv").write_bytes("user,city\nu1,Oslo\nu2,Tromsø\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"expected UTF-8 text, found the byte 0xf8 on line 3: declare data.encoding"):
        read(tmp_path / "log.csv", tmp_path / "staged")
    assert read(tmp_path / "log.csv", tmp_path / "staged", encoding="latin-1")[1] == ("u2", "Tromsø")
    (tmp_path / "other.csv").write_bytes(TEXT.encode("utf-16-le"))
    with pytest.raises(DataError, match="found a zero in every few bytes: declare data.encoding"):
        read(tmp_path / "other.csv", tmp_path / "staged")
    (tmp_path / "wrong.csv").write_bytes(TEXT.encode("utf-8"))
    with pytest.raises(DataError, match="expected text in shift_jis.*change data.encoding"):
        read(tmp_path / "wrong.csv", tmp_path / "two", encoding="shift_jis")
    assert not (tmp_path / "two").exists()
    for odd in ("latin-one", "base64"):
        with pytest.raises(ValidationError, match="expected a text encoding that Python knows"):
            data(encoding=odd)


def test_a_broken_byte_in_good_utf8_is_left_to_the_reader_of_lines(tmp_path):
    (tmp_path / "log.csv").write_bytes("user,city\nu1,Tromsø\n".encode() + b"u2,\xff\nu3,Oslo\n")
    assert read(tmp_path / "log.csv", tmp_path / "staged") == [("u1", "Tromsø"), ("u3", "Oslo")]


RECORDS = [{"user": "u1", "device": {"os": "iOS", "screen size": [3, 4]}, "items": [{"id": 12345678901234567890, "n": 1.5}, {"id": 7}]},
           {"user": "u2", "device": {"os": None}, "items": []}, {"user": "u3"}]
PATHS = ["device.os", "device.screen size[1]", "items[0].id", "items[1].id", "items[0].n"]
FOUND = [("u1", "iOS", "4", "12345678901234567890", "7", "1.5"), ("u2", *[None] * 5), ("u3", *[None] * 5)]
SELECT = '"user", ' + ", ".join(f'"{path}"' for path in PATHS)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_nested_fields_of_json_lines_are_columns_by_path(tmp_path, suffix, encoding):
    path = tmp_path / f"log.jsonl{suffix}"
    content = "\n".join(json.dumps(record) for record in RECORDS).encode(encoding)
    compress(path, content) if suffix else path.write_bytes(content)
    assert read(path, tmp_path / "staged", wanted=["user", *PATHS], columns=SELECT) == FOUND


@pytest.mark.parametrize("name", ["log.parquet", "log.feather", "log.csv"])
def test_nested_fields_of_tables_are_columns_by_path(tmp_path, name):
    # given structs and lists in Parquet and Arrow, and JSON text in CSV
    records = [{**r, "items": [{**i, "id": i["id"] % 2**63} for i in r["items"]]} if "items" in r else r for r in RECORDS]
    first = str(12345678901234567890 % 2**63)
    if name == "log.csv":
        pd.DataFrame([{k: v if k == "user" else json.dumps(v) for k, v in r.items()} for r in records]).to_csv(tmp_path / name, index=False)
    else:
        {"log.parquet": parquet.write_table, "log.feather": feather.write_feather}[name](pa.Table.from_pylist(records), tmp_path / name)
    expected = [tuple(first if cell == "12345678901234567890" else cell for cell in row) for row in FOUND]
    assert read(tmp_path / name, tmp_path / "staged", wanted=PATHS, columns=SELECT) == expected


def test_a_path_that_no_row_has_is_not_offered_and_a_plain_column_goes_first(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"device.os": "plain", "device": {"os": "nested", "model": "x"}}\n', encoding="utf-8")
    connection = duckdb.connect()
    wanted = ["device.os", "device.model", "device.so", "devise.os", "device[0]", "device"]
    relation = connection.sql(f"SELECT * FROM {scan(connection, tmp_path / 'log.jsonl', wanted=wanted)}")
    assert dict(zip(relation.columns, relation.fetchall()[0], strict=True)) == {
        "device.os": "plain", "device": '{"os":"nested","model":"x"}', "device.model": "x"}


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet"])
@pytest.mark.parametrize("encoding", [None, "utf-16"])
def test_partitioned_folders_have_their_key_as_a_column(tmp_path, suffix, encoding):
    if encoding and suffix == "parquet":
        encoding = None
    for day, users in (("2026-01-01", ["u1", "u2"]), ("2026-01-02", ["u3"])):
        home = tmp_path / "log" / f"day={day}" / "hour=00"
        home.mkdir(parents=True)
        frame = pd.DataFrame({"user": users, "city": "Łódź"})
        path = home / f"part-0.{suffix}"
        if suffix == "parquet":
            frame.to_parquet(path)
        elif suffix == "jsonl":
            path.write_text(frame.to_json(orient="records", lines=True), encoding=encoding or "utf-8")
        else:
            frame.to_csv(path, index=False, encoding=encoding or "utf-8")
        (tmp_path / "log" / "_SUCCESS").touch()
    expected = [("u1", "Łódź", "2026-01-01", "00"), ("u2", "Łódź", "2026-01-01", "00"), ("u3", "Łódź", "2026-01-02", "00")]
    for source in (tmp_path / "log", f"{tmp_path}/log/*/*/part-*"):
        assert read(source, tmp_path / "staged", columns='"user", city, day, hour') == expected


def test_a_glob_is_its_files_in_order_and_a_name_with_brackets_is_itself(tmp_path):
    for k in (2, 10, 1):
        compress(tmp_path / f"log-{k:02}.csv.gz", f"user\nu{k}\n".encode())
    (tmp_path / "log[1].csv").write_text("user\nbrackets\n", encoding="utf-8")
    assert read(tmp_path / "*.csv.gz", tmp_path / "staged") == [("u1",), ("u2",), ("u10",)]
    assert read(tmp_path / "log[1].csv", tmp_path / "staged") == [("brackets",)]
    # and the state of a source changes with any of its files
    before = source_state(data(), f"{tmp_path}/*.csv.gz")
    assert before == source_state(data(), f"{tmp_path}/*.csv.gz") and before[0] == sum(p.stat().st_size for p in tmp_path.glob("*.gz"))
    compress(tmp_path / "log-03.csv.gz", b"user\nu3\n")
    assert source_state(data(), f"{tmp_path}/*.csv.gz") != before
    with pytest.raises(DataError, match="expected a file at .*none-.*found none"):
        read(tmp_path / "none-*.csv", tmp_path / "staged")


def test_a_schema_names_nested_columns_by_path(shop, tmp_path):
    # given the small log and its items as JSON Lines with objects and lists in them
    frame = pd.read_csv(io.StringIO(small_log()), dtype=str)
    nested = [{"who": {"id": row["user_id"]}, "shown": [{"id": row["item_id"]}], "at": row["ts"],
               "device": {"name": row["device"], "sensor": {"t": float(row["temperature"])}}, "clicked": {"value": int(row["click"])}}
              for row in frame.to_dict("records")]
    items = "".join(json.dumps({"item": {"id": f"i{k}", "tags": ["a", f"t{k}"]}}) + "\n" for k in range(7))
    schema = {"user": "who.id", "item": "shown[0].id", "time": "at", "request": None,
              "context": {"device": {"column": "device.name"}, "temperature": {"kind": "number", "column": "device.sensor.t"}},
              "outcomes": {"click": {"kind": "binary", "column": "clicked.value"}}}
    config = shop("".join(json.dumps(row) + "\n" for row in nested), name="log.jsonl", schema=schema)
    report = prepare(config)
    # then its rows are those of the flat log
    assert report.dropped == {} and report.mended == {}
    found = pd.concat(pd.read_parquet(p) for p in (config.prepared / "data").glob("*.parquet"))
    columns = ["user", "item", "device", "temperature", "click"]
    flat = frame.rename(columns={"user_id": "user", "item_id": "item"})[columns].astype({"temperature": float, "click": float})
    assert sorted(found[columns].values.tolist()) == sorted(flat.values.tolist())
    # and a path that is nowhere is an error that names it; items have theirs
    with pytest.raises(DataError, match='column "device.nam" is not in .*Schema: context.device'):
        prepare(shop("".join(json.dumps(row) + "\n" for row in nested), name="log.jsonl",
                     schema={**schema, "context": {"device": {"column": "device.nam"}}}))
    (tmp_path / "things.jsonl").write_text(items, encoding="utf-8")
    connection = duckdb.connect()
    relation = scan(connection, tmp_path / "things.jsonl", wanted=["item.id", "item.tags"])
    assert connection.sql(f'SELECT "item.id", "item.tags" FROM {relation}').fetchall()[1] == ("i1", '["a","t1"]')
