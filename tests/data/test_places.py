"""Fields of the moment that are made: cells and levels of a place, devices of user agents, hours in the row's own zone."""

import json
import sys
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from recllm.data.prepare import prepare
from recllm.data.shapes.zones import zone_name
from recllm.data.sources.cells import cell_of
from recllm.errors import DataError, MissingExtraError
from recllm.model.history_recllm import parse_time
from tests.data.test_prepare import read
from tests.data.test_shapes import START, daily, log_of

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 Safari/604.1"
DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36"


def clicks(*cells):
    """Two rows a day and user with the same further cells: one clicked, one not."""
    return daily(lambda user, moment, day: [(user, "a", moment, 1, *cells), (user, "b", moment + 1, 0, *cells)])


def made(tmp_path, header, cells, more, context, **schema):
    """(report, first rows of `more` by item) of a log with those further cells; `more` are cells of items of their own."""
    rows = [*clicks(*cells), *(("u1", f"x{k}", START + 10 + k, 0, *other) for k, other in enumerate(more))]
    config = log_of(tmp_path, f"user,item,ts,click,{header}", rows, {"context": context, **schema})
    report = prepare(config)
    return report, read(config.prepared).drop_duplicates("item").set_index("item"), config


# ---- places

def test_a_point_becomes_cells_at_two_resolutions(tmp_path):
    # given points in Lisbon and Porto, one without longitude, one that is on no map, one that is text, and none
    more = [("41.15", "-8.61"), ("38.72", ""), ("99", "10"), ("north", "1"), ("", "")]
    place = {"place": {"kind": "place", "latitude": "lat", "longitude": "lon", "resolutions": [2, 7]}}
    report, rows, config = made(tmp_path, "lat,lon", ("38.7223", "-9.1393"), more, place)
    # then the fields are plain ones, of the ids that the library gives
    assert list(config.columns.context) == ["place_2", "place_7"]
    assert rows.loc["a", ["place_2", "place_7"]].tolist() == [cell_of(38.7223, -9.1393, 2), cell_of(38.7223, -9.1393, 7)]
    assert rows.loc["x0", "place_7"] == cell_of(41.15, -8.61, 7) and rows.loc["x0", "place_2"] != rows.loc["x0", "place_7"]
    # and what is no point is unknown, counted once a row, where anything was written
    assert rows.loc[["x1", "x2", "x3", "x4"], "place_7"].isna().all() and report.mended == {"unreadable_place": 3}


def test_a_point_may_have_decimal_commas(tmp_path):
    place = {"place": {"kind": "place", "latitude": "lat", "longitude": "lon", "resolutions": [5]}}
    _, rows, _ = made(tmp_path, "lat,lon", ("38,7223", "-9,1393"), [], place, decimal=",")
    assert rows.loc["a", "place_5"] == cell_of(38.7223, -9.1393, 5)


def test_levels_of_a_place_from_one_text_or_from_several_columns(tmp_path):
    # given places as text and as columns, some of them less deep, or deeper, than what is declared
    more = [("Europe/Spain", "", "Vigo"), ("", "Spain", ""), (" Europe / France / Paris / 5e", "France", "Paris")]
    context = {"at": {"kind": "place", "column": "where", "levels": ["continent", "country", "city"]},
               "home": {"kind": "place", "levels": ["country", "city"]}}  # fmt: skip
    report, rows, config = made(tmp_path, "where,country,city", ("Europe/Portugal/Lisbon", "Portugal", "Lisbon"), more, context)
    # then each level is a field whose values name their parents
    assert list(config.columns.context) == ["at_continent", "at_country", "at_city", "home_country", "home_city"]
    assert rows.loc["a", list(config.columns.context)].tolist() == ["Europe", "Europe/Portugal", "Europe/Portugal/Lisbon", "Portugal",
                                                                   "Portugal/Lisbon"]
    assert rows.loc["x0", "at_country"] == "Europe/Spain" and rows.loc["x0", "home_city"] == "Vigo"
    assert rows.loc["x2", "at_city"] == "Europe/France/Paris"
    # and a level that is not named is unknown, which is nothing unreadable
    assert rows.loc[["x0", "x1"], "at_city"].isna().all() and rows.loc["x1", "home_country"] == "Spain" and report.mended == {}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"place": {"kind": "place", "latitude": "lat"}}, "expected latitude, longitude and resolutions together"),
        ({"place": {"latitude": "lat", "longitude": "lon", "resolutions": [4]}}, "expected latitude, longitude and resolutions together"),
        ({"place": {"kind": "place", "latitude": "lat", "longitude": "lon", "resolutions": [4, 4]}}, "resolutions: expected each once"),
        ({"place": {"kind": "place", "latitude": "lat", "longitude": "lon", "resolutions": [16]}}, "less than or equal to 15"),
        ({"place": {"levels": ["a"]}}, "are for kind: place"),
        ({"place": {"kind": "place", "levels": ["a"]}, "place_a": {}}, 'makes a field "place_a", which is declared too'),
        ({"place": {"kind": "place", "levels": ["a b"]}}, "letters, digits"),
        ({"device": {"kind": "device", "list": True}}, "expected no list"),
    ],
)
def test_a_place_that_cannot_be_made_is_refused(tmp_path, context, expected):
    with pytest.raises(ValueError, match=expected):
        log_of(tmp_path, "user,item,ts,click", [], {"context": context})


