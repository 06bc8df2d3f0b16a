"""What a moment's values say: from when to when, in which unit, and in which zone people may have lived."""

from recllm.data.propose.evidence import DAY, Evidence
from recllm.data.propose.pairs import TIME
from recllm.data.propose.profile import Column
from recllm.data.shapes.zones import zone_name
from recllm.data.sources.files import quote

ZONES = 400  # different zones of one log, at most
NIGHT, WIDE = 4, 6  # the middle of the hours in which people sleep; hours on either side that are looked at


def described(evidence: Evidence, column: Column) -> str:
    """`seconds from 1997-09-20 to 1998-04-22`."""
    low, high = evidence.connection.execute(f"""SELECT strftime(make_timestamp(quantile_disc({TIME}, 0.001) * 1000), '%Y-%m-%d'),
        strftime(make_timestamp(quantile_disc({TIME}, 0.999) * 1000), '%Y-%m-%d') FROM {evidence.log.name}""").fetchall()[0]
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "iso": "ISO 8601"}
    return f"{words[column.unit or 'iso']} from {low} to {high}"


def zone_column(evidence: Evidence) -> Column | None:
    """A column that names each row's own zone, `Europe/Berlin` or `+02:00`."""
    for column in evidence.left:
        if column.numeric or column.unit or not 0 < column.distinct <= ZONES or column.filled < 0.5:
            continue
        values = [v for (v,) in evidence.connection.execute(
            f"SELECT DISTINCT {quote(column.name)} FROM {evidence.log.name} WHERE {quote(column.name)} IS NOT NULL").fetchall()]
        plain = [v for v in values if "/" in v or v[0] in "+-"]  # `Japan` and `Cuba` are zones, too
        if len(plain) >= 0.5 * len(values) and all(map(zone_name, values)):
            return column
    return None


def zone(evidence: Evidence) -> str:
    """A hint at the time zone: what the text says, else where the quietest hours would be at night. Empty where nothing can be said."""
    if evidence.time is None:
        return ""
    column = evidence.log[evidence.time]
    if any(f.role == "zone" for f in evidence.findings):
        return ""
    if column.share["offset"] > 0.95:
        return "each moment says its own offset"
    local = "moments without a zone are read as UTC: write `zone: Europe/Berlin` or the like if they are local times"
    hours = dict(evidence.connection.execute(f"SELECT {TIME} // 3600000 % 24, count(*) FROM {evidence.log.name} GROUP BY 1").fetchall())
    days = evidence.connection.execute(f"SELECT count(DISTINCT {TIME} // {DAY}) FROM {evidence.log.name}").fetchall()[0][0]
    rows = sum(hours.values())
    # the middle of the quiet hours: those near it weigh most
    middle = min(range(24), key=lambda h: sum((WIDE - abs(k)) * hours.get((h + k) % 24, 0) for k in range(-WIDE, WIDE)))
    share = sum(hours.get((middle + k) % 24, 0) for k in (-1, 0, 1)) / max(rows, 1)
    offset = (NIGHT - middle + 11) % 24 - 11
    if rows < 1000 or days < 2 or share > 0.4 * 3 / 24 or abs(offset) <= 2:
        return local if column.unit == "iso" else ""
    hint = f"the quietest hours are about {middle:02d}:00 UTC, night at UTC{offset:+d} or so"
    return f"{local}; {hint}" if column.unit == "iso" else f"{hint}: write `zone: {_example(offset)}` or the zone you know"


def _example(offset: int) -> str:
    """A zone of that offset, without daylight saving where there is one."""
    named = {8: "Asia/Shanghai", 9: "Asia/Tokyo", 7: "Asia/Bangkok", 3: "Europe/Moscow", -3: "America/Sao_Paulo", -5: "America/New_York",
             -6: "America/Chicago", -7: "America/Denver", -8: "America/Los_Angeles", 10: "Australia/Sydney"}
    return named.get(offset, f"Etc/GMT{-offset:+d}")
