"""The next clicked item in the whole catalogue, without sampling: recllm's ways to rank beside the baselines'.

Sampled candidates reorder models (Krichene & Rendle 2020, 'On Sampled Metrics for Item Recommendation'), so every item that is published
and not in the user's visible history is ranked. For each test request with a positive of the first binary outcome, the first one of a
user and day: where is that item?
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from recllm.config import Config
from recllm.evaluation.baselines import NAMES, create
from recllm.evaluation.metrics.lists import per_target
from recllm.evaluation.tables import feature_table
from recllm.feed.examples import Examples, Group
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests
from recllm.model.recommender_recllm import Pool, Recommender
from recllm.model.timeline_recllm import window_start
from recllm.recommend.moments import first_of_day, raw_request, scored_rows
from recllm.recommend.strategies import TOP_K, Ready, figure
from recllm.training.setup import TEST, TRAIN, VALIDATION, Setup

BASELINES = ("popularity-recent", "item-rate", "sasrec")  # those that are registered are measured
MOST = 300  # requests
ROWS_AT_ONCE = 200_000  # request x item rows of one feature table, a few hundred bytes each
Hits = tuple[np.ndarray, np.ndarray]  # (HR, NDCG), (R,) each


def asked_rows(log: Log, first: str) -> np.ndarray:
    """Test rows whose item was clicked and may be ranked: published by then and not in the visible history."""
    rows = scored_rows(log, TEST)
    rows = rows[log.labels([first])[rows, 0] == 1]
    return first_of_day(log, rows[open_items(log, rows, log.item[rows, None])[:, 0]], MOST, seed=0)


def open_items(log: Log, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(R, k) bool: which of the items (R, k) are published by each row's time and not in its visible history."""
    found = log.published[items] <= log.time()[rows][:, None]
    n_before = log.frame["n_before"].to_numpy(dtype=np.int64)
    for k, row in enumerate(rows):
        start = int(log.first[log.user[row]])
        found[k] &= ~np.isin(items[k], log.item[start : start + n_before[row]])
    return found


def recllm_hits(ready: Ready, rows: np.ndarray) -> dict[str, Hits]:
    """Of one seed: as `recommend` does it with the release's settings; by click probability after retrieval, and of everything; and by
    the retrieval vectors alone."""
    made, recommender = ready.made, ready.recommender
    raw, settings, size = RawRequests(made.log, made.processor), recommender.settings({}), len(made.log.items)
    found: dict[str, list[np.ndarray]] = {}
    for row in tqdm(rows, desc="whole catalogue", delay=2, leave=False):
        pool = recommender.pool(raw_request(raw, int(row)), exclude_seen=True, retrieve=size)
        near = recommender.nearness(pool.prepared, pool.places)
        kept = np.sort(np.argsort(-near, kind="stable")[: int(settings.get("retrieve") or 200)])
        narrow = Pool(pool.prepared, pool.eligible, pool.places[kept], {n: p[kept] for n, p in pool.predictions.items()}, near[kept])
        click = pool.predictions[recommender.model.config.binary[0]]
        ways = {"recllm": (narrow, _listed(recommender, narrow, settings)), "recllm-click-retrieved": (narrow, click[kept]),
                "recllm-click-all": (pool, click), "recllm-retrieval": (pool, near)}
        for name, (part, score) in ways.items():
            whole = np.full(size, -np.inf)
            whole[pool.prepared.rows[part.places]] = score
            found.setdefault(name, []).append(whole)
    target = made.log.item[rows]
    return {name: per_target(np.stack(scores), target, TOP_K) for name, scores in found.items()}


def _listed(recommender: Recommender, pool: Pool, settings: dict[str, Any]) -> np.ndarray:
    """A pool's list as scores (c,): minus the place, -inf outside of the first ones."""
    score = np.full(len(pool.places), -np.inf)
    places = recommender.choose(pool, settings, TOP_K).places
    score[places] = -np.arange(len(places), dtype=np.float64)
    return score


