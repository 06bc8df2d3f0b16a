"""New figures of the model against committed ones: which of them are worse than the committed interval allows."""

from dataclasses import dataclass
from typing import Any

from recllm.errors import DataError
from recllm.evaluation.report import LOWER_IS_BETTER

NAMED = 6  # figures that an error names


@dataclass(frozen=True)
class Drop:
    """A figure that left its committed interval on the worse side."""

    figure: str  # task metric, counters state
    old: float
    low: float
    high: float
    new: float

    def text(self) -> str:
        return f"drop: {self.figure}: committed {self.old:.4f} [{self.low:.4f}, {self.high:.4f}], now {self.new:.4f}"


def _figures(found: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """`task metric, counters state` -> row of the model's figures on the whole test split."""
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        raise DataError(f'{where}: expected a results file with "rows", as scripts/evaluate.py writes it, found another JSON')
    wanted = ("model", "task", "metric", "slice", "counters", "mean", "low", "high")
    for number, row in enumerate(found["rows"]):
        if missing := [key for key in wanted if key not in row]:
            raise DataError(f"{where}: row {number} lacks {', '.join(missing)}: expected rows as scripts/evaluate.py writes them")
    return {f"{r['task']} {r['metric']}, counters {r['counters']}": r for r in found["rows"]
            if r["model"] == "recllm" and r["slice"] == "all"}


def drops(found: dict[str, Any], committed: dict[str, Any], where: str = "baseline") -> list[Drop]:
    """The model's figures over all test rows, both counters states, that are worse than the committed interval.

    Worse: below `low` where higher is better, above `high` where lower is better, outside of [low, high] for coverage. `found` and
    `committed` are results as scripts/evaluate.py writes them; `where` names the committed file in errors. Raises DataError that names
    the figures which only one of the two holds.
    """
    new, old = _figures(found, "the new results"), _figures(committed, where)
    apart = [f"{what}: {_named([n for n in has if n not in lacks])}" for what, has, lacks in
             (("lacks", new, old), ("has what the new results have not", old, new)) if has.keys() - lacks.keys()]
    if apart:
        raise DataError(f"{where}: expected recllm's figures of slice all for the same tasks, metrics and counters as the new results. "
                        f"It {'; and it '.join(apart)}. Is it the file of this config? If so, commit a new one")
    return [Drop(name, row["mean"], row["low"], row["high"], new[name]["mean"])
            for name, row in old.items() if _worse(row, new[name]["mean"])]


def _named(names: list[str]) -> str:
    return "; ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _worse(row: dict[str, Any], value: float) -> bool:
    below, above = value < row["low"], value > row["high"]
    if row["metric"] == "coverage":  # of an 80% interval: too wide is as wrong as too narrow
        return below or above
    return above if row["metric"] in LOWER_IS_BETTER else below
