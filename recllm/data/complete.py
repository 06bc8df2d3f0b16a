"""The last step of preparation: what the shards add up to becomes tables, counts, segments, report and card. Checks that there is something
to learn, and writes nothing that a reader could take for a finished folder before that."""

from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from recllm.config import Config
from recllm.data.engine import connect
from recllm.data.facts import Facts, add_facts, shard_facts
from recllm.data.gather import SPLITS
from recllm.data.item_counts import write_counts
from recllm.data.report import Report, split_facts
from recllm.data.segments import write_segments
from recllm.data.sources.files import literal, quote
from recllm.data.tables import complete_table
from recllm.data.whole import whole_file
from recllm.errors import DataError

# what stays of the work folder, beside the tasks' results
KEPT = ("data", "dropped", "candidates", "items.parquet", "users.parquet", "relations.parquet", "item_counts.parquet", "segments.parquet",
        "report.json", "schema.json", "settings.json", "README.md", "partial", "state.json")


@dataclass(frozen=True)
class CompleteTask:
    config: Config
    folder: Path
    shards: int
    report: Report  # the counts so far
    memory: int | None
    facts: list[dict[str, Facts]]  # of each shard, by split
    index: int = 0


@dataclass(frozen=True)
class Completed:
    rows: int


def complete(task: CompleteTask) -> Completed:
    """Write what is made of all shards together. Raises DataError where nothing can be learnt."""
    config, folder = task.config, task.folder
    connection = connect(threads=config.data.workers, memory=task.memory and task.memory * config.data.workers, spill=folder / "spill")
    facts = {split: add_facts(config, [shard[split] for shard in task.facts]) for split in SPLITS}
    if config.data.windowed:  # the draw decided which rows are scored
        facts = {split: shard_facts(connection, config, f"read_parquet({literal(folder / 'data' / f'{split}-*.parquet')})")
                 for split in SPLITS}
    tables = {side: complete_table(connection, folder, side) for side in ("item", "user")}
    _require_labels(connection, config, folder, facts, {side: n for side, (n, _) in tables.items()})
    dropped = {name: dict(counts) for name, counts in task.report.tables.items()}
    for side, paths in (("item", config.data.items), ("user", config.data.users)):
        if paths and (unlisted := tables[side][1]):
            dropped.setdefault(f"{side}s", {})["unlisted"] = unlisted
    counts, users = (f"read_parquet({literal(folder / 'partial' / f'{name}-*.parquet')})" for name in ("counts", "segments"))
    periods = write_counts(connection, config, counts, folder / "item_counts.parquet")
    with whole_file(folder / "segments.parquet") as part:
        segments = write_segments(connection, config, users, part)
    report = replace(task.report, users=tables["user"][0], items=tables["item"][0], tables={k: v for k, v in dropped.items() if v},
                     splits=split_facts(config, facts), item_periods=periods, segments=segments)
    report.write(folder)
    (folder / "README.md").write_text(_card(config, report), encoding="utf-8")
    (folder / "schema.json").write_text(config.columns.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Completed(report.rows)


def _require_labels(connection: duckdb.DuckDBPyConnection, config: Config, folder: Path, facts: dict[str, Facts],
                    ids: dict[str, int]) -> None:
    """Raise DataError where nothing can be learnt: one user, one item, an empty split, one kind of label."""
    schema = config.columns
    for name, column in (("user", schema.user), ("item", schema.item)):
        if ids[name] < 2:
            raise DataError(f'schema.{name}: expected at least two {name}s in column "{column}", found {ids[name]}: '
                            f"there is nothing to compare; is it the right column?")
    for split in SPLITS:
        if not facts[split]["rows"]:
            raise DataError(f"data.split: expected scored rows in train, validation and test, found none in {split}: move the dates")
    train = f"read_parquet({literal(folder / 'data' / 'train-*.parquet')})"
    for name in schema.binary:
        label = quote(schema.label(name))
        low, high = connection.execute(f"SELECT min({label}), max({label}) FROM {train} WHERE scored").fetchall()[0]
        only = "no known label" if high is None else "no positive label" if high == 0 else "no negative label" if low == 1 else None
        if only == "no negative label" and config.data.negatives:
            only = None
        if only:
            remedy = "add data.negatives" if only.startswith("no negative") else "check its column and at_least, or leave the outcome out"
            raise DataError(f"outcomes.{name}: expected 0 and 1 among the training rows, found {only}: {remedy}")


def _card(config: Config, report: Report) -> str:
    """README.md of the prepared folder: its YAML head is what lets `load_dataset(folder)` find the splits."""
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in SPLITS if report.splits[split]["rows"])
    return (f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n\n# {config.name}, prepared by recllm\n\n"
            f"```\n{report.text(config)}\n```\n\nColumns: time and known_at are UTC milliseconds, utc_offset minutes, pos the place in the "
            f"user's timeline, n_before how many leading rows of it were known at `time`.\n{config.note}\n")