def whole_catalogue(made: Setup, rows: np.ndarray) -> Examples:
    """Examples that score every item at each of the rows, in order; no row of them is sampled."""
    examples, spec = made.examples(TEST), made.processor.spec
    start = made.log.first[made.log.user[rows]] + window_start(examples.n_before[rows], spec["stride"], spec["overlap"])
    items = np.arange(len(made.log.items))
    examples.ask([Group(int(made.log.user[row]), int(begin), np.full(len(items), row), items, np.zeros(len(items), dtype=bool))
                  for row, begin in zip(rows, start, strict=True)])
    return examples


def baseline_hits(config: Config, made: Setup, names: list[str], seeds: list[int], rows: np.ndarray) -> dict[str, list[Hits]]:
    """Model -> (HR, NDCG) of each seed, fitted as in `evaluate`; scored in chunks of requests, so that memory does not grow with them."""
    if not names:
        return {}
    outcomes, first = dict(config.columns.outcomes), config.columns.binary[0]
    tables = {split: feature_table(made.examples(split)) for split in (TRAIN, VALIDATION)}
    fitted = {(name, seed): create(name) for name in names for seed in seeds}
    for (_, seed), baseline in fitted.items():
        baseline.fit(tables[TRAIN], tables[VALIDATION], outcomes, seed)
    del tables
    size = len(made.log.items)
    parts: dict[tuple[str, int], list[Hits]] = {key: [] for key in fitted}
    examples = whole_catalogue(made, rows)
    groups, step = examples.groups, max(ROWS_AT_ONCE // len(made.log.items), 1)
    for begin in tqdm(range(0, len(rows), step), desc="baselines on the whole catalogue", delay=2, leave=False):
        chunk = rows[begin : begin + step]
        examples.groups = groups[begin : begin + step]
        table = feature_table(examples)
        ranked = open_items(made.log, chunk, np.tile(np.arange(size), (len(chunk), 1)))
        for key, baseline in fitted.items():
            score = np.where(ranked, baseline.predict(table)[first].reshape(len(chunk), size), -np.inf)
            parts[key].append(per_target(score, made.log.item[chunk], TOP_K))
    whole = {key: (np.concatenate([p[0] for p in found]), np.concatenate([p[1] for p in found])) for key, found in parts.items()}
    return {name: [whole[name, seed] for seed in seeds] for name in names}


def next_item(config: Config, seeds: list[int], ready: list[Ready], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows {"model", "metric", "mean", "low", "high", "n", "seeds"} of HR and NDCG at 10; none where no test request qualifies."""
    made = ready[0].made
    rows = asked_rows(made.log, config.columns.binary[0])
    if len(rows) == 0:
        return []
    say(f"ranking {len(made.log.items):,} items at {len(rows)} test requests")
    per_seed = [recllm_hits(one, rows) for one in ready]
    found = {name: [hits[name] for hits in per_seed] for name in per_seed[0]}
    found |= baseline_hits(config, made, [name for name in BASELINES if name in NAMES], seeds, rows)
    out: list[dict[str, Any]] = []
    for name, hits in found.items():
        for place, metric in enumerate((f"hr@{TOP_K}", f"ndcg@{TOP_K}")):
            figures = figure(made.log.user[rows], [h[place] for h in hits], config.evaluation.bootstrap)
            assert figures is not None  # every target is ranked or a miss
            out.append({"model": name, "metric": metric, **figures})
    return out


def text(rows: list[dict[str, Any]]) -> str:
    """The rows for a terminal, a line a model."""
    if not rows:
        return "next item: not measured; no test request has a click on an item that may be ranked, or relations decide what may be"
    lines = [f"next clicked item in the whole catalogue, {rows[0]['n']} test requests"]
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        lines.append(f"  {name:<24}" + "  ".join(f"{r['metric']} {r['mean']:.4f} ({r['low']:.4f} to {r['high']:.4f})" for r in own))
    return "\n".join(lines)
