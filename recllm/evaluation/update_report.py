"""The day-by-day experiment (recommend/update) as text for a terminal and as Markdown for README."""

from typing import Any

HEADER = ["day", "arm", "auc", "gauc", "logloss", "rows trained", "steps", "seconds"]


def _lines(found: dict[str, Any]) -> list[list[str]]:
    """One line per day and arm: the means over seeds of the first outcome, with their intervals, and what the training cost."""
    means = [r for r in found["rows"] if r["seed"] == "mean"]
    task = means[0]["task"]
    cells = {(r["day"], r["arm"], r["metric"]): r for r in means if r["task"] == task}
    lines = []
    for day, arm in dict.fromkeys((d, a) for d, a, _ in cells):
        rows = [cells.get((day, arm, metric)) for metric in HEADER[2:5]]
        shown = [f"{r['mean']:.4f} [{r['low']:.4f}, {r['high']:.4f}]" if r else "-" for r in rows]
        cost = next(r for r in rows if r)
        lines.append([day, arm, *shown, f"{cost['rows_trained']:,.0f}", f"{cost['steps']:,.0f}", f"{cost['seconds']:,.0f}"])
    return lines


def text(found: dict[str, Any]) -> str:
    """The figures as an aligned table."""
    rows = [HEADER, *_lines(found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*shown, _about(found)])


def markdown(found: dict[str, Any]) -> str:
    """The figures as a Markdown table, with what they are of."""
    rows = [HEADER, ["---"] * len(HEADER), *_lines(found)]
    return "\n".join([*("| " + " | ".join(row) + " |" for row in rows), "", f"{_about(found)} From `{found['command']}`, commit "
                                                                           f"{found['commit'][:8]}."])


def _about(found: dict[str, Any]) -> str:
    task, settings = found["rows"][0]["task"], found["update"]
    return (f"{task}, mean over {len(found['seeds'])} seed(s), 95% intervals over users, item counts fresh; the cost is of that day's "
            f"training alone. An update is {settings['epochs']} epoch(s) on the newest train rows at {settings['rate']:g} of the learning "
            f"rates.")
