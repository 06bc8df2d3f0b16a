"""`scripts/evaluate.py CONFIG --strategies`: which strategy makes the best lists. Chosen on validation, measured on test."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from recllm.config import Config
from recllm.errors import DataError
from recllm.evaluation.bootstrap import Mean, interval, user_weights
from recllm.evaluation.metrics import lists
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests
from recllm.model.recommender_recllm import Pool, Recommender
from recllm.recommend.build import recommender_of
from recllm.recommend.grids import Settings, base_grids, grids_over, short
from recllm.recommend.moments import Moments, moments, raw_request
from recllm.training.run import load_trained
from recllm.training.setup import TEST, TRAIN, VALIDATION, Setup

TOP_K = 10
MOST = {VALIDATION: 200, TEST: 300}  # requests of each split
CHOSEN_BY = f"ndcg@{TOP_K}"
Row = dict[str, Any]


@dataclass
class Ready:
    """A trained seed with the requests of each split scored once: every strategy chooses from the same pools."""

    made: Setup
    recommender: Recommender
    pools: dict[int, list[Pool]]


@dataclass
class Catalogue:
    """What the metrics need to know of I items."""

    counts: np.ndarray  # (I,) train events
    vectors: np.ndarray  # (I, W) of the items' texts


def ready(config: Config, seed: int, asked: dict[int, Moments], say: Callable[[str], None]) -> Ready:
    """Load a seed and score its requests. Raises TrainingError where it is not trained."""
    made = load_trained(config, seed)
    torch.nn.Module.to(made.model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    recommender, raw = recommender_of(made), RawRequests(made.log, made.processor)
    pools: dict[int, list[Pool]] = {}
    for split, chosen in asked.items():
        say(f"scoring {len(chosen.row)} requests of the {'validation' if split == VALIDATION else 'test'} split, seed {seed}")
        requests = tqdm(chosen.row, desc="requests", delay=2, leave=False)
        wanted = config.recommend.exclude_seen, config.recommend.retrieve
        pools[split] = [slim(recommender.pool(raw_request(raw, int(row)), *wanted), recommender) for row in requests]
    return Ready(made, recommender, pools)


def slim(pool: Pool, recommender: Recommender) -> Pool:
    """A pool with its candidates' nearness, without their features and the prefix, which are large and have been used."""
    if pool.near is None:
        pool = replace(pool, near=recommender.nearness(pool.prepared, pool.places))
    nothing = pool.prepared.example.part(np.arange(0), 0)
    return replace(pool, prepared=replace(pool.prepared, example=nothing, past=None))


def chosen_items(recommender: Recommender, pools: list[Pool], settings: Settings, top_k: int = TOP_K) -> np.ndarray:
    """The lists (R, top_k) that settings make of pools, as item codes, -1 for an empty place."""
    items = np.full((len(pools), top_k), -1, dtype=np.int64)
    for row, pool in enumerate(pools):
        if len(pool.places):
            found = recommender.choose(pool, settings, top_k).places
            items[row, : len(found)] = pool.prepared.rows[pool.places[found]]
    return items


