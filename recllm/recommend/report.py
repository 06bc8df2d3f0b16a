"""`scripts/evaluate.py CONFIG --report report.html`: results, preparation, curves and one timeline as one HTML page."""

from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.errors import TrainingError
from recllm.evaluation.page import figures, plots, sections
from recllm.evaluation.page.html import render, write
from recllm.feed.log import load_log
from recllm.recommend.story import story
from recllm.training.run import load_trained

STRATEGIES = Path("results/strategies.json")  # written where commands run: the project's folder


def write_report(config: Config, found: dict[str, Any], path: Path, strategies: Path = STRATEGIES) -> None:
    """Write one self-contained page for the results `found` of a config, from its prepared folder and its run.

    Needs the prepared log; a missing run, log, reliability data or strategies' file is said in a sentence where its part would stand.
    Raises DataError without a prepared log, MissingExtraError without matplotlib or jinja2.
    """
    plots.require()
    log, seeds = load_log(config), found.get("seeds")
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
