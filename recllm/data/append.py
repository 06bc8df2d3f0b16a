"""`prepare --append`: new files of a log that stands, split by dates. Only the shards that they touch are made anew.

What comes out equals a run over old and new files, but for late rows: those of periods that the item counts have closed are kept out.
A new row can be a copy of an old one, be merged with it, or make its user a bot only from the day of the open period on; the raw rows
of that time are in the folder (record.py), so that no old file is read again. Untouched shards are linked, not copied.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np

from recllm.config import Config
from recllm.data.complete import KEPT
from recllm.data.earlier import Before
from recllm.data.engine import connect
from recllm.data.executors import Executor, executor_of, opened
from recllm.data.gather import SPLITS, shard_name
from recllm.data.partition import RawFile
from recllm.data.prepare import (
    Say,
    Scattered,
    buckets_in,
    finish_log,
    hand_over,
    mark,
    prepare,
    quiet,
    raw_files,
    scatter_files,
)
from recllm.data.record import DAY, TAIL, Made, Record, Sources, hashed, sources_of
from recllm.data.report import Report
from recllm.data.rule_checks import check_rules, check_shares
from recllm.data.scatter import ScatterResult, total
from recllm.data.sources.files import literal
from recllm.data.sources.places import shown
from recllm.data.staging import dated, staged
from recllm.data.whole import link_or_copy
from recllm.data.work import Work
from recllm.errors import FullRunError

PARTS = ("items-{}.parquet", "users-{}.parquet", "segments-{}.parquet", "bots-{}.parquet", "tail-{}.arrow")


def append(config: Config, files: Sequence[str], *, rewrite: bool = False, executor: Executor | None = None, say: Say = quiet) -> Report:
    """Add files to the log of `config.prepared` and return the counts of the whole. Files that are in it already are passed over.

    `rewrite`: prepare old and new files in full, late rows included. Raises FullRunError where only that gives what a full run gives,
    else errors as `prepare` does; the folder stays as it was.
    """
    check_rules(config)
    Work.restore(config.prepared)
    record, target = Record.read_from(config.prepared), config.prepared
    given = sources_of(config.data, files)
    named = record.made.sources if record else sources_of(config.data, config.data.interactions)
    new = [source for source in given if source[0] not in {name for name, _ in named}]
    if rewrite:
        return _in_full(config, [*named, *new], executor, say)
    record = _usable(config, record)
    made = Made.of(config, [*record.made.sources, *new])
    _require_same(config, record, made, given)
    if not new:
        say(f"{target} is up to date: {', '.join(shown(name) for name, _ in given)} {'is' if len(given) == 1 else 'are'} in it already")
        return hand_over(config, say)
    try:
        return _append(config, made, new, record, executor, say)
    except FullRunError as why:
        say(f"{why}: preparing old and new files in full, late rows included")
        return _in_full(config, made.sources, executor, say)


def _in_full(config: Config, sources: Sources, executor: Executor | None, say: Say) -> Report:
    if hidden := [name for name, _ in sources if "***" in name]:
        raise FullRunError(f"{config.prepared}: expected sources that can be read again, found {', '.join(hidden)} without its password: "
                           f"name all of them in data.interactions and prepare in full")
    data = config.data.model_copy(update={"interactions": [name for name, _ in sources]})
    return prepare(config.model_copy(update={"data": data}), executor=executor, reuse=False, say=say)


def _usable(config: Config, record: Record | None) -> Record:
    """The record of a folder that can be appended to. Raises FullRunError where there is none."""
    if not isinstance(config.data.split.validation, str):
        raise FullRunError(f"data.split: expected dates for --append, found fractions, whose cuts move with every row: give validation and "
                           f"test as dates, or prepare {config.name} in full")
    if record is None:
        raise FullRunError(f"{config.prepared}: expected a log prepared by this version, found none: prepare it in full first")
    if record.hashed != hashed():
        raise FullRunError(f"{config.prepared}: expected rows hashed as DuckDB {duckdb.__version__} does, found others: copies would go "
                           f"unseen; use the DuckDB it was prepared with, or prepare in full")
    return record


def _require_same(config: Config, record: Record, made: Made, given: Sources) -> None:
    """Raise FullRunError where settings, tables or old files are not those that the folder was made of."""
    data, target = config.data, config.prepared
    if made.settings != record.made.settings:
        raise FullRunError(f"{target}: expected the data and schema sections it was prepared with, found others: prepare in full")
    if made.tables != record.made.tables:
        ruled = [f"data.rules.unknown_{side}: drop" for side in ("items", "users") if getattr(data.rules, f"unknown_{side}") == "drop"]
        ruled += ["data.negatives.window"] if data.windowed else []
        if ruled:
            raise FullRunError(f"{target}: expected unchanged tables beside the log, since {' and '.join(ruled)} judges old rows by them, "
                               f"found changed ones: prepare in full")
    if data.windowed and config.columns.scored:
        raise FullRunError(f"{target}: expected no scored column for --append with data.negatives.window, which writes over it, found "
                           f'"{config.columns.scored}": prepare in full')
    known, coming = dict(made.sources), sources_of(data, data.interactions)
    for name, state in [*coming, *given]:
        if name not in known:
            raise FullRunError(f"{shown(name)}: expected data.interactions to name files that are prepared or appended now, found another: "
                               f"append it too, or prepare in full")
        if known[name] != state:
            raise FullRunError(f"{shown(name)}: expected the file as it was when it was prepared, found a changed one: append what is new "
                               f"as a file of its own, or prepare in full")


def _append(config: Config, made: Made, new: Sources, record: Record, executor: Executor | None, say: Say) -> Report:
    target, old = config.prepared, Report.read_from(config.prepared)
    data = config.data.model_copy(update={"interactions": [name for name, _ in new]})
    config = config.model_copy(update={"data": data})
    with Work(target, f"{mark(made)}appended to {record.made.fingerprint}\n") as work, opened(executor or executor_of(data)) as running:
        if not work.whole:
            log = staged(dated(config, work))
            period = data.period * 1000
            added = scatter_files(log, work, running, record.shards, say, place=len(record.files), index=record.tasks,
                                  late=record.end // period * period)
            scattered, touched = _join(log.config, work.folder, target, record, added, raw_files(log, len(record.files)), len(new))
            check_shares(config, sum(s.rows for s in scattered.results), total([s.dropped for s in scattered.results]),
                         work.folder / "dropped")
            finish_log(config, log.config, work, running, scattered, say, made)
            late = sum(result.dropped.get("late", 0) for result in added)
            rows = Report.read_from(work.folder).rows - old.rows
            say(f"added {rows:,} rows of {sum(s.rows for s in added):,} read, {late:,} late; made {len(touched)} of "
                f"{len(scattered.buckets)} shards anew")
        work.finish(KEPT)
    return hand_over(config, say)


def _join(config: Config, folder: Path, target: Path, record: Record, added: list[ScatterResult], files: tuple[RawFile, ...],
          appended: int) -> tuple[Scattered, list[int]]:
    """Old and new files as one scattered log, and the buckets to make anew; what stays is linked into the work folder."""
    times = [path for path in (folder / "buckets").glob("*/times.bin") if path.stat().st_size]
    end = max([record.end, *(int(np.memmap(path, dtype=np.int64, mode="r").max()) for path in times)])
    old = sorted(int(path.stem.removeprefix("gather-")) for path in (target / "done").glob("gather-*.json"))
    touched = sorted({*buckets_in(folder), *(bucket for bucket in old if _label_opens(config, record, target, bucket, end))})
    before = [ScatterResult(**json.loads((target / "done" / f"scatter-{index}.json").read_text(encoding="utf-8")))
              for index in range(record.tasks)]
    for index in range(record.tasks):
        _link(target, folder, f"dropped/scatter-{index}.parquet", f"done/scatter-{index}.json")
    for bucket in old:
        if bucket in touched:
            link_or_copy(target / "partial" / f"tail-{bucket}.arrow", folder / "buckets" / TAIL / f"{bucket}.arrow")
        else:
            _link(target, folder, *(f"data/{shard_name(split, bucket, record.shards)}" for split in SPLITS),
                  f"dropped/gather-{bucket}.parquet", *(f"partial/{part.format(bucket)}" for part in PARTS), f"done/gather-{bucket}.json")
    link_or_copy(target / "partial" / "refused.parquet", folder / "buckets" / TAIL / "refused.parquet")
    return Scattered([*before, *added], (*record.files, *files), record.shards, sorted({*old, *touched}), record.cuts, end,
                     Before(target, record.tail, len(record.files)), record.appended + appended), touched


def _label_opens(config: Config, record: Record, target: Path, bucket: int, end: int) -> bool:
    """Whether a label of a shard was masked because its outcome's window reached over the log's end, and ends before the new one."""
    test = target / "data" / shard_name("test", bucket, record.shards)
    windows = [int(spec.window * DAY) for spec in config.columns.outcomes.values() if spec.window]
    opens = " OR ".join(f"time BETWEEN {record.end - length + 1} AND {end - length}" for length in windows) or "false"
    return bool(connect().execute(f"SELECT count(*) FROM read_parquet({literal(test)}) WHERE {opens}").fetchall()[0][0])


def _link(source: Path, target: Path, *names: str) -> None:
    for name in names:
        link_or_copy(source / name, target / name)
