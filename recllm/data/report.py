"""What preparation did, as one record: `report.json` in the prepared folder and the text that `scripts/prepare.py` prints."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data import rules
from recllm.data.gather import SPLITS
from recllm.data.scatter import connect
from recllm.data.sources.files import literal, quote


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
    users: int
    items: int
    tables: dict[str, dict[str, int]]  # "items" | "users" -> dropped by reason, `unlisted`
    splits: dict[str, dict[str, Any]]  # split -> rows, first, last (text, UTC), rates by outcome
    cuts: tuple[int, int]  # first moments of validation and test
    candidates: int
    unscored: int  # rows made history only, because data.negatives could not have drawn their item
    item_periods: int
    segments: dict[str, dict[str, int]]

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


def split_facts(config: Config, folder: Path) -> dict[str, dict[str, Any]]:
    """Rows, first and last moment and label rates (share of 1; median seconds) of each split, over known labels."""
    connection = connect(threads=2)
    facts = {}
    for split in SPLITS:
        parts = []
        for name, spec in config.columns.outcomes.items():
            column = quote(config.columns.label(name))
            parts.append(f"avg({column})" if spec.kind == "binary" else f"median({column})")
        row = connection.execute(f"""SELECT count(*), strftime(to_timestamp(min(time) / 1e3) AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M'),
            strftime(to_timestamp(max(time) / 1e3) AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M'), {', '.join(parts)}
            FROM read_parquet({literal(folder / 'data' / f'{split}-*.parquet')}) WHERE scored""").fetchall()[0]
        labels = {}
        for (name, spec), value in zip(config.columns.outcomes.items(), row[3:], strict=True):
            labels[name] = "unknown" if value is None else f"{value:.1%}" if spec.kind == "binary" else f"median {value:.0f} s"
        facts[split] = {"rows": int(row[0]), "first": row[1], "last": row[2], "labels": labels}
    return facts
