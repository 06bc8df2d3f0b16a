"""What the page says in words and tables, out of results, preparation's record and the strategies' file: plain values for page.html."""

import json
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.report import Report, reasons
from recllm.errors import DataError
from recllm.evaluation.command import kept_command
from recllm.evaluation.report import LOWER_IS_BETTER, SHOWN, both_counters, cells, number
from recllm.evaluation.report import facts as known_facts

NAMES = {"auc": "AUC", "gauc": "AUC per user", "logloss": "log loss", "ndcg@10": "NDCG@10", "ece": "miscalibration",
         "mae": "mean error, s", "xauc": "pairs in order", "coverage": "in 80% interval"}  # fmt: skip


def headline(config: Config, report: Report, found: dict[str, Any]) -> dict[str, Any]:
    """What was measured on which data: title, note, and facts as (name, value)."""
    files = ", ".join(Path(p).name for p in config.data.interactions)  # names alone: the page is passed on, paths are not
    seeds = max(r["seeds"] for r in found["rows"])
    rows = max(r["n"] for r in found["rows"] if r["slice"] == "all")
    outcomes = ", ".join(f"{n} (given {o.given})" if o.given else n for n, o in config.columns.outcomes.items())
    facts = [
        ("Data", f"{files}: {report.rows:,} rows of {report.users:,} users and {report.items:,} items"),
        ("Dates", f"{report.splits['train']['first']} to {report.splits['test']['last']} UTC"),
        ("Predicts", outcomes),
        ("Measured", f"on {rows:,} rows of the test split, mean over {seeds} seed{'' if seeds == 1 else 's'}; 95% intervals, over users"),
        ("Commit", found["commit"]),
        ("Command", kept_command(found["command"])),
    ]
    return {"title": config.name, "note": found.get("note") or config.note, "facts": facts}


def preparation(config: Config, report: Report) -> dict[str, Any]:
    """What was read, dropped, mended and merged, and the splits with their label rates."""
    words = reasons(config)
    dropped = [(n, rule, words.get(rule, rule)) for rule, n in sorted(report.dropped.items(), key=lambda pair: -pair[1])]
    changed = [(n, name, "set to unknown, the row is kept") for name, n in sorted(report.mended.items())]
    changed += [(report.merged, "merged", "rows equal in user, time and item made one")] if report.merged else []
    tables = [(n, f"{side}: {rule}", "in the log but not in the table" if rule == "unlisted" else rule.replace("_", " "))
              for side, counts in report.tables.items() for rule, n in counts.items()]
    return {"read": report.read, "kept": report.rows, "dropped": dropped, "changed": changed, "tables": tables,
            "candidates": report.candidates, "outcomes": list(config.columns.outcomes),
            "splits": [{"name": name, **facts} for name, facts in report.splits.items()]}


def figures_table(found: dict[str, Any], counters: str) -> dict[str, Any]:
    """Every task and metric with its interval, models as columns; `best` marks the best mean of a line."""
    known = cells(found, counters)
    models = list(dict.fromkeys(key[0] for key in known))
    tasks, leads, compared = [], [], 0
    for task in dict.fromkeys(key[1] for key in known):
        lines = []
        for metric in (m for m in SHOWN if any((model, task, m) in known for model in models)):
            row = {m: known[m, task, metric] for m in models if (m, task, metric) in known}
            pick = min if metric in LOWER_IS_BETTER else max
            best = None if metric == "coverage" else pick(r["mean"] for r in row.values())  # of an 80% interval: nearer to .80 is better
            made = [{"mean": number(row[m]["mean"], metric), "low": number(row[m]["low"], metric), "high": number(row[m]["high"], metric),
                     "best": row[m]["mean"] == best} if m in row else None for m in models]
            means = {m: r["mean"] for m, r in row.items() if m not in (found.get("also") or {})}  # variants of recllm are no baselines
            compared += "recllm" in means and len(means) > 1 and best is not None
            if best is not None and means.get("recllm", best) != best:
                leads.append(_lead(task, metric, means))
            arrow = "" if metric == "coverage" else " ↓" if metric in LOWER_IS_BETTER else " ↑"
            lines.append({"metric": NAMES[metric] + arrow, "cells": made})
        tasks.append({"task": task, "lines": lines})
    return {"models": models, "tasks": tasks, "ahead": leads, "compared": compared, "counters": counters}


def _lead(task: str, metric: str, means: dict[str, float]) -> str:
    """In words, which baselines have a better mean than the model, best first."""
    lower, own = metric in LOWER_IS_BETTER, means["recllm"]
    better = sorted((m for m, mean in means.items() if (mean < own if lower else mean > own)), key=lambda m: means[m], reverse=not lower)
    return f"{task}, {NAMES[metric]}: {', '.join(f'{m} {number(means[m], metric)}' for m in better)} against {number(own, metric)}"


def metrics(found: dict[str, Any]) -> dict[str, Any]:
    """The table with fresh item counters, that with frozen ones where there is one, and what both say in a sentence."""
    frozen = any(r["counters"] == "frozen" for r in found["rows"])
    return {"fresh": figures_table(found, "fresh"), "frozen": figures_table(found, "frozen") if frozen else None,
            "both": both_counters(found), "truth": known_facts(found)}


def strategies(name: str, path: Path) -> dict[str, Any] | None:
    """The strategies that were compared for a config, or None where the file is not there or does not know it.

    The file: {config name: {"rows": [{"strategy", "settings", "split", "metric", "mean", "low", "high", "n"}], "winner": {...}}}.
    Raises DataError where a row lacks one of these.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(name)
    except (json.JSONDecodeError, AttributeError):
        raise DataError(f"{path}: expected a JSON object by config name, found something else: write it again") from None
    if found is None:
        return None
    wanted = ("strategy", "settings", "split", "metric", "mean", "low", "high", "n")
    lines: dict[tuple[str, str, str], dict[str, Any]] = {}
    for place, row in enumerate(found.get("rows", [])):
        if missing := [key for key in wanted if key not in row]:
            raise DataError(f'{path}: row {place} of "{name}" lacks {", ".join(missing)}: expected {", ".join(wanted)}')
        lines.setdefault((row["split"], row["strategy"], said(row["settings"])), {})[row["metric"]] = row
    names = list(dict.fromkeys(metric for cells in lines.values() for metric in cells))
    made = [{"split": split, "strategy": strategy, "settings": settings, "n": max(c["n"] for c in cells.values()),
             "cells": [cells.get(metric) for metric in names]} for (split, strategy, settings), cells in lines.items()]
    return {"metrics": names, "lines": made, "winner": said(found["winner"]) if found.get("winner") else None}


def said(settings: Any) -> str:
    """Settings as `key value, key value`; nested ones in brackets."""
    if not isinstance(settings, dict):
        return "" if settings is None else str(settings)
    return ", ".join(f"{k} ({said(v)})" if isinstance(v, dict) else f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
                     for k, v in settings.items() if v is not None and v != {})