def test_a_column_that_a_field_is_made_of_must_be_there(tmp_path):
    place = {"place": {"kind": "place", "latitude": "lat", "longitude": "lng", "resolutions": [4]}}
    with pytest.raises(DataError, match=r'column "lng" is not in .*Schema: context.place'):
        prepare(log_of(tmp_path, "user,item,ts,click,lat,lon", clicks(1, 2), {"context": place}))


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h3", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"pip install 'recllm\[geo\]'"):
        cell_of(1.0, 2.0, 3)


def test_a_served_request_gives_the_cells_and_needs_no_library(tmp_path, tiny_encoder):
    from transformers import AutoTokenizer

    from recllm.feed.fit import fit
    from recllm.feed.log import load_log
    from recllm.model.requests_recllm import RequestReader

    # given a processor that was fitted over made fields
    context = {"place": {"kind": "place", "latitude": "lat", "longitude": "lon", "resolutions": [4, 7]},
               "device": {"kind": "device", "column": "agent"}}  # fmt: skip
    _, rows, config = made(tmp_path, "lat,lon,agent", ("38.7", "-9.1", PHONE), [], context)
    processor, tokenizer = fit(config, load_log(config)), AutoTokenizer.from_pretrained(tiny_encoder)
    reader = RequestReader(processor, lambda text, length: tokenizer(text)["input_ids"][:length], lambda texts: np.zeros((len(texts), 4)))
    # when a request names the fields as the prepared rows hold them, then they are known values
    asked = {"place_4": rows.loc["a", "place_4"], "place_7": rows.loc["a", "place_7"], "device": "mobile"}
    example = reader.read({"context": {"time": "2023-11-21T10:00:00Z", **asked}, "candidates": ["a"]}).example
    slots = {s.name: s for s in processor.by_group["context"]}
    known = {slots[name].index[value] for name, value in asked.items()}
    assert len(known) == 3 and known <= set(example.cat.ravel().tolist())
    assert json.loads(json.dumps(processor.spec["schema"]["context"]["place_4"]))["kind"] == "place"


# ---- devices

def test_a_user_agent_becomes_a_device_and_a_system(tmp_path):
    # given agents of a phone and a computer, one that nobody knows, and none
    context = {"device": {"kind": "device", "column": "agent"}, "os": {"kind": "system", "column": "agent"}}
    report, rows, _ = made(tmp_path, "agent", (PHONE,), [(DESKTOP,), ("what-is-this",), ("",)], context)
    assert rows.loc["a", ["device", "os"]].tolist() == ["mobile", "iOS"]
    assert rows.loc["x0", ["device", "os"]].tolist() == ["desktop", "Windows"]
    assert rows.loc[["x1", "x2"], "device"].isna().all() and report.mended == {"unreadable_device": 1, "unreadable_os": 1}


# ---- the row's own zone

def zoned(tmp_path, cases, **time):
    """(report, rows by item) of rows at (time text, zone), beside plain ones."""
    rows = [(user, item, datetime.fromtimestamp(moment, ZoneInfo("UTC")).isoformat(), click, "UTC")
            for user, item, moment, click in clicks()] + [("u1", f"x{k}", at, 0, zone) for k, (at, zone) in enumerate(cases)]
    (tmp_path / "z").mkdir(exist_ok=True)
    config = log_of(tmp_path / "z", "user,item,ts,click,tz", rows, {"time": {"column": "ts", "zone_column": "tz", **time}})
    report = prepare(config)
    return report, read(config.prepared).drop_duplicates("item").set_index("item")


def test_text_with_an_offset_keeps_its_own_hour(tmp_path):
    # given moments that carry their zone
    rows = [*((u, i, datetime.fromtimestamp(t, ZoneInfo("UTC")).isoformat(), c) for u, i, t, c in clicks()),
            ("u1", "x", "2023-11-15T23:30:00-03:30", 0), ("u1", "y", "2023-11-15T23:30:00Z", 0), ("u1", "z", "2023-11-15 23:30:00", 0)]
    config = log_of(tmp_path, "user,item,ts,click", rows, {"time": {"column": "ts", "zone": "Asia/Tokyo"}})
    prepare(config)
    found = read(config.prepared).set_index("item")["utc_offset"]
    # then hour and weekday are those of the text; the declared zone is for text without one
    assert found[["x", "y", "z"]].tolist() == [-210, 0, 540]


