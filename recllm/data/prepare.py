"""From raw files to a prepared folder: scatter, join, gather, merge the item counts, report (DESIGN 4).

The folder is a `datasets` dataset (`load_dataset(folder)`), written under a temporary name and renamed when it is whole.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from recllm.config import Config, declared
from recllm.data.executors import Executor, LocalExecutor
from recllm.data.gather import SPLITS, GatherTask, gather
from recllm.data.item_counts import merge_counts
from recllm.data.negatives import POOL, NegativesTask, draw_negatives, write_pool
from recllm.data.report import Report, split_facts
from recllm.data.rule_checks import check_rules, check_shares
from recllm.data.scatter import ScatterResult, ScatterTask, connect, scatter
from recllm.data.segments import write_segments
from recllm.data.sources.files import literal, quote
from recllm.data.tables import check_tables, write_relations, write_table
from recllm.errors import DataError

BYTES_PER_SHARD = 128 * 2**20
Say = Callable[[str], None]


def _quiet(_: str) -> None:
    return None


def fingerprint(config: Config) -> str:
    """Hash of the data and schema sections and of the sources' sizes and times: equal means the prepared folder still holds."""
    named = [Path(p) for p in (*config.data.interactions, *config.data.users, *config.data.items, *config.data.relations)]
    sources = [file for p in named for file in (sorted(p.rglob("*")) if p.is_dir() else [p])]
    facts = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) if p.exists() else (str(p), 0, 0) for p in sources]
    simulated = config.data.format == "simulate"
    data = config.data.model_dump(mode="json", exclude={"workers"} | (set() if simulated else {"simulate"}))
    data["rules"] = {name: value for name, value in data["rules"].items() if name not in ("max_dropped", "confirmed")}  # they change no row
    plain = {"data": declared(data), "schema": declared(config.columns.model_dump(mode="json"))}
    return hashlib.sha256(json.dumps([plain, facts], sort_keys=True).encode()).hexdigest()


