"""Results as text for a terminal, as Markdown for README and as the model card of a release."""

import json
from pathlib import Path
from typing import Any

from recllm.evaluation.revenue import sentence

SHOWN = ("auc", "gauc", "logloss", "ndcg@10", "ece", "mae", "xauc", "coverage")
LOWER_IS_BETTER = {"logloss", "ece", "brier", "mae", "mse"}


def _cells(found: dict[str, Any], counters: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(model, task, metric) -> row of the whole test split. A model that reads no counters stands under `fresh` alone."""
    rows = [r for r in found["rows"] if r["slice"] == "all"]
    fresh_only = {r["model"] for r in rows} - {r["model"] for r in rows if r["counters"] == "frozen"}
    return {(r["model"], r["task"], r["metric"]): r for r in rows
            if r["counters"] == counters or (counters == "frozen" and r["model"] in fresh_only)}


def _grid(found: dict[str, Any], counters: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines, one per task and metric, one column per model; the best mean of a line carries a star."""
    cells = _cells(found, counters)
    models = list(dict.fromkeys(key[0] for key in cells))
    lines = []
    for task in dict.fromkeys(key[1] for key in cells):
        for metric in (m for m in SHOWN if any((model, task, m) in cells for model in models)):
            means = {m: cells[m, task, metric]["mean"] for m in models if (m, task, metric) in cells}
            pick = min if metric in LOWER_IS_BETTER else max
            best = pick(means.values()) if metric != "coverage" else None  # of an 80% interval: nearer to .80 is better
            shown = [_number(means[m], metric) + ("*" if means[m] == best else "") if m in means else "-" for m in models]
            lines.append([task, metric, *shown])
    return ["task", "metric", *models], lines


def _number(value: float, metric: str) -> str:
    return f"{value:.1f}" if metric in ("mae", "mse") and value >= 10 else f"{value:.4f}"


def text(found: dict[str, Any]) -> str:
    """The test split's figures for a terminal."""
    header, lines = _grid(found, "fresh")
    widths = [max(len(row[i]) for row in [header, *lines]) for i in range(len(header))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *lines]]
    return "\n".join([*shown, "* best of the line; mean over seeds, intervals in the results file", *_truth(found), *_revenue(found)])


def _truth(found: dict[str, Any]) -> list[str]:
    facts = found.get("truth")
    if not facts:
        return []
    return [f"against the known truth: {facts['recovered']:.0%} of the log-loss gap between the best context-blind predictor and the truth "
            f"recovered, mean |p - truth| {facts['mean_error']:.3f}; with shuffled context {facts['shuffled_context_recovered']:.0%}"]


def _revenue(found: dict[str, Any]) -> list[str]:
    return [sentence(found["revenue"])] if found.get("revenue") else []


def markdown(found: dict[str, Any], counters: str = "fresh") -> str:
    """The test split's figures as a Markdown table, with what is ahead of the model said in words."""
    header, lines = _grid(found, counters)
    rows = [header, ["---"] * len(header), *lines]
    out = ["| " + " | ".join(row) + " |" for row in rows]
    ahead = _ahead(found, counters)
    n = max(r["n"] for r in found["rows"] if r["slice"] == "all")
    seeds = max(r["seeds"] for r in found["rows"])
    out += ["", f"Test split, {n:,} rows, mean over {seeds} seed(s), counters {counters}; * is the best of a line. "
                f"From `{found['command']}`, commit {found['commit'][:8]}."]
    out += [f"A baseline is ahead of recllm in: {'; '.join(ahead)}."] if ahead else ["No baseline is ahead of recllm in this table."]
    more = [line for fact in (*_truth(found), *_revenue(found)) for line in ("", fact)]
    return "\n".join([*out, *more])


def _ahead(found: dict[str, Any], counters: str) -> list[str]:
    cells, said = _cells(found, counters), []
    for (model, task, metric), row in cells.items():
        own = cells.get(("recllm", task, metric))
        if model == "recllm" or own is None or metric not in SHOWN or metric == "coverage":
            continue
        gain = own["mean"] - row["mean"] if metric in LOWER_IS_BETTER else row["mean"] - own["mean"]
        if gain > 0:
            said.append(f"{task} {metric} ({model} {_number(row['mean'], metric)} to {_number(own['mean'], metric)})")
    return said


def card(name: str, note: str, config: dict[str, Any], results: Path) -> str:
    """README.md of a release: use, training data, measured table."""
    measured = "Not evaluated: run scripts/evaluate.py, then scripts/release.py again."
    if results.is_file():
        found = json.loads(results.read_text(encoding="utf-8"))
        measured = markdown(found)
    outcomes = ", ".join(config["schema"]["outcomes"])
    context = ", ".join(["time", *config["schema"]["context"]])
    return f"""---
library_name: transformers
pipeline_tag: other
tags: [recommendation, recllm]
base_model: {config['model']['encoder']}
---

# {name}

A context-aware recommender made with recllm: it predicts {outcomes} of a candidate item from a user's history, profile and moment
({context}). {note}

```python
import transformers

pipe = transformers.pipeline("recommendation", model="THIS_FOLDER_OR_HUB_ID", trust_remote_code=True)
pipe({{"profile": {{}}, "history": [], "context": {{}}}}, top_k=5)
```

## Measured

{measured}

## Limits

Item counts are those at the end of the prepared log; an item without text, and never seen in training, is scored from the moment and the
user alone. Probabilities are calibrated on the validation days of the log that the model was trained on.
"""
