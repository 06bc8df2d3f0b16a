"""What somebody should know who has a broken file before them: lines that were refused, a header that is none, dates nobody reads."""

from recllm.data.propose import clock
from recllm.data.propose.evidence import Evidence
from recllm.data.propose.pairs import TIME
from recllm.data.propose.profile import Table
from recllm.data.sources.places import passwords, shown


def notes(evidence: Evidence) -> list[str]:
    """One line each, the gravest first."""
    tables = [table for table in (evidence.log, evidence.items, evidence.users) if table]
    found = [note for table in tables for note in _of_file(table)]
    guessed = [table for table in tables if table.encoding]
    found += [f"{shown(t.path)} is UTF-8 and {shown(guessed[0].path)} is not, and data.encoding is one for all text: save both in one"
              for t in tables if guessed and not t.encoding and any(c.share["beyond"] for c in t.columns)]
    zone = clock.zone(evidence)
    return [*found, *_split(evidence), *([f"time: {zone}"] if zone else [])]


def _of_file(table: Table) -> list[str]:
    found, where = [], shown(table.path)
    if secrets := passwords(table.path):
        found.append(f"the file holds {'a password' if len(secrets) == 1 else 'passwords'}: write ${{NAME}} in its place, which is read "
                     f"from the environment")
    names = [c.name for c in table.columns]
    if len(names) == 1:
        found.append(f'{where}: one column only, "{names[0][:60]}": is the delimiter another one? Give it with --delimiter')
    if sum(_value_like(name) for name in names) >= max(2, len(names) / 2):
        found.append(f"{where}: the first line looks like values, not names ({', '.join(names)[:60]}): add a line of names")
    if table.encoding:
        found.append(f"{where}: no UTF-8, read as {table.encoding}: where its letters are wrong, say --encoding")
    if table.refused:
        line, content = table.refused[0]
        found.append(f"{where}: {len(table.refused):,} lines do not have the header's {len(names)} columns; preparation drops and "
                     f"counts them. The first is line {line}: {content[:80].strip()}")
    for c in table.columns:
        if c.share["european"] > 0.9:
            found.append(f'{where}: "{c.name}" holds dates such as 31.12.2025, which are not read: write ISO 8601 (2025-12-31)')
        if c.share["absent"] > 0 and (c.numeric or c.share["numeric"] + c.share["absent"] > 0.98):
            found.append(f'{where}: "{c.name}" says NA, null or the like in {c.share["absent"]:.1%} of its cells; empty ones are '
                         f"unknown, these are not read as such")
    return found


def _value_like(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _split(evidence: Evidence) -> list[str]:
    """Whether a split by time leaves something on either side."""
    if evidence.time is None:
        return []
    moments = evidence.connection.execute(f"""SELECT min({TIME}), quantile_disc({TIME}, 0.8), quantile_disc({TIME}, 0.9), max({TIME}),
        count(DISTINCT {TIME}) FROM {evidence.log.name}""").fetchall()[0]
    first, validation, test, last, different = moments
    if first < validation < test <= last:
        return []
    return [f"the log has {different} different moments only: data.split by fractions cannot cut it, give dates"]