def prepare(config: Config, *, executor: Executor | None = None, reuse: bool = True, say: Say = _quiet) -> Report:
    """Write `config.prepared` and return the counts.

    Raises DataError when a table cannot be used; then the folder is as it was before the call.
    """
    _simulated(config)
    check_rules(config)
    target, mark = config.prepared, fingerprint(config)
    if reuse and (target / "fingerprint").is_file() and (target / "fingerprint").read_text() == mark:
        say(f"{target} is up to date")
        return Report.read_from(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in ("buckets", "dropped", "data", "partial", "candidates"):
        (part / name).mkdir(parents=True)
    try:
        report = _fill(config, part, executor or LocalExecutor(config.data.workers), say)
        (part / "fingerprint").write_text(mark)
        _replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return report


def check(config: Config, executor: Executor | None = None) -> list[tuple[str, ScatterResult]]:
    """Read and judge every interaction file without writing anything. Raises DataError as `prepare` does."""
    _simulated(config)
    check_rules(config)
    check_tables(config)
    tasks = [ScatterTask(config, path, index, None, 1) for index, path in enumerate(config.data.interactions)]
    results = (executor or LocalExecutor(config.data.workers)).run(scatter, tasks)
    return list(zip(config.data.interactions, results, strict=True))


def _simulated(config: Config) -> None:
    """Write the simulated log that a config names, unless it stands already."""
    if config.data.format == "simulate":
        from recllm.data.simulate import simulate

        simulate(Path(config.data.interactions[0]).parent, **config.data.simulate.model_dump())


def _replace(part: Path, target: Path) -> None:
    """Put the finished folder in the target's place; the old one goes only when the new one stands."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _fill(config: Config, part: Path, executor: Executor, say: Say) -> Report:
    paths = config.data.interactions
    size = sum(Path(p).stat().st_size for p in paths if Path(p).is_file())
    shards = config.data.shards or max(config.data.workers, size // BYTES_PER_SHARD + 1)
    say(f"reading {len(paths)} file(s) into {shards} shards")
    scattered = executor.run(scatter, [ScatterTask(config, path, index, part, shards) for index, path in enumerate(paths)])
    dropped = _sum(s.dropped for s in scattered)
    _require_rows(part, scattered, paths)
    check_shares(config, sum(s.rows for s in scattered), dropped, part / "dropped")
    *cuts, log_end = _cuts(config, part)
    tables = {f"{side}s": write_table(config, part, side) for side in ("item", "user")}
    tables["relations"] = write_relations(config, part)
    say("ordering timelines, computing what was known when")
    used = sorted({int(p.name.split("=")[1]) for p in (part / "buckets").glob("*/bucket=*")})
    gathered = executor.run(gather, [GatherTask(config, bucket, shards, part, (cuts[0], cuts[1]), log_end) for bucket in used])
    dropped = _sum([dropped, *(g.dropped for g in gathered)])
    check_shares(config, sum(s.rows for s in scattered), dropped, part / "dropped")
    drawn = [(0, 0)]
    if config.data.negatives:
        say("drawing negatives")
        write_pool(config, part, cuts[0])
        drawn = executor.run(draw_negatives, [NegativesTask(config, bucket, shards, part) for bucket in used])
        (part / POOL).unlink()
    candidates, unscored = (sum(column) for column in zip(*drawn, strict=True))
    periods = merge_counts(config, part)
    users, items = _require_labels(config, part)
    report = Report(read=sum(s.rows for s in scattered), dropped=dropped, mended=_sum(s.mended for s in scattered),
                    merged=sum(g.merged for g in gathered), rows=sum(g.rows for g in gathered), users=users, items=items,
                    tables={k: v for k, v in tables.items() if v}, splits=split_facts(config, part), cuts=(cuts[0], cuts[1]),
                    candidates=candidates, unscored=unscored, item_periods=periods, segments=write_segments(config, part))
    report.write(part)
    (part / "README.md").write_text(_card(config, report), encoding="utf-8")
    (part / "schema.json").write_text(config.columns.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for name in ("buckets", "partial", *(() if candidates else ("candidates",))):
        shutil.rmtree(part / name)
    return report


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(c) for c in counts), Counter()))


def _require_rows(part: Path, scattered: list[ScatterResult], paths: list[str]) -> None:
    if any((part / "buckets").glob("*/*/*.parquet")):
        return
    first = [f"line {line}: {reason}" for result in scattered for line, reason, _ in result.problems][:3]
    found = f"{sum(s.rows for s in scattered)} rows, all of them unusable ({'; '.join(first)})" if first else "none (only a header?)"
    raise DataError(f"{', '.join(paths)}: expected rows to keep, found {found}. See the whole list with --check")


def _cuts(config: Config, part: Path) -> tuple[int, int, int]:
    """First moments of validation and test, of the kept rows by fraction or as declared, and the log's last moment: UTC milliseconds."""
    split, connection = config.data.split, connect(threads=2)
    source = f"read_parquet({literal(part / 'buckets' / '*' / '*' / '*.parquet')}, union_by_name=true)"
    first, last = connection.execute(f"SELECT min(time), max(time) FROM {source}").fetchall()[0]
    if isinstance(split.validation, str):
        moments = connection.execute("SELECT epoch_ms(?::TIMESTAMPTZ), epoch_ms(?::TIMESTAMPTZ)", [split.validation, split.test])
    else:
        shares = [1 - split.validation - float(split.test), 1 - float(split.test)]
        moments = connection.execute(f"SELECT quantile_disc(time, ?::DOUBLE), quantile_disc(time, ?::DOUBLE) FROM {source}", shares)
    validation, test = (int(m) for m in moments.fetchall()[0])
    if not first < validation < test <= last:
        dates = connection.execute("SELECT " + ", ".join(f"strftime(make_timestamp({m} * 1000), '%Y-%m-%d %H:%M')"
                                                         for m in (first, last, validation, test))).fetchall()[0]
        raise DataError(f"data.split: expected first row < validation < test <= last row, found a log from {dates[0]} to {dates[1]}, "
                        f"validation from {dates[2]} and test from {dates[3]}: change data.split, or give a longer log")
    return validation, test, int(last)


def _require_labels(config: Config, part: Path) -> tuple[int, int]:
    """(users, items) of the kept rows. Raises DataError where nothing can be learnt: one user, one item, one kind of label."""
    connection = connect(threads=2)
    source = f"read_parquet({literal(part / 'data' / '*.parquet')}, union_by_name=true)"
    train = f"read_parquet({literal(part / 'data' / 'train-*.parquet')})"
    users, items = connection.execute(f'SELECT count(DISTINCT "user"), count(DISTINCT item) FROM {source}').fetchall()[0]
    for name, n, column in (("user", users, config.columns.user), ("item", items, config.columns.item)):
        if n < 2:
            raise DataError(f'schema.{name}: expected at least two {name}s in column "{column}", found {n}: '
                            f"there is nothing to compare; is it the right column?")
    for split in SPLITS:
        files = literal(part / "data" / f"{split}-*.parquet")
        if not connection.execute(f"SELECT count(*) FROM read_parquet({files}) WHERE scored").fetchall()[0][0]:
            raise DataError(f"data.split: expected scored rows in train, validation and test, found none in {split}: move the dates")
    for name in config.columns.binary:
        label = quote(config.columns.label(name))
        low, high = connection.execute(f"SELECT min({label}), max({label}) FROM {train} WHERE scored").fetchall()[0]
        only = "no known label" if high is None else "no positive label" if high == 0 else "no negative label" if low == 1 else None
        if only == "no negative label" and config.data.negatives:
            only = None
        if only:
            remedy = "add data.negatives" if only.startswith("no negative") else "check its column and at_least, or leave the outcome out"
            raise DataError(f"outcomes.{name}: expected 0 and 1 among the training rows, found {only}: {remedy}")
    return int(users), int(items)


def _card(config: Config, report: Report) -> str:
    """README.md of the prepared folder: its YAML head is what lets `load_dataset(folder)` find the splits."""
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in SPLITS if report.splits[split]["rows"])
    return (f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}\n---\n\n# {config.name}, prepared by recllm\n\n"
            f"```\n{report.text(config)}\n```\n\nColumns: time and known_at are UTC milliseconds, utc_offset minutes, pos the place in the "
            f"user's timeline, n_before how many leading rows of it were known at `time`.\n{config.note}\n")
