"""What preparation did, as one record: `report.json` in the prepared folder and the text that `scripts/prepare.py` prints."""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data import rules
from recllm.data.facts import Facts, median


def reasons(config: Config) -> dict[str, str]:
    """Rule -> what it means, in words."""
    return rules.reasons(config.columns, config.data.rules)


@dataclass(frozen=True)
class Report:
    """Counts of one preparation. Times are UTC milliseconds."""

    read: int
    dropped: dict[str, int]
    mended: dict[str, int]
    merged: int
    rows: int
    tables: dict[str, dict[str, int]]  # "items" | "users" -> dropped by reason, `unlisted`
    cuts: tuple[int, int]  # first moments of validation and test
    candidates: int = 0
    unscored: int = 0  # rows made history only, because data.negatives could not have drawn their item
    users: int = 0
    items: int = 0
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # split -> rows, first, last (text, UTC), rates by outcome
    item_periods: int = 0
    segments: dict[str, dict[str, int]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        (folder / "report.json").write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read_from(cls, folder: Path) -> "Report":
        plain = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return cls(**{**plain, "cuts": tuple(plain["cuts"])})

    def text(self, config: Config) -> str:
        """The record for a reader: counts per rule, rows, users, items, label rates, the split's dates."""
        words = reasons(config)
        lines = [f"{config.name}: read {self.read:,} rows, kept {self.rows:,} of {self.users:,} users and {self.items:,} items"]
        lines += [f"  dropped {n:>9,}  {rule}: {words.get(rule, rule)}" for rule, n in sorted(self.dropped.items())]
        lines += [f"  kept    {n:>9,}  {name}: set to unknown" for name, n in sorted(self.mended.items())]
        if self.merged:
            lines.append(f"  merged  {self.merged:>9,}  rows equal in user, time and item")
        for side, counts in self.tables.items():
            lines += [f"  {side:<7} {n:>9,}  {'in the log but not in the table' if r == 'unlisted' else r}" for r, n in counts.items()]
        if not self.dropped:
            lines.append("  dropped         0  no rule applied")
        for split, facts in self.splits.items():
            rates = ", ".join(f"{name} {value}" for name, value in facts["labels"].items())
            lines.append(f"  {split:<10} {facts['rows']:>9,} rows  {facts['first']} .. {facts['last']}  {rates}")
        if self.candidates:
            lines.append(f"  sampled {self.candidates:>9,}  candidates beside the log (data.negatives); metrics are on this distribution")
        if self.unscored:
            lines.append(f"  history {self.unscored:>9,}  rows whose own item data.negatives.window could not have drawn: never scored")
        for name, shares in self.segments.items():
            lines.append(f"  users by {name}: " + ", ".join(f"{value} {n:,}" for value, n in shares.items()))
        return "\n".join(lines)


def _text(moment: int | None) -> str | None:
    return None if moment is None else f"{datetime.fromtimestamp(moment // 1000, UTC):%Y-%m-%d %H:%M}"


def split_facts(config: Config, facts: dict[str, Facts]) -> dict[str, dict[str, Any]]:
    """Rows, first and last moment and label rates (share of 1; median seconds) of each split, over known labels."""
    found = {}
    for split, part in facts.items():
        labels = {}
        for name, spec in config.columns.outcomes.items():
            known, total = part["labels"][name]
            rate = f"{total / known:.1%}" if known and spec.kind == "binary" else f"median {median(part['seconds']):.0f} s"
            labels[name] = rate if known else "unknown"
        found[split] = {"rows": part["rows"], "first": _text(part["first"]), "last": _text(part["last"]), "labels": labels}
    return found
