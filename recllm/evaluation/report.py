"""Results as text for a terminal, and as Markdown for README and model cards."""

from typing import Any

from recllm.evaluation.revenue import sentence
from recllm.evaluation.slices import HISTORY
from recllm.model.fields_recllm import WEEKDAYS

SHOWN = ("auc", "gauc", "logloss", "ndcg@10", "ece", "mae", "xauc", "coverage")
LOWER_IS_BETTER = {"logloss", "ece", "brier", "mae", "mse"}
ORDER = [*WEEKDAYS, *("morning", "midday", "evening", "night"), *(name for _, name in HISTORY), "100+"]  # of slices that have one


def cells(found: dict[str, Any], counters: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """(model, task, metric) -> row of the whole test split. A model that reads no counters stands under `fresh` alone."""
    rows = [r for r in found["rows"] if r["slice"] == "all"]
    fresh_only = {r["model"] for r in rows} - {r["model"] for r in rows if r["counters"] == "frozen"}
    return {(r["model"], r["task"], r["metric"]): r for r in rows
            if r["counters"] == counters or (counters == "frozen" and r["model"] in fresh_only)}


def _grid(found: dict[str, Any], counters: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines, one per task and metric, one column per model; the best mean of a line carries a star."""
    known = cells(found, counters)
    models = list(dict.fromkeys(key[0] for key in known))
    lines = []
    for task in dict.fromkeys(key[1] for key in known):
        for metric in (m for m in SHOWN if any((model, task, m) in known for model in models)):
            means = {m: known[m, task, metric]["mean"] for m in models if (m, task, metric) in known}
            pick = min if metric in LOWER_IS_BETTER else max
            best = pick(means.values()) if metric != "coverage" else None  # of an 80% interval: nearer to .80 is better
            shown = [number(means[m], metric) + ("*" if means[m] == best else "") if m in means else "-" for m in models]
            lines.append([task, metric, *shown])
    return ["task", "metric", *models], lines


def number(value: float, metric: str) -> str:
    """A figure as it is shown: four digits, one of an error of ten seconds or more."""
    return f"{value:.1f}" if metric in ("mae", "mse") and value >= 10 else f"{value:.4f}"


def text(found: dict[str, Any]) -> str:
    """The test split's figures for a terminal."""
    header, lines = _grid(found, "fresh")
    widths = [max(len(row[i]) for row in [header, *lines]) for i in range(len(header))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [header, *lines]]
    return "\n".join([*shown, "* best of the line; mean over seeds, intervals in the results file", *facts(found)])


def truth(found: dict[str, Any]) -> list[str]:
    """For a simulated log, one line: how near the model comes to the known probabilities."""
    facts = found.get("truth")
    if not facts:
        return []
    said = [f"against the known truth: {facts['recovered']:.0%} of the log-loss gap between the best context-blind predictor and the truth "
            f"recovered, mean |p - truth| {facts['mean_error']:.3f}; with shuffled context {facts['shuffled_context_recovered']:.0%}"]
    if "ideal" in facts:
        said.append("click AUC of the truth and of the best that lacks something: "
                    + ", ".join(f"{name.replace('_', ' ')} {ideal['auc']:.3f}" for name, ideal in facts["ideal"].items()))
        parts = {**facts["missing"], **{f"{n} shuffled": v for n, v in facts["shuffled"].items() if n != "everything"}}
        said.append("recllm's first seed with one input changed in every test row, click AUC and share recovered: "
                    + ", ".join(f"{name}{' unknown' if name in facts['missing'] else ''} {f['auc']:.3f} ({f['recovered']:.0%})"
                                for name, f in parts.items()))
    return said


def variants(found: dict[str, Any]) -> list[str]:
    """One line for each variant of the same simulated log: the share it recovers."""
    return [f"{name} ({len(facts['seeds'])} seed(s)): {facts['truth']['recovered']:.0%} of the gap recovered, mean |p - truth| "
            f"{facts['truth']['mean_error']:.3f}" for name, facts in (found.get("also") or {}).items() if facts.get("truth")]


def betrayals(found: dict[str, Any]) -> list[str]:
    """One line on the probes of sampled negatives."""
    if not found.get("probes"):
        return []
    said = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in found["probes"].items())
    return [f"Click AUC of what must not tell drawn from logged candidates: {said}."]


def facts(found: dict[str, Any]) -> list[str]:
    """Everything that is known beside the table, a line each."""
    return [*truth(found), *variants(found), *_revenue(found), *betrayals(found)]


def _revenue(found: dict[str, Any]) -> list[str]:
    return [sentence(found["revenue"])] if found.get("revenue") else []


def markdown(found: dict[str, Any], counters: str = "fresh") -> str:
    """The test split's figures as a Markdown table, with what is ahead of the model said in words."""
    header, lines = _grid(found, counters)
    rows = [header, ["---"] * len(header), *lines]
    out = ["| " + " | ".join(row) + " |" for row in rows]
    leads = ahead(found, counters)
    n = max(r["n"] for r in found["rows"] if r["slice"] == "all")
    seeds = max(r["seeds"] for r in found["rows"])
    out += ["", f"Test split, {n:,} rows, mean over {seeds} seed(s), counters {counters}; * is the best of a line. "
                f"From `{found['command']}`, commit {found['commit'][:8]}."]
    out += [f"A baseline is ahead of recllm in: {'; '.join(leads)}."] if leads else ["No baseline is ahead of recllm in this table."]
    out += both_counters(found)
    more = [line for fact in facts(found) for line in ("", fact)]
    return "\n".join([*out, *more])


def first_binary(found: dict[str, Any], task: str | None = None) -> str:
    """The task that is shown where there is room for one: the first with an AUC, or `task`."""
    return task or next((r["task"] for r in found["rows"] if r["metric"] == "auc"), found["rows"][0]["task"])


def both_counters(found: dict[str, Any]) -> list[str]:
    """One line: the model's AUC and log loss of the first binary outcome with item counters frozen at the end of train, and fresh.
    No line where the model reads no counters, or where the test split has one class only."""
    task, states = first_binary(found), ("frozen", "fresh")
    means = {(r["counters"], r["metric"]): r["mean"] for r in found["rows"]
             if (r["model"], r["task"], r["slice"]) == ("recllm", task, "all")}
    if any((state, metric) not in means for state in states for metric in ("auc", "logloss")):
        return []
    shown = [f"{state}: AUC {means[state, 'auc']:.4f}, log loss {means[state, 'logloss']:.4f}" for state in states]
    return [f"recllm's {task} with item counters {'; '.join(shown)}."]


def slice_groups(found: dict[str, Any], task: str, model: str = "recllm", counters: str = "fresh") -> dict[str, list[dict[str, Any]]]:
    """The AUC rows of one task by slice: slice name -> rows with their own `value`, in the order of the week, the day or the text."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in found["rows"]:
        if (row["model"], row["task"], row["metric"], row["counters"]) == (model, task, "auc", counters) and row["slice"] != "all":
            name, _, value = row["slice"].partition("=")
            groups.setdefault(name, []).append({**row, "value": value})
    for rows in groups.values():
        rows.sort(key=lambda r: ORDER.index(r["value"]) if r["value"] in ORDER else -1)  # stable: other values stay by their text
    return groups


def slices_text(found: dict[str, Any], task: str | None = None) -> str:
    """AUC of the model's first binary outcome by slice, for a terminal: value, AUC, interval, rows."""
    task = first_binary(found, task)
    groups = slice_groups(found, task)
    lines = [(name if k == 0 else "", r["value"], f"{r['mean']:.4f}", f"[{r['low']:.4f}, {r['high']:.4f}]", f"{r['n']:,}")
             for name, rows in groups.items() for k, r in enumerate(rows)]
    if not lines:
        return f"no slice has enough rows to show {task} AUC (evaluation.min_slice)"
    lines = [("slice", "value", "AUC", "interval", "n"), *lines]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    shown = ["  ".join([*(cell.ljust(w) for cell, w in zip(line[:4], widths, strict=False)), line[4].rjust(widths[4])]) for line in lines]
    return "\n".join([f"recllm's {task} AUC by slice, counters fresh", *shown])


def ahead(found: dict[str, Any], counters: str = "fresh") -> list[str]:
    """Where a baseline's mean is better than the model's, in words; of several the best."""
    known, best = cells(found, counters), dict[tuple[str, str], tuple[float, str]]()
    for (model, task, metric), row in known.items():
        own = known.get(("recllm", task, metric))
        if model in ("recllm", *(found.get("also") or {})) or own is None or metric not in SHOWN or metric == "coverage":
            continue
        gain = own["mean"] - row["mean"] if metric in LOWER_IS_BETTER else row["mean"] - own["mean"]
        if gain > max(0.0, best.get((task, metric), (0.0, ""))[0]):
            said = f"{task} {metric} ({model} {number(row['mean'], metric)} to {number(own['mean'], metric)})"
            best[task, metric] = (gain, said)
    return [said for _, said in best.values()]
