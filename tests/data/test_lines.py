"""Broken lines of a CSV file cost themselves and no other line; the header says what the file is, and every line is accounted for."""

import pyarrow.parquet as pq
import pytest

from recllm.data.columns import Columns
from recllm.data.engine import connect
from recllm.data.prepare import check, prepare
from recllm.errors import DataError
from recllm.model.history_recllm import parse_time
from recllm.schema import TimeColumn
from tests.conftest import HEADER, small_log

LINES = small_log().splitlines()
OPEN = 'u1,"i1,1700000006,,tv,Oslo,1,1,0,5'  # a quote that nobody closes


def dropped(config) -> list[str]:
    return [row["row"] for path in sorted((config.prepared / "dropped").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("at", [[1], [50], [50, 90], [len(LINES)]])
def test_a_quote_that_nobody_closes_costs_its_own_line_alone(shop, sign, at):
    # given a log with cells of several lines, and a quote that is never closed in some lines
    lines = [line.replace("Oslo", '"Os""lo\nin, the; north"') for line in LINES[1:]]
    for place in reversed(at):
        lines.insert(place - 1, OPEN)
    log = "\n".join([LINES[0], *lines]).replace("in, the; north", "north").replace(",", sign) + "\n"
    config = shop(log)
    # when it is prepared
    report = prepare(config)
    # then those lines are dropped, each as itself, and every other row is there
    assert report.rows >= 144 - len(at) and report.rows + sum(report.dropped.values()) == report.read
    assert sum("i1" in row and "u1" in row and "1700000006" in row for row in dropped(config)) == len(at)


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
@pytest.mark.parametrize("many", [1, 40, 143])
def test_line_ends_of_two_kinds_are_read(shop, ends, many):
    config = shop("")
    (config.folder.parent.parent / "log.csv").write_text(small_log().replace("\n", ends, many), newline="")
    report = prepare(config)
    assert report.rows == report.read == 144


def test_a_check_reads_them_too(shop):
    config = shop("\n".join([*LINES[:9], OPEN, *LINES[9:]]) + "\n")
    (_, result), = check(config)
    assert result.rows == 145 and result.kept == 144 and result.dropped == {"malformed_line": 1}


@pytest.mark.parametrize("name", ["Device", "device"])
def test_of_two_columns_that_differ_by_case_the_renamed_one_is_asked_for_by_line(shop, name):
    header = HEADER.replace("device", "Device,device" if name == "device" else "device,Device")
    log = "\n".join([header, *(line.replace("tv", "tv,x").replace("mobile", "mobile,y") for line in LINES[1:])])
    with pytest.raises(DataError, match=r"log\.csv: expected columns that differ by more than case.*rename one"):
        prepare(shop(log, schema={"context": {"place": {}, "kind_of": {"column": name}}}))


TIMES = ["2023-11-15T10:00:00z", "2023-11-15T10:00:00 +01:00", "2023-11-15 10:00:00.5 -0500", "2023-11-15 10:00:00 UTC",
         "2023-11-15t10:00:00", "2023-10-29 02:30:00",
         "2023-03-26T02:30", "2023-11-05T01:30", "2023-03-12 02:30", "2023-04-02 01:45", "2023-10-01 02:15",
         "2023-11-15", "2023-11-15T10:00:00.123+05:30", "2023-11-15T10:00:00Z"]  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_preparation_and_requests_read_the_same_moment(zone):
    # given offsets in every form, and hours that a clock change doubles or skips
    spec, columns = TimeColumn(column="t", zone=zone), Columns()
    moment = columns.moment(spec)
    for text in TIMES:
        found = connect(zone).execute(f"SELECT {moment}, {columns.utc_offset(spec, moment)} FROM (SELECT ? AS t)", [text]).fetchall()[0]
        assert found == parse_time(text, zone, "auto", "time"), text


@pytest.mark.parametrize("text", ["2023-11-15T10:00:00 CET", "2023-11-15 10:00 Europe/Paris", "infinity", "epoch", "294247-01-10 04:00:54",
                                  "2023-11-15 10:00:00 +1", "2023-11-15 infinity Z", "294247-01-10 04:00:54+00"])  # fmt: skip
def test_a_time_whose_zone_cannot_be_read_is_no_local_time(text):
    sql = Columns().moment(TimeColumn(column="t", zone="Europe/Berlin"))
    assert connect("Europe/Berlin").execute(f"SELECT {sql} FROM (SELECT ? AS t)", [text]).fetchall() == [(None,)]
