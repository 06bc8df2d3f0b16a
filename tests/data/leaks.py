"""Nothing leaked: over random impressions, what a request carries is recounted one row at a time from the raw log, and compared.

`leaks(impressions, seed)` is what `scripts/benchmark.py prepare` runs. The log has ties, unknown outcomes, durations that outlast many
later events, outcomes that are known days late, purchases with a time of their own, copies and rows that merge.
"""

import csv
import json
import math
import random
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from recllm.config import Config
from recllm.data.executors import LocalExecutor
from recllm.data.prepare import prepare
from recllm.feed.examples import Examples
from recllm.feed.fit import fit
from recllm.feed.log import Log, load_log
from tests.data.oracle import Row, expect, n_before

START, STRIDE, OVERLAP = 1_700_000_000, 8, 12
OUTCOMES = ("click", "purchase", "duration")
KEYS = [(name, f"{name}_n", f"{name}_sum") for name in OUTCOMES]
GENRES = [f"g{i}" for i in range(6)]
SCHEMA: dict[str, Any] = {
    "user": "user", "item": "item", "time": {"column": "ts", "unit": "ms", "zone": "Europe/Berlin"}, "request": "visit",
    "scored": "kept", "known_at": {"column": "seen", "unit": "ms"}, "outcome_delay": 20, "context": {"device": {}},
    "item_category": {"genres": {"list": True}},
    "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click", "window": 1},
                 "duration": {"kind": "duration", "clip": 600}},
}  # fmt: skip


class Tally:
    """How many quantities were compared, and which were wrong."""

    def __init__(self) -> None:
        self.compared, self.wrong, self.examples = 0, Counter[str](), list[str]()

    def check(self, name: str, found: Any, wanted: Any, where: Any) -> None:
        self.compared += 1
        if found != wanted and not (isinstance(wanted, float) and found is not None and math.isclose(found, wanted, abs_tol=1e-4)):
            self.wrong[name] += 1
            self.examples += [f"{name} at {where}: expected {wanted!r}, found {found!r}"] if len(self.examples) < 20 else []


# ---- a log