def list_values(items: np.ndarray, asked: Moments, pools: list[Pool], catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Metric -> one value a request (R,), NaN where it is undefined. The ideal list is made of all that may be listed."""
    ideal = np.zeros(items.shape)
    for row, pool in enumerate(pools):
        best = -np.sort(-asked.gain[row, pool.prepared.rows[pool.eligible]])[: items.shape[1]]
        ideal[row, : len(best)] = best
    gains, value = (np.where(items >= 0, np.take_along_axis(table, np.maximum(items, 0), axis=1), 0.0) for table in
                    (asked.gain, asked.value))
    return {CHOSEN_BY: lists.per_list_ndcg(gains, ideal),
            f"hit_rate@{TOP_K}": np.where(ideal.any(axis=1), lists.per_list_hit(gains), np.nan),
            f"expected_value@{TOP_K}": value.sum(axis=1), "diversity": lists.per_list_diversity(items, catalogue.vectors),
            "novelty": lists.per_list_novelty(items, catalogue.counts), "popularity": lists.per_list_popularity(items, catalogue.counts)}


def figure(user: np.ndarray, seeds: list[np.ndarray], rounds: int) -> Row | None:
    """mean, low, high and n of per-request values (R,) of each seed; requests where any of them is undefined are left out. None without
    such requests. The interval is over users, of the mean over seeds."""
    known = np.isfinite(np.stack(seeds)).all(axis=0)
    if not known.any():
        return None
    codes, count = _codes(user)
    weights = user_weights(count, rounds, 0)
    drawn = [Mean.of(codes[known], values[known], count).resample(weights) for values in seeds]
    low, high = interval(np.mean(drawn, axis=0))
    return {"mean": float(np.mean([values[known].mean() for values in seeds])), "low": low, "high": high, "n": int(known.sum()),
            "seeds": len(seeds)}


def _codes(user: np.ndarray) -> tuple[np.ndarray, int]:
    found, codes = np.unique(user, return_inverse=True)
    return codes, len(found)


def _coverage(user: np.ndarray, seeds: list[np.ndarray], catalogue: int, rounds: int) -> Row:
    codes, count = _codes(user)
    weights = user_weights(count, rounds, 0)
    low, high = interval(np.mean([lists.Coverage.of(codes, items, count, catalogue).resample(weights) for items in seeds], axis=0))
    return {"mean": float(np.mean([lists.coverage(items, catalogue) for items in seeds])), "low": low, "high": high, "n": len(user),
            "seeds": len(seeds)}


class Trial:
    """Members of the grids on one split of all seeds."""

    def __init__(self, config: Config, seeds: list[Ready], asked: Moments, split: int, catalogue: Catalogue) -> None:
        self.rounds, self.seeds, self.asked, self.split, self.catalogue = config.evaluation.bootstrap, seeds, asked, split, catalogue

    def rows(self, family: str, settings: Settings, only: str | None = None) -> list[Row]:
        """One row a metric; `only` one of them."""
        listed = [chosen_items(s.recommender, s.pools[self.split], settings) for s in self.seeds]
        values = [list_values(items, self.asked, s.pools[self.split], self.catalogue) for items, s in zip(listed, self.seeds, strict=True)]
        found = {name: figure(self.asked.user, [v[name] for v in values], self.rounds) for name in values[0] if only in (None, name)}
        if only is None:
            found["coverage"] = _coverage(self.asked.user, listed, len(self.catalogue.counts), self.rounds)
        head = {"strategy": family, "settings": settings, "split": "validation" if self.split == VALIDATION else "test"}
        return [{**head, "metric": name, **figures} for name, figures in found.items() if figures is not None]

    def best(self, grids: dict[str, list[Settings]]) -> tuple[list[Row], dict[str, Row]]:
        """(the row of every member, the best row of each family) by NDCG; of equal ones the first."""
        rows = [row for family, members in grids.items() for member in members for row in self.rows(family, member, CHOSEN_BY)]
        families = {family: [row for row in rows if row["strategy"] == family] for family in grids}
        return rows, {family: max(found, key=lambda row: row["mean"]) for family, found in families.items() if found}


def catalogue_of(made: Setup) -> Catalogue:
    log: Log = made.log
    counts = np.bincount(log.item[log.split == TRAIN], minlength=len(log.items)).astype(np.float64)
    return Catalogue(counts, made.processor.items.vector[:, : made.model.config.encoder["hidden_size"]].astype(np.float64))


def try_strategies(config: Config, seeds: list[Ready], asked: dict[int, Moments]) -> dict[str, Any]:
    """{"rows", "winner"}: every member on validation by NDCG, the best of each family on test by everything, and the best settings."""
    catalogue = catalogue_of(seeds[0].made)
    trials = {split: Trial(config, seeds, asked[split], split, catalogue) for split in (VALIDATION, TEST)}
    rows, best = trials[VALIDATION].best(base_grids(config.columns, config.recommend))
    if not best:
        raise DataError(f"{config.prepared}: expected a validation request after which an item was clicked that may be listed, found none: "
                        f"give data.split.validation more rows, or set recommend.exclude_seen: false")
    base = max(best.values(), key=lambda row: row["mean"])["settings"]
    more, changed = trials[VALIDATION].best(grids_over(base, config.columns))
    best |= changed
    tested = [row for family, row in best.items() for row in trials[TEST].rows(family, row["settings"])]
    return {"rows": [*rows, *more, *tested], "winner": max(best.values(), key=lambda row: row["mean"])["settings"]}


def table(rows: list[Row], winner: Settings, mark: str) -> list[list[str]]:
    """Header and a line a family, of rows of one split; the winner's name carries `mark`."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = [["strategy", "settings", *metrics]]
    for family in dict.fromkeys(row["strategy"] for row in rows):
        own = {row["metric"]: row for row in rows if row["strategy"] == family}
        settings = next(iter(own.values()))["settings"]
        name = family + (mark if settings == winner else "")
        lines.append([name, short(settings), *(f"{own[m]['mean']:.4g}" if m in own else "-" for m in metrics)])
    return lines


def text(found: dict[str, Any]) -> str:
    """Test figures of an entry, a line a family."""
    rows = [row for row in found["rows"] if row["split"] == "test"]
    lines = table(rows, found["winner"], "*")
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
                     + [f"* the best on validation by {CHOSEN_BY}; test split, mean over {max(row['seeds'] for row in rows)} seed(s)"])


def asked_of(config: Config, log: Log) -> dict[int, Moments]:
    """The requests of both splits, chosen by seed 0."""
    return {split: moments(config, log, split, most) for split, most in MOST.items()}
