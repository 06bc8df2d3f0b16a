"""Moments with a zone of their own per row, in a column beside them."""

import re
from functools import cache
from zoneinfo import available_timezones

import duckdb

from recllm.data.columns import Columns, local_moment, says_zone, text
from recllm.data.shapes.part import Part, own, register
from recllm.data.sources.files import quote
from recllm.schema import Schema

ZONE = own("zone")  # the row's zone under a name that DuckDB knows, NULL for unknown
OLDEST, LATEST = -2_208_988_800_000, 7_258_118_400_000  # UTC ms, the years 1900 to 2200: a moment outside is left as it was written


@cache
def zone_name(written: str | None) -> str | None:
    """A zone as DuckDB and ICU call it: an IANA name as it is, `+02:00` and `+0530` as `GMT+02:00`; None for what is no zone."""
    if written in available_timezones() - {"localtime"}:  # the machine's own zone is nobody's
        return written
    found = re.fullmatch(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?([0-5]\d))?", written or "")
    if found and int(found[2]) <= 14:
        return f"GMT{found[1]}{int(found[2]):02d}:{found[3] or '00'}"
    return "UTC" if written in ("Z", "z") else None


def zones(connection: duckdb.DuckDBPyConnection, schema: Schema) -> tuple[dict[str, str], Part]:
    """(columns that the part's own SQL reads, the part): the time as ISO 8601 text with the offset of the row's zone at that moment.

    Local text is read in the row's zone. Where the zone is empty the declared one holds. Where it cannot be read, local text has no
    known moment and its row is dropped; another moment keeps its own offset, or the declared zone's.
    """
    spec = schema.time
    if spec.zone_column is None:
        return {}, Part()
    register(connection, "recllm_zone_name", zone_name, ["VARCHAR"])
    written, zone, value = text(spec.zone_column), quote(ZONE), text(spec.column)
    numeric = f"TRY_CAST({value} AS DOUBLE) IS NOT NULL AND {'false' if spec.unit == 'iso' else 'true'}"
    local = f"(NOT ({numeric}) AND NOT {says_zone(value)})"
    instant = (f"CASE WHEN {zone} IS NOT NULL AND {local} THEN epoch_ms(timezone({zone}, {local_moment(value)})) "
               f"ELSE {Columns().moment(spec)} END")
    stamp = f"make_timestamptz({own('instant')} * 1000)"
    there = f"date_diff('minute', timezone('UTC', {stamp}), timezone({zone}, {stamp}))"
    offset = f"COALESCE({there}, {Columns().utc_offset(spec, own('instant'))})"
    clock = f"strftime(make_timestamp(({own('instant')} + {own('offset')} * 60000) * 1000), '%Y-%m-%dT%H:%M:%S.%g')"
    sign = f"CASE WHEN {own('offset')} < 0 THEN '-' ELSE '+' END"
    digits = f"format('{{:02d}}:{{:02d}}', abs({own('offset')}) // 60, abs({own('offset')}) % 60)"
    within = f"{own('instant')} BETWEEN {OLDEST} AND {LATEST}"
    lost = f"{written} IS NOT NULL AND {zone} IS NULL"
    # in steps, each reading the one before: zone, instant, its offset there
    steps = {ZONE: f"recllm_zone_name({written})", own("instant"): instant,
             own("offset"): f"CASE WHEN {within} THEN CAST({offset} AS BIGINT) END"}
    return steps, Part({own("time"): f"CASE WHEN {within} THEN {clock} || {sign} || {digits} ELSE {value} END"},
                       {"bad_zone": f"{lost} AND {local} AND {value} IS NOT NULL"}, {"unreadable_zone": lost})
