"""Candidates of one request as a list in one cell: `N1-1 N2-0`, or `a|b|c` with what was chosen in another column (impressions)."""

import re
from dataclasses import dataclass
from typing import Any

from recllm.data.propose.evidence import Evidence, Finding
from recllm.data.propose.profile import Column
from recllm.data.sources.files import literal, quote

SEPARATORS = (" ", "|", ";", ",")
LABELS = ("-", ":", "=", "_")
LOOK = 200  # cells of a first look
MANY = 50  # different entries that are no categories any more, where no name says that they were shown


@dataclass(frozen=True)
class Lists:
    column: str
    separator: str
    entries: int
    label: str | None = None
    clicked: str | None = None


def _parts(column: str, separator: str) -> str:
    """SQL: the entries of a cell, as preparation splits them."""
    cell = quote(column)
    split = f"regexp_split_to_array({cell}, '\\s+')" if separator == " " else f"string_split({cell}, {literal(separator)})"
    json = f"TRY_CAST(TRY_CAST({cell} AS JSON) AS VARCHAR[])"
    return f"list_transform(CASE WHEN {cell} LIKE '[%' THEN {json} ELSE {split} END, lambda x: trim(x))"


def _some(evidence: Evidence, *columns: str) -> list[tuple[str, ...]]:
    """A few filled cells, for a first look."""
    return evidence.connection.execute(f"""SELECT {', '.join(map(quote, columns))} FROM {evidence.log.name}
        WHERE {' AND '.join(f'{quote(c)} IS NOT NULL' for c in columns)} LIMIT {LOOK}""").fetchall()


def _labelled(evidence: Evidence, column: Column) -> Lists | None:
    """Nearly every cell is a list of entries that end in a label of 0 or 1, and both occur."""
    cells = _some(evidence, column.name)
    for separator in SEPARATORS:
        for label in LABELS:
            mark = r"\s" if separator == " " else re.escape(separator)
            entry = f"[^{mark}]+{re.escape(label)}[01]"
            whole = rf"{entry}( *{mark} *{entry})*"
            if sum(re.fullmatch(whole, cell) is not None for (cell,) in cells) < 0.9 * len(cells):
                continue
            fits, length, ones, zeros, different = evidence.connection.execute(f"""
                SELECT avg(CAST(regexp_full_match({quote(column.name)}, {literal(whole)}) AS INTEGER)),
                       avg(len({_parts(column.name, separator)})),
                       count(*) FILTER (contains({quote(column.name)}, {literal(label + '1')})),
                       count(*) FILTER (contains({quote(column.name)}, {literal(label + '0')})),
                       (SELECT count(DISTINCT p[:-3]) FROM (SELECT unnest({_parts(column.name, separator)}) AS p FROM {evidence.log.name}))
                FROM {evidence.log.name} WHERE {quote(column.name)} IS NOT NULL""").fetchall()[0]
            if fits and fits >= 0.98 and length >= 1.5 and ones and zeros:
                return Lists(column.name, separator, different, label)
    return None


def _chosen(evidence: Evidence, column: Column, other: Column) -> Lists | None:
    """All that another column says is in this column's list, in rows whose lists have two entries and more."""
    named = bool(column.hints & {"shown", "request", "item"}) and bool(other.hints & {"click", "engaged", "purchase", "item"})
    few = _some(evidence, column.name, other.name)
    for separator in SEPARATORS:
        if sum(b in a and (separator in a or a.startswith("[")) for a, b in few if separator not in b) < 0.4 * len(few):
            continue
        mine, chosen = _parts(column.name, separator), _parts(other.name, separator)
        inside, rows, length, different, copies = evidence.connection.execute(f"""
            SELECT avg(CAST(list_has_all({mine}, {chosen}) AS INTEGER)) FILTER ({quote(other.name)} IS NOT NULL),
                   count({quote(other.name)}),
                   avg(CAST(len({mine}) > 1 AS INTEGER)), (SELECT count(DISTINCT p) FROM (SELECT unnest({mine}) AS p
                   FROM {evidence.log.name})), avg(CAST({quote(column.name)} = {quote(other.name)} AS INTEGER))
            FROM {evidence.log.name} WHERE {quote(column.name)} IS NOT NULL""").fetchall()[0]
        if rows >= 10 and (inside or 0) >= 0.98 and length >= 0.5 and (copies or 0) < 0.5 and (named or different >= MANY):
            return Lists(column.name, separator, different, clicked=other.name)
    return None


def impressions(evidence: Evidence) -> Lists | None:
    """The log's lists of candidates, or None."""
    texts = [c for c in evidence.left if not c.numeric and not c.unit and c.share["agent"] < 0.5 and c.distinct > 1 and c.filled >= 0.9]
    for column in texts:
        if found := _labelled(evidence, column):
            return found
    pairs = [(a, b) for a in texts if a.length >= 3 for b in evidence.left if a.name != b.name and b.distinct > 1 and not b.unit]
    return next((found for a, b in pairs if (found := _chosen(evidence, a, b))), None)


def findings(evidence: Evidence, lists: Lists, key: str | None) -> list[Finding]:
    """Item, impressions and outcome out of the lists; other lists of the same items are what was seen before. `key` of the items' table."""
    spec: dict[str, Any] = {"column": lists.column} | ({"separator": lists.separator} if lists.separator != "|" else {})
    spec |= {"label": lists.label} if lists.label else {"clicked": lists.clicked}
    how = f'0 or 1 after "{lists.label}"' if lists.label else f"what was chosen in {lists.clicked}"
    why = f'lists of {lists.entries:,} different entries split at "{lists.separator}", {how}'
    found = [Finding(key or "item", "item", f"the entries of {lists.column}; in the items' table this is the key", "likely", "item"),
             Finding(lists.column, "impressions", why, "likely", "impressions", spec,
                     "with ordered: true, if a list's order is that of the page"),
             Finding(lists.column, "outcome", how, "likely", "click", {"kind": "binary"})]
    found += [Finding(lists.clicked, "clicked", f"names the entries of {lists.column} that were chosen", "likely")] if lists.clicked else []
    told = {lists.column, lists.clicked}
    return found + [Finding(c.name, "left out", f"lists of the items of {lists.column}: what was seen before, which the log itself tells",
                            "likely", active=False) for c in evidence.left if c.name not in told and _same_items(evidence, c, lists)]


def _same_items(evidence: Evidence, column: Column, lists: Lists) -> bool:
    if column.numeric or column.unit or column.distinct < 2:
        return False
    entry = f"regexp_extract(p, {literal(f'^(.*){re.escape(lists.label)}[01]$')}, 1)" if lists.label else "p"
    shared = evidence.connection.execute(f"""
        SELECT avg(CAST(p IN (SELECT {entry} FROM (SELECT unnest({_parts(lists.column, lists.separator)}) AS p FROM {evidence.log.name}))
                        AS INTEGER))
        FROM (SELECT DISTINCT unnest({_parts(column.name, lists.separator)}) AS p FROM {evidence.log.name})""").fetchall()[0][0]
    return (shared or 0) >= 0.5
