"""What a moment's values say: from when to when, in which unit, and in which zone people may have lived."""

from recllm.data.propose.evidence import DAY, Evidence
from recllm.data.propose.pairs import TIME
from recllm.data.propose.profile import Column

QUIET, USUAL = 4, 2  # the hours that are counted together, and when the quietest of them begin where people sleep at night


def described(evidence: Evidence, column: Column) -> str:
    """`seconds from 1997-09-20 to 1998-04-22`."""
    low, high = evidence.connection.execute(f"""SELECT strftime(make_timestamp(quantile_disc({TIME}, 0.001) * 1000), '%Y-%m-%d'),
        strftime(make_timestamp(quantile_disc({TIME}, 0.999) * 1000), '%Y-%m-%d') FROM {evidence.log.name}""").fetchall()[0]
    words = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "iso": "ISO 8601"}
    return f"{words[column.unit or 'iso']} from {low} to {high}"


def zone(evidence: Evidence) -> str:
    """A hint at the time zone: what the text says, else where the quietest hours would be at night. Empty where nothing can be said."""
    if evidence.time is None:
        return ""
    column = evidence.log[evidence.time]
    if column.share["offset"] > 0.95:
        return "each moment says its own offset"
    local = "moments without a zone are read as UTC: write `zone: Europe/Berlin` or the like if they are local times"
    hours = dict(evidence.connection.execute(f"SELECT {TIME} // 3600000 % 24, count(*) FROM {evidence.log.name} GROUP BY 1").fetchall())
    days = evidence.connection.execute(f"SELECT count(DISTINCT {TIME} // {DAY}) FROM {evidence.log.name}").fetchall()[0][0]
    rows = sum(hours.values())
    quiet = min(range(24), key=lambda h: sum(hours.get((h + k) % 24, 0) for k in range(QUIET)))
    share = sum(hours.get((quiet + k) % 24, 0) for k in range(QUIET)) / max(rows, 1)
    if rows < 1000 or days < 2 or share > 0.4 * QUIET / 24:
        return local if column.unit == "iso" else ""
    offset = (USUAL - quiet + 11) % 24 - 11
    if abs(offset) <= 2:
        return local if column.unit == "iso" else ""
    return (f"the quietest hours are {quiet:02d} to {(quiet + QUIET) % 24:02d} UTC, night at about UTC{offset:+d}: write "
            f"`zone: {_example(offset)}` or the zone you know")


def _example(offset: int) -> str:
    """A zone of that offset, without daylight saving where there is one."""
    named = {8: "Asia/Shanghai", 9: "Asia/Tokyo", 7: "Asia/Bangkok", 3: "Europe/Moscow", -3: "America/Sao_Paulo", -5: "America/New_York",
             -6: "America/Chicago", -7: "America/Denver", -8: "America/Los_Angeles", 10: "Australia/Sydney"}
    return named.get(offset, f"Etc/GMT{-offset:+d}")