def impressions(count: int, seed: int) -> list[dict[str, str | None]]:
    """So many raw rows (and a few per cent of copies and later purchases more), as text."""
    rng, rows = random.Random(seed), []
    users, items = max(count // 80, 4), max(count // 150, 12)
    while len(rows) < count:
        user, now = f"u{rng.randrange(users)}", (START + rng.randrange(20 * 86_400)) * 1000
        for _ in range(min(rng.choice([3, 20, 60]), count - len(rows))):
            now += 1000 * rng.choice([0, 0, 0, 1, 30, 900, 7_200, 90_000]) + rng.choice([0, 0, 1])
            click = rng.choice(["0", "1", None])
            late = now + 1000 * rng.choice([-60, 0, 4_000, 200_000])
            row = {"user": user, "item": f"i{min(rng.randrange(items), rng.randrange(items))}", "ts": str(now),
                   "visit": f"v{now // 900_000}", "kept": str(int(rng.random() < 0.9)), "device": rng.choice(["tv", "pc"]),
                   "seen": rng.choice([None, None, None, str(late)]), "click": click,
                   "purchase": rng.choice(["0", "1"]) if click == "1" else "0",
                   "duration": rng.choice([None, "0", "4.25", "300", "5000", "80000"])}  # fmt: skip
            rows.append(row)
            if rng.random() < 0.03:
                rows.append(row | rng.choice([{}, {"click": "1", "duration": "7.5"}, {"item": "i0"}]))
            if rng.random() < 0.05:  # bought later, for itself
                later = str(now + rng.randrange(2 * 86_400_000))
                rows.append(row | {"ts": later, "click": None, "purchase": "1", "duration": None, "kept": "0"})
    rng.shuffle(rows)
    return rows


def prepared(raw: list[dict[str, str | None]], folder: Path) -> Config:
    """Prepare the log in a folder: four shards, windows of 8 + 12 events, so that timelines here cross many of them."""
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(raw[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(raw)
    ids = sorted({str(row["item"]) for row in raw})
    (folder / "items.jsonl").write_text("".join(json.dumps({"item": item, "genres": genres_of(item)}) + "\n" for item in ids))
    config = Config.model_validate({
        "name": "leaks", "root": str(folder), "schema": SCHEMA, "model": {"stride": STRIDE, "overlap": OVERLAP},
        "data": {"interactions": str(folder / "log.csv"), "items": str(folder / "items.jsonl"), "workers": 1, "shards": 4,
                 "split": {"validation": 0.15, "test": 0.15}}})  # fmt: skip
    prepare(config, executor=LocalExecutor(1))
    return config


def genres_of(item: str) -> list[str]:
    return random.Random(item).sample(GENRES, random.Random(item).randrange(3))


# ---- what may be read, counted by hand


def sums(rows: list[Row]) -> dict[str, float]:
    """Events, and for each outcome the rows where it is known and its sum. A row of which nothing is known counts nowhere."""
    found = dict.fromkeys(["events", *(f"{name}_{part}" for name in OUTCOMES for part in ("n", "sum"))], 0.0)
    for row in rows:
        known = False
        for name, n, total in KEYS:
            value = row[name]
            if value is not None:
                known = True
                found[n] += 1
                found[total] += value
        found["events"] += known
    return found


def log_odds(total: float, count: float, prior: float) -> float:
    rate = (total + 10 * prior) / (count + 10)
    return math.log(rate / (1 - rate)) - math.log(prior / (1 - prior))


def features(counts: dict[str, float], priors: dict[str, float]) -> dict[str, float]:
    """Counters as the model's numbers."""
    found = {"log_events": math.log1p(counts["events"])}
    for name in ("click", "purchase"):
        found[f"{name}_log_n"] = math.log1p(counts[f"{name}_n"])
        found[f"{name}_log_odds"] = log_odds(counts[f"{name}_sum"], counts[f"{name}_n"], priors[name])
    bought = min(counts["purchase_sum"], counts["click_sum"])
    found["purchase_per_click_log_odds"] = log_odds(bought, counts["click_sum"], priors["purchase|click"])
    mean = (counts["duration_sum"] + 10 * priors["duration"]) / (counts["duration_n"] + 10)
    return found | {"duration_log_mean": math.log1p(mean) - math.log1p(priors["duration"])}


def train_priors(rows: list[Row]) -> dict[str, float]:
    """Rates of the train rows, alone."""
    counts = sums([row for row in rows if row["split"] == "train"])
    rates = {name: counts[f"{name}_sum"] / counts[f"{name}_n"] for name in OUTCOMES}
    return rates | {"purchase|click": counts["purchase_sum"] / counts["click_sum"]}


def category_features(item: str, window: list[Row], priors: dict[str, float], genres: dict[str, list[str]]) -> dict[str, float]:
    """The user's counters within the item's categories, averaged over those."""
    per = [sums([row for row in window if genre in genres[row["item"]]]) for genre in genres[item]]
    mean = {key: sum(counts[key] for counts in per) / max(len(per), 1) for key in sums([])}
    odds = {f"{n}_log_odds": log_odds(mean[f"{n}_sum"], mean[f"{n}_n"], priors[n]) for n in ("click", "purchase")}
    return {"log_events": math.log1p(mean["events"]), **odds}


def closed_before(booked: list[tuple[int, Row]], time: int) -> list[tuple[int, Row]]:
    """(end of the period in which it became known, row) of an item's rows whose period has closed by a moment."""
    return [(end, row) for end, row in booked if end <= time]


def item_features(booked: list[tuple[int, Row]], time: int, priors: dict[str, float]) -> dict[str, dict[str, float]]:
    """The item's counters of all time, and of the last day and week."""
    closed, found = closed_before(booked, time), {}
    for name, days in (("item", math.inf), ("item_1d", 1), ("item_7d", 7)):
        found[name] = features(sums([row for end, row in closed if end > time - days * 86_400_000]), priors)
    return found


# ---- the comparison


def _number_rows(tally: Tally, config: Config, log: Log, rows: list[Row]) -> None:
    """The prepared rows themselves: order, known_at, n_before, split, outcomes, labels."""
    names = ("user", "item", "time", "utc_offset", "request", "weight", "known_at", "pos", "n_before", "scored", "device", *OUTCOMES,
             "purchase_within")  # fmt: skip
    frame = log.frame.assign(user=np.array(log.users)[log.user])
    columns = {name: [None if v != v else v for v in frame[name].tolist()] for name in names} | {"split": log.split.tolist()}
    tally.check("rows", len(log.frame), len(rows), "log")
    for k, row in enumerate(rows):
        for name in names:
            tally.check(name, columns[name][k], row[name], k)
        tally.check("split", ("train", "validation", "test")[columns["split"][k]], row["split"], k)


def _what_a_request_reads(tally: Tally, examples: Examples, rows: list[Row], period: int, cut: int) -> None:
    """Histories, visibility and every counter of each scored row, and of the events inside its window."""
    processor, log = examples.processor, examples.log
    names, priors, booked = processor.number_names(), train_priors(rows), defaultdict(list)
    genres = {item: genres_of(item) for item in log.items}
    for name, value in priors.items():
        tally.check(f"prior of {name}", processor.counters.priors[name], value, "train")
    for row in rows:
        if any(row[name] is not None for name in OUTCOMES):
            booked[row["item"]].append((row["known_at"] // period * period + period, row))
    for index, group in enumerate(examples.groups):
        example, first = examples[index], int(log.first[group.user])
        events = rows[group.start : group.start + example.events]
        items = [log.items[code] for code in example.item[: example.events]]
        for place, event in enumerate(events):
            tally.check("events see", int(example.n[place]), n_before(events, event["time"]), (index, place))
        for place, k in enumerate(group.row.tolist()):
            row, token = rows[k], example.events + place
            window = rows[first : first + row["n_before"]][max(0, STRIDE * ((row["n_before"] - OVERLAP) // STRIDE)) :]
            n = int(example.n[token])
            tally.check("history", items[:n], [event["item"] for event in window], k)
            tally.check("history's times", examples.timeline.time[group.start : group.start + n].tolist(), [e["time"] for e in window], k)
            number = dict(zip(names, example.num[token].tolist(), strict=True))
            mine = booked[row["item"]]
            wanted = {"user": features(sums(window), priors), **item_features(mine, row["time"], priors),
                      "user_category": category_features(row["item"], window, priors, genres)}  # fmt: skip
            for who, values in wanted.items():
                for name, value in values.items():
                    tally.check(f"{who} counter", number[f"{who}_{name}"], value, (k, name))
            if k % 20 == 0:  # frozen counts read nothing that closed after the end of train
                read = processor.counts.read(log.item[[k]], np.minimum(log.time()[[k]], cut))[0].tolist()
                counted = sums([event for _, event in closed_before(mine, min(row["time"], cut))])
                tally.check("frozen item counts", read, list(counted.values()), k)


def compare(config: Config, raw: list[dict[str, str | None]], log: Log) -> Tally:
    """Compare a prepared log, and everything that requests read of it, with what the raw rows say."""
    expected, tally = expect(raw, config, log.report.cuts, {str(row["item"]) for row in raw}), Tally()
    for name in ("read", "dropped", "merged"):
        tally.check(name, getattr(log.report, name), getattr(expected, name), "report")
    _number_rows(tally, config, log, expected.rows)
    processor = fit(config, log)  # its scales are still 0 and 1: numbers are the features themselves
    scored = np.flatnonzero(log.frame["scored"].to_numpy(dtype=bool))
    examples = Examples(log, processor, lambda texts, **_: {"input_ids": [[1] for _ in texts]}, scored)  # type: ignore[arg-type]
    _what_a_request_reads(tally, examples, expected.rows, config.data.period * 1000, log.report.cuts[0])
    return tally


def leaks(count: int, seed: int) -> dict[str, Any]:
    """Compare so many random impressions. `leaks_found` counts wrong quantities, `wrong` says of which kind."""
    raw = impressions(count, seed)
    with tempfile.TemporaryDirectory() as folder:
        config = prepared(raw, Path(folder))
        tally = compare(config, raw, load_log(config))
    return {"impressions": len(raw), "compared": tally.compared, "leaks_found": sum(tally.wrong.values()), "wrong": dict(tally.wrong),
            "examples": tally.examples}  # fmt: skip
