"""Which panels the page shows: label rates, learning curves, reliability and slices, each as {"title", "svg", "note"}."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recllm.config import Config
from recllm.data.gather import SPLITS
from recllm.errors import MissingExtraError
from recllm.evaluation.page import plots
from recllm.evaluation.page.plots import FIRST, SECOND, SOFT, Dot, Series
from recllm.evaluation.report import first_binary, slice_groups
from recllm.feed.log import Log

BINS = 40  # of the whole log in time
MOST_VALUES = 24  # of one slice

Figures = list[dict[str, Any]]


def _moment(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def rates(config: Config, log: Log) -> Figures:
    """Each outcome over time, over scored rows with a known label: share of 1, or median seconds, in about BINS bins of equal length.

    A bin lies in one split: each split is cut by itself, into a number of bins by its share of the time.
    """
    time, scored = log.time(), log.frame["scored"].to_numpy(dtype=bool)
    span = max(int(time.max() - time.min()), 1)
    made = []
    for name, spec in config.columns.outcomes.items():
        labels, series = log.labels([name])[:, 0], []
        usable = scored & ~np.isnan(labels)
        for code, (split, colour) in enumerate(zip(SPLITS, (SOFT, SECOND, FIRST), strict=True)):
            rows = usable & (log.split == code)
            if not rows.any():
                continue
            first, last = int(time[rows].min()), int(time[rows].max()) + 1
            count = max(1, round(BINS * (last - first) / span))
            edges = np.linspace(first, last, count + 1)
            bins = np.clip(np.searchsorted(edges, time[rows], side="right") - 1, 0, count - 1)
            parts = [labels[rows][bins == k] for k in range(count)]
            reduce = np.mean if spec.kind == "binary" else np.median
            values = [float(reduce(part)) if len(part) else float("nan") for part in parts]
            series.append(Series(split, [_moment(x) for x in (edges[:-1] + edges[1:]) / 2], values, colour))
        title = f"{name}, share of 1" if spec.kind == "binary" else f"{name}, median seconds"
        cuts = [_moment(c) for c in log.report.cuts]
        svg = plots.lines(series, alt=f"{title} over time", percent=spec.kind == "binary", cuts=cuts)
        made.append({"title": title, "note": "", "svg": svg})
    return made


def _records(folder: Path) -> list[dict[str, Any]]:
    """Evaluations of one seed in order of their step; of a step that was repeated after an interruption, the last."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()]
    by_step = {line["step"]: line for line in lines if line.get("kind") == "evaluation"}
    return [by_step[step] for step in sorted(by_step)]


def curves(config: Config, seeds: list[int] | None) -> Figures:
    """Train and validation loss of every task by epoch, all seeds in one panel; a ring marks each seed's best validation.

    seeds: those of the results; None takes all that lie in the run's folder. A seed without a log is left out.
    """
    folders = sorted(config.folder.glob("seed-*"), key=lambda p: p.name) if seeds is None else [config.folder / f"seed-{s}" for s in seeds]
    runs = [_records(f) for f in folders if (f / "log.jsonl").is_file()]
    made = []
    for task, series in _losses([records for records in runs if records]).items():
        only = "" if any(s.name == "validation" for s in series) else " (train only)"
        made.append({"title": f"{task}{only}", "note": "", "svg": plots.lines(series, alt=f"loss of {task} by epoch", x_label="epoch")})
    return made


def _losses(runs: list[list[dict[str, Any]]]) -> dict[str, list[Series]]:
    """Of each task the lines of all runs, train and validation."""
    tasks = list(dict.fromkeys(t for records in runs for r in records for t in (*r["validation"], *r["train"])))
    made: dict[str, list[Series]] = {task: [] for task in tasks}
    for task, records in ((task, records) for task in tasks for records in runs):
        best = min(range(len(records)), key=lambda k: sum(records[k]["validation"].values()))
        for part, colour in (("train", SOFT), ("validation", FIRST)):
            if any(task in r[part] for r in records):
                made[task].append(Series(part, [r["epoch"] for r in records], [r[part].get(task, float("nan")) for r in records], colour,
                                         dashed=part == "train", ring=best if part == "validation" else None))
    return made


def curves_png(records: list[dict[str, Any]]) -> bytes | None:
    """One run's evaluations as a picture, a panel a task; None without any, or without matplotlib."""
    try:
        plots.require()
    except MissingExtraError:
        return None
    return plots.png(_losses([records]), "epoch") if records else None


def reliability(config: Config, found: dict[str, Any]) -> Figures:
    """Observed against predicted of each task that the results hold bins for; of a duration also how often its interval holds."""
    made = []
    for name, bins in found.get("reliability", {}).items():
        binary = config.columns.outcomes[name].kind == "binary"
        note = f"{len(bins)} bins of about {np.median([b['n'] for b in bins]):,.0f} predictions"
        made.append({"title": name if binary else f"{name}, seconds", "note": note, "svg": plots.agreement(
            bins, alt=f"{name}, observed against predicted", percent=binary, unit="" if binary else ", s")})
        if all("covered" in b for b in bins):
            made.append({"title": f"{name}, its 80% interval", "note": "share of rows inside of it, in the same bins",
                         "svg": plots.coverage(bins, alt=f"{name}, share of rows inside of the predicted interval")})
    return made


def slices(config: Config, found: dict[str, Any]) -> Figures:
    """AUC of the first binary outcome by slice, with intervals and counts, beside the best baseline over all rows."""
    task = first_binary(found, config.columns.binary[0])
    whole = {r["model"]: r["mean"] for r in found["rows"]
             if (r["task"], r["metric"], r["slice"], r["counters"]) == (task, "auc", "all", "fresh")}
    others = {model: mean for model, mean in whole.items() if model not in ("recllm", *(found.get("also") or {}))}
    rival = max(others, key=lambda m: others[m]) if others else None
    beside = {r["slice"]: r["mean"] for rows in (slice_groups(found, task, rival).values() if rival else []) for r in rows}
    made, n = [], max((r["n"] for r in found["rows"] if (r["task"], r["slice"]) == (task, "all")), default=0)
    for name, rows in slice_groups(found, task).items():
        if rows[0]["n"] == n:
            continue  # one value holds every row: that is the table's figure
        kept = sorted(rows, key=lambda r: -r["n"])[:MOST_VALUES]
        shown = [Dot(r["value"], r["mean"], r["low"], r["high"], r["n"], beside.get(r["slice"])) for r in rows if r in kept]
        note = "" if len(shown) == len(rows) else f"the {len(shown)} largest of {len(rows)} values"
        made.append({"title": name, "note": note, "svg": plots.dots(shown, alt=f"{task} AUC by {name}", whole=whole["recllm"],
                                                                    names=("recllm", rival))})
    return made