def test_local_time_is_read_in_the_zone_of_its_row(tmp_path):
    # given the same wall clock in several zones, as names and as offsets, and rows whose moment is known without them
    at = "2023-11-15 12:00:00"
    cases = [(at, "Europe/Lisbon"), (at, "America/New_York"), (at, "+05:30"), (at, "-0800"), (at, "Z"), (at, ""),
             ("2023-11-15T12:00:00Z", "Asia/Tokyo"), ("1700049600", "Asia/Tokyo"), ("2023-11-15T12:00:00+02:00", "")]
    report, rows = zoned(tmp_path, cases, zone="Europe/Berlin")
    noon = 1_700_049_600_000  # 12:00 UTC
    hours = [(noon - rows.loc[f"x{k}", "time"]) / 3_600_000 for k in range(len(cases))]
    # then the moment follows from it, and so do hour and weekday; an empty zone is the declared one, or what the text says
    assert hours == [0, -5, 5.5, -8, 0, 1, 0, 0, 2]
    assert rows["utc_offset"][[f"x{k}" for k in range(len(cases))]].tolist() == [0, -300, 330, -480, 0, 60, 540, 540, 120]
    assert report.dropped == {} and report.mended == {}


def test_a_clock_change_is_read_by_one_rule_in_preparation_and_in_requests(tmp_path):
    # given hours that a clock change skips or doubles, and their neighbours, in both hemispheres
    cases = [(day + " " + clock, zone) for zone, day, clocks in (
        ("Europe/Berlin", "2024-03-31", ["01:59:59", "02:00:00", "02:30:00", "03:00:00"]),
        ("Europe/Berlin", "2023-10-29", ["01:30:00", "02:00:00", "02:30:00", "03:00:00"]),
        ("America/New_York", "2024-03-10", ["02:30:00"]), ("America/New_York", "2023-11-05", ["01:30:00"]),
        ("Australia/Lord_Howe", "2023-10-01", ["02:15:00"]), ("Australia/Lord_Howe", "2024-04-07", ["01:45:00"])) for clock in clocks]
    _, rows = zoned(tmp_path, cases)
    for k, (at, zone) in enumerate(cases):
        found = (int(rows.loc[f"x{k}", "time"]), int(rows.loc[f"x{k}", "utc_offset"]))
        # then a doubled hour is the later one, and a skipped moment as long after the change as it claims to be
        local = datetime.fromisoformat(at)
        later, earlier = (local.replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() for fold in (1, 0))
        assert found[0] == max(later, earlier) * 1000, (at, zone)
        # and a request with the same text in that zone is at the same moment
        assert parse_time(at, zone, "iso", "time") == found, (at, zone)
    assert rows.loc["x2", "time"] == datetime.fromisoformat("2024-03-31T03:30:00+02:00").timestamp() * 1000


def test_a_zone_that_nobody_knows_drops_local_time_and_is_mended_elsewhere(tmp_path):
    cases = [("2023-11-15 12:00:00", "Mars/Base"), ("2023-11-15T12:00:00+02:00", "Mars/Base"), ("1700049600", "UTC+x")]
    report, rows = zoned(tmp_path, cases)
    assert report.dropped == {"bad_zone": 1} and report.mended == {"unreadable_zone": 2}
    assert rows.loc["x1", "utc_offset"] == 120 and rows.loc["x2", "utc_offset"] == 0 and "x0" not in rows.index


def test_odd_moments_stay_odd_with_a_zone(tmp_path):
    cases = [("soon", "Europe/Berlin"), ("", "Europe/Berlin"), ("1e30", "UTC"), ("5", "UTC"), ("0001-01-01 00:00:00", "Asia/Tokyo")]
    report, _ = zoned(tmp_path, cases)
    assert sum(report.dropped.values()) == 5 and set(report.dropped) <= {"bad_time", "time_out_of_range"}


@pytest.mark.parametrize(("written", "name"), [
    ("Europe/Berlin", "Europe/Berlin"), ("+2", "GMT+02:00"), ("UTC-03:30", "GMT-03:30"), ("Z", "UTC"), ("+15:00", None),
    ("localtime", None), ("berlin", None), (None, None), ("+02:75", None)])  # fmt: skip
def test_names_of_zones(written, name):
    assert zone_name(written) == name


def test_a_zone_column_is_for_the_time_of_the_log_alone(tmp_path):
    with pytest.raises(ValueError, match="zone_column is for schema.time, found one in known_at"):
        log_of(tmp_path, "user,item,ts,click", [], {"known_at": {"column": "seen", "zone_column": "tz"}})
