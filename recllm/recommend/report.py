"""`scripts/evaluate.py CONFIG --report report.html`: results, preparation, curves and one timeline as one HTML page."""

from pathlib import Path
from typing import Any

import numpy as np

from recllm.config import Config
from recllm.errors import DataError, TrainingError
from recllm.evaluation.page import figures, plots, sections
from recllm.evaluation.page.html import render, write
from recllm.feed.log import Log, load_log
from recllm.recommend.story import story
from recllm.training.run import load_trained
from recllm.training.setup import TEST

STRATEGIES = Path("results/strategies.json")  # written where commands run: the project's folder


def write_report(config: Config, found: dict[str, Any], path: Path, strategies: Path = STRATEGIES) -> None:
    """Write one self-contained page for the results `found` of a config, from its prepared folder and its run.

    Needs the prepared log; a missing run, log, reliability data or strategies' file is said in a sentence where its part would stand.
    Raises DataError without a prepared log or where it is not the one that was evaluated, MissingExtraError without matplotlib or jinja2.
    """
    plots.require()
    log, seeds = load_log(config), found.get("seeds")
    _same_rows(config, log, found)
    try:
        told = story(load_trained(config, seeds[0] if seeds else None))
    except TrainingError:  # results may be read where the run is not; the page says so
        told = None
    drawn = figures.curves(config, seeds)
    count = len(seeds) if seeds else len(list(config.folder.glob("seed-*/log.jsonl")))
    page = {
        "head": sections.headline(config, log.report, found), "data": sections.preparation(config, log.report),
        "rates": figures.rates(config, log), "curves": drawn, "seeds": f"{count} seed{'' if count == 1 else 's'}",
        "metrics": sections.metrics(found), "reliability": figures.reliability(config, found), "slices": figures.slices(config, found),
        "task": config.columns.binary[0], "strategies": sections.strategies(config.name, strategies), "story": told,
    }
    write(render(page), path)


def _same_rows(config: Config, log: Log, found: dict[str, Any]) -> None:
    """Raise DataError where the results count other test rows than the prepared log holds: the page would mix two logs."""
    name = config.columns.binary[0]
    rows = np.flatnonzero((log.split == TEST) & log.frame["scored"].to_numpy(dtype=bool))
    expected = int((~np.isnan(log.labels([name])[rows, 0])).sum()) + int(np.isin(log.candidates["row"].to_numpy(), rows).sum())
    counts = {r["n"] for r in found["rows"] if (r["task"], r["slice"]) == (name, "all")}
    if counts != {expected}:
        raise DataError(f"--report: expected results on the {expected:,} test rows of {name} that {config.prepared} holds, found "
                        f"{', '.join(f'{n:,}' for n in sorted(counts)) or 'none'}: prepare the log of these results, or evaluate again")
