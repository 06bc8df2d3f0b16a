"""The whole of `scripts/evaluate.py CONFIG --strategies`, and its file: one entry a config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.errors import DataError
from recllm.evaluation.baselines import NAMES, create
from recllm.evaluation.command import kept_command
from recllm.feed.log import load_log
from recllm.model.files_recllm import whole_file
from recllm.recommend import next_item, strategies
from recllm.training.results import commit


def strategy_results(config: Config, seeds: list[int], command: str, say: Callable[[str], None] = print) -> dict[str, Any]:
    """One config's entry: {"command", "commit", "config", "seeds", "rows", "winner", "next_item"}. Raises TrainingError where a seed is
    not trained."""
    for name in next_item.BASELINES:
        if name in NAMES:
            create(name)  # a missing extra is found before anything is scored
    asked = strategies.asked_of(config, load_log(config))
    ready = [strategies.ready(config, seed, asked, say) for seed in seeds]
    found = strategies.try_strategies(config, ready, asked)
    if config.columns.relations:  # lists come from two hops there and leave friends out, which no baseline does
        say("the next item in the whole catalogue is not compared where relations decide what may be listed")
    following = [] if config.columns.relations else next_item.next_item(config, seeds, ready, say)
    return {"command": kept_command(command), "commit": commit(), "config": config.name, "seeds": seeds, **found, "next_item": following}


def text(entry: dict[str, Any]) -> str:
    return strategies.text(entry) + "\n\n" + next_item.text(entry["next_item"])


def markdown(whole: dict[str, Any]) -> str:
    """The entries of a strategies file as Markdown: the best member of each family on test, the next item, and what won."""
    return "\n\n".join(_entry(entry) for entry in whole.values())


def _entry(entry: dict[str, Any]) -> str:
    rows = [row for row in entry["rows"] if row["split"] == "test"]
    header, *lines = strategies.table(rows, entry["winner"], " (chosen)")
    lists, seeds = max(row["n"] for row in rows), max(row["seeds"] for row in rows)
    said = [f"{entry['config']}: {lists} test requests, the whole catalogue, mean over {seeds} seed(s); each family's settings, and what "
            f"is chosen to ship, are the best by NDCG on validation. From `{entry['command']}`, commit {entry['commit'][:8]}.", "",
            *("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *lines])]
    return "\n".join(said + _next(entry["next_item"]))


def _next(rows: list[dict[str, Any]]) -> list[str]:
    """The next clicked item in the whole catalogue, a line a model."""
    if not rows:
        return []
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    means = {(row["model"], row["metric"]): row for row in rows}
    lines = [["next item, unsampled", *metrics], ["---"] * (1 + len(metrics))]
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = [means[model, m] for m in metrics]
        lines.append([model, *(f"{c['mean']:.4f} ({c['low']:.4f} to {c['high']:.4f})" for c in cells)])
    return ["", *("| " + " | ".join(line) + " |" for line in lines)]


def write_entry(path: Path, entry: dict[str, Any]) -> None:
    """Put an entry under its config's name, beside those of other configs; one row of figures per line, written aside and renamed.

    Raises DataError where the file holds anything else.
    """
    whole: dict[str, Any] = {}
    if path.is_file():
        try:
            whole = json.loads(path.read_text(encoding="utf-8"))
            assert all(name == old["config"] for name, old in whole.items())
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
            raise DataError(f"{path}: expected one entry a config as --strategies writes it, found something else: choose another --out") \
                from None
    whole[entry["config"]] = entry
    with whole_file(path) as part:
        part.write_text(_lines(whole, 2) + "\n", encoding="utf-8")


def _lines(value: Any, depth: int, indent: str = "") -> str:
    """JSON with `depth` levels of mappings, and the lists in them, one element a line; what is deeper stays on one line."""
    if isinstance(value, dict) and depth:
        inner = [f"{indent} {json.dumps(k)}: {_lines(v, depth - 1, indent + ' ')}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"{indent} {json.dumps(v)}" for v in value) + f"\n{indent}]"
    return json.dumps(value)
