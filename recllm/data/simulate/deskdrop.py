"""A made-up log in the format of the Deskdrop data (articles shared inside a company): same columns, types and habits, no row of it.

    python -c "from recllm.data.simulate import simulate_feed; simulate_feed('tests/samples/deskdrop')"
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.data.simulate.common import Array, Records
from recllm.data.simulate.deskdrop_words import AGENTS, PLACES, REACTIONS, SITES, TITLES
from recllm.errors import DataError

FIRST, LAST = (int(np.datetime64(day, "s").astype(np.int64)) for day in ("2016-03-14", "2016-09-30"))
DAY, FRESH = 86_400, 14  # seconds; days in which an article is mostly read
UNKNOWN = 0.27  # share of sessions without user agent, region and country
REACT, NEXT_DAY, AGAIN, OLD = 0.22, 0.25, 0.08, 0.1  # chances after a view, of a reaction to wait a day, of a re-read, of an old article
DESCRIBED = 0.4  # share of the articles that have a title; events of the others have an id only
TEXT, WHOLE = pa.large_string(), pa.int64()
INTERACTIONS = pa.schema([("timestamp", WHOLE), ("eventType", TEXT), ("contentId", WHOLE), ("personId", WHOLE), ("sessionId", WHOLE),
                          ("userAgent", TEXT), ("userRegion", TEXT), ("userCountry", TEXT)])  # fmt: skip
ARTICLES = pa.schema([("contentId", WHOLE), ("contentType", TEXT), ("url", TEXT), ("title", TEXT), ("lang", TEXT)])


@dataclass
class Person:
    """A reader: id, devices, place, liking of each topic, what was read and when, and reactions that wait for the next visit."""

    id: int
    agents: list[str]
    place: tuple[str, str]
    liking: Array
    read: list[int] = field(default_factory=list)
    waiting: list[tuple[int, int]] = field(default_factory=list)  # (moment of the view, article)


def _ids(rng: np.random.Generator, count: int) -> list[int]:
    """Distinct 64-bit whole numbers, half of them negative."""
    return [int(n) for n in rng.choice(rng.integers(-(2**63), 2**63 - 1, 2 * count), count, replace=False)]


def _articles(rng: np.random.Generator, count: int) -> tuple[Records, Array, Array]:
    """Articles in order of appearance: fields, moments (s), topics; the first of them were shared before the log starts."""
    shared = np.sort(rng.integers(FIRST - 40 * DAY, LAST - DAY, count))
    topic, rows, titles = rng.integers(len(TITLES), size=count), [], set[str]()
    for content, moment, subject in zip(_ids(rng, count), shared, topic, strict=True):
        lang = "en" if rng.random() < 0.57 else "pt"
        starts, middles, ends = TITLES[subject][lang]
        title = f"{rng.choice(starts)} {rng.choice(middles)} {rng.choice(ends)}"
        while title in titles:
            title = f"{rng.choice(starts)} {rng.choice(middles)} {rng.choice(ends)}"
        titles.add(title)
        month = str(np.datetime64(int(moment), "s").astype("datetime64[M]")).replace("-", "/")
        slug = "-".join("".join(c for c in title if c.isascii() and (c.isalnum() or c == " ")).split())
        rows.append(dict(contentId=content, contentType="HTML", url=f"{rng.choice(SITES[lang])}/{month}/{slug}", title=title, lang=lang))
    return rows, shared, topic


def _people(rng: np.random.Generator, count: int) -> list[Person]:
    people = []
    for number in _ids(rng, count):
        agents = [str(agent) for agent in rng.choice(AGENTS, rng.integers(1, 3), replace=False)]
        place = PLACES[rng.choice(len(PLACES), p=[weight for *_, weight in PLACES])][:2]
        people.append(Person(number, agents, place, rng.gamma(0.6, size=len(TITLES)) + 0.1))
    return people


def _choose(rng: np.random.Generator, person: Person, now: int, shared: Array, topic: Array, fame: Array) -> int:
    """An article to open: one read before, an old one, or one shared within FRESH days, by fame and liking."""
    if person.read and rng.random() < AGAIN:
        return int(rng.choice(person.read))
    out = shared <= now
    fresh = out & (shared > now - FRESH * DAY)
    weight = (out & ~fresh if rng.random() < OLD else fresh) * fame * person.liking[topic]
    return int(rng.choice(len(shared), p=weight / weight.sum()))


def _session(rng: np.random.Generator, person: Person, start: int, size: int, articles: tuple[Any, ...]) -> list[tuple[int, str, int]]:
    """(timestamp, eventType, article) of so many events; a reaction follows its view, in this session or in one a day later."""
    rows, shared, topic, fame = articles
    now, events = start, list[tuple[int, str, int]]()
    late = [(seen, article) for seen, article in person.waiting if seen <= now - DAY]
    due = [article for _, article in late]
    person.waiting = [entry for entry in person.waiting if entry not in late]
    while len(events) < size:
        if due:
            article, kind = due.pop(), str(rng.choice(list(REACTIONS), p=list(REACTIONS.values())))
        else:
            article, kind = _choose(rng, person, now, shared, topic, fame), "VIEW"
            person.read.append(article)
            if rng.random() < REACT:
                if rng.random() < NEXT_DAY:
                    person.waiting.append((now, article))
                else:
                    due.append(article)
        events.append((now, kind, rows[article]["contentId"]))
        now += int(rng.integers(4, 40) if due else np.exp(rng.normal(4.5, 1.1))) + 1
    return events


def feed_tables(seed: int = 0, events: int = 2000) -> dict[str, pa.Table]:
    """`interactions` (so many rows, in order of the sessions' start) and `articles`. Raises DataError for fewer than 100 events."""
    if events < 100:
        raise DataError(f"simulate_feed: expected at least 100 events, found {events}")
    rng = np.random.default_rng(seed)
    rows, shared, topic = _articles(rng, events // 8)
    fame = 1 / rng.permutation(np.arange(1, len(rows) + 1)) ** 0.5
    people = _people(rng, max(events // 22, 5))
    busy = rng.gamma(0.5, size=len(people)) + 0.05
    sizes = np.minimum(rng.geometric(0.36, events), 20)
    sizes = sizes[: int(np.searchsorted(sizes.cumsum(), events)) + 1]
    sizes[-1] -= sizes.sum() - events
    lines: Records = []
    days = np.sort(rng.choice(np.arange(FIRST, LAST - DAY, DAY), len(sizes)))
    starts = np.sort(days + (rng.normal(16 * 3600, 3 * 3600, len(sizes)) % DAY).astype(np.int64))  # office hours of Brazil in UTC
    for start, size, session in zip(starts.tolist(), sizes.tolist(), _ids(rng, len(sizes)), strict=True):
        person = people[rng.choice(len(people), p=busy / busy.sum())]
        agent, (region, country) = str(rng.choice(person.agents)), person.place
        known = rng.random() >= UNKNOWN
        where = dict(userAgent=agent, userRegion=region, userCountry=country) if known else {}
        lines += [dict(timestamp=now, eventType=kind, contentId=content, personId=person.id, sessionId=session, **where)
                  for now, kind, content in _session(rng, person, start, size, (rows, shared, topic, fame))]
    kept = [row for row in rows if rng.random() < DESCRIBED]
    order = rng.permutation(len(kept))
    return {"interactions": pa.Table.from_pylist(lines, INTERACTIONS), "articles": pa.Table.from_pylist([kept[i] for i in order], ARTICLES)}


def simulate_feed(folder: str | os.PathLike[str], seed: int = 0, events: int = 2000) -> pd.DataFrame:
    """Write interactions.parquet and articles.parquet in the Deskdrop format and return the interactions.

    The same seed and number of events give the same rows. Both files are written aside and renamed. Raises DataError for fewer than 100
    events.
    """
    tables = feed_tables(seed, events)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        part = Path(folder) / f".{name}.{os.getpid()}.part"
        pq.write_table(table, part, compression="zstd")
        part.rename(Path(folder) / f"{name}.parquet")
    return tables["interactions"].to_pandas()
