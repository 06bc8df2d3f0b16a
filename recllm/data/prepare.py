"""From raw files to a prepared folder: scatter, tables, gather, negatives, complete (DESIGN 4).

The folder is a `datasets` dataset (`load_dataset(folder)`). Every step is a list of tasks that an executor carries and that are done once:
killed, the same call goes on (recllm/data/work.py).
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config, declared
from recllm.data.complete import KEPT, Completed, CompleteTask, complete
from recllm.data.cuts import cut
from recllm.data.engine import share
from recllm.data.executors import Executor, LocalExecutor, executor_of, opened
from recllm.data.gather import GatherResult, GatherTask, gather
from recllm.data.negatives import DrawnResult, NegativesTask, PoolTask, draw_negatives, write_pool
from recllm.data.pseudonyms import Forgotten, read_key, sweep
from recllm.data.report import Report
from recllm.data.rule_checks import check_rules, check_shares
from recllm.data.scatter import ScatterResult, ScatterTask, parts, raw_file, scatter, total
from recllm.data.sources.places import shown
from recllm.data.sources.remote import standing, upload_folder
from recllm.data.sources.scan import ADAPTERS
from recllm.data.sources.stage import source_state, stage
from recllm.data.tables import TablesResult, TablesTask, check_tables, write_tables
from recllm.data.work import FINGERPRINT, Work
from recllm.errors import DataError

ROWS_PER_SHARD = 800_000
HOW = {"workers", "memory", "executor", "executor_options", "storage", "out"}  # settings that do not change what is written
TABLES = ("interactions", "users", "items", "relations")
BYTES_PER_ROW = 100  # of a text file, compressed ones a fifth
Say = Callable[[str], None]


def _quiet(_: str) -> None:
    return None


def fingerprint(config: Config, forgotten: Forgotten | None = None) -> str:
    """Hash of the data and schema sections, of the sources' sizes and times, and of who was forgotten (by default those of the list):
    equal means the prepared folder still holds."""
    facts = [source_state(config.data, source) for name in TABLES for source in getattr(config.data, name)]
    simulated = config.data.format == "simulate"
    data = config.data.model_dump(mode="json", exclude=HOW | (set() if simulated else {"simulate"}))
    data["rules"] = {name: value for name, value in data["rules"].items() if name not in ("max_dropped", "confirmed")}
    data.pop("pseudonyms")  # where the key lies is no matter, which it is and what it hides are
    plain = {"data": declared(data), "schema": declared(config.columns.model_dump(mode="json"))}
    if key := read_key(config):
        plain |= {"key": key.mark, "hidden_items": config.pseudonymous_items}
    if gone := sorted((Forgotten.read(config) if forgotten is None else forgotten).users):
        plain["forgotten"] = gone
    return hashlib.sha256(json.dumps([plain, facts], sort_keys=True).encode()).hexdigest()


def _mark(config: Config) -> str:
    """Fingerprint, then what else the bytes depend on: work of another version is not gone on with, a finished folder stands."""
    from recllm import __version__

    return f"{fingerprint(config)}\nrecllm {__version__}, duckdb {duckdb.__version__}, pyarrow {pa.__version__}\n"


def prepare(config: Config, *, executor: Executor | None = None, reuse: bool = True, say: Say = _quiet) -> Report:
    """Write `config.prepared` and return the counts.

    Raises DataError when a table cannot be used; then the folder is as it was before the call. Raises StoppedError where the disk
    is full, or another run writes the same folder; then the same call goes on.
    """
    _simulated(config)
    check_rules(config)
    target, mark = config.prepared, _mark(config)
    finished = target / FINGERPRINT
    if reuse and finished.is_file() and finished.read_text().splitlines()[0] == mark.splitlines()[0]:
        Work(target, mark).tidy()
        sweep(config)  # what a run that was killed late left
        say(f"{target} is up to date")
        _copy_out(config, say)
        return Report.read_from(target)
    with Work(target, mark) as work, opened(executor or executor_of(config.data)) as running:
        if not work.done(complete):  # else killed while it was finished: buckets may be gone
            _fill(config, staged(_dated(config, work)), work, running, say)
        work.finish(KEPT)
    sweep(config)
    _copy_out(config, say)
    return Report.read_from(target)


def _copy_out(config: Config, say: Say) -> None:
    """Copy the prepared folder to `data.out`, unless the same stands there."""
    url, storage = config.data.out, config.data.storage
    if url and standing(url, storage) != (config.prepared / FINGERPRINT).read_text(encoding="utf-8"):
        say(f"copying {config.prepared} to {shown(url)}")
        upload_folder(config.prepared, url, storage)


def check(config: Config, executor: Executor | None = None) -> list[tuple[str, ScatterResult]]:
    """Read and judge every interaction file without writing anything but a simulated log. Raises DataError as `prepare` does."""
    _simulated(config)
    check_rules(config)
    with TemporaryDirectory() as folder:
        log = staged(config, Path(folder))
        check_tables(log.config)
        tasks = [ScatterTask(log.config, path, label, index, index, None, 1) for index, (path, label) in enumerate(log.files)]
        results = (executor or executor_of(config.data)).run(scatter, tasks)
    return [(label, result) for (_, label), result in zip(log.files, results, strict=True)]


def _simulated(config: Config) -> None:
    """Write the simulated log that a config names, unless it stands already."""
    if config.data.format == "simulate":
        from recllm.data.simulate import simulate

        simulate(Path(config.data.interactions[0]).parent, **config.data.simulate.model_dump())


@dataclass(frozen=True)
class Staged:
    """A config whose tables are local files, and the log's files as (path, name of the source)."""

    config: Config
    files: list[tuple[str, str]]


def staged(config: Config, folder: Path | None = None) -> Staged:
    """Everything that is no file that DuckDB reads, made one in `folder` (default: `<config's folder>/staged`). Raises DataError for a
    source that cannot be read."""
    local, labels = {}, []
    for table in TABLES:
        found = {source: [source] if config.data.format in ADAPTERS else stage(config.data, source, folder or config.folder / "staged")
                 for source in getattr(config.data, table)}
        local[table] = [path for paths in found.values() for path in paths]
        if table == "interactions":
            labels = [shown(source) if len(paths) == 1 else path for source, paths in found.items() for path in paths]
    if not local["interactions"]:
        raise DataError(f"data.interactions: expected files, found none in {', '.join(map(shown, config.data.interactions))}")
    data = config.data.model_copy(update=local)
    return Staged(config.model_copy(update={"data": data}), list(zip(local["interactions"], labels, strict=True)))


def _dated(config: Config, work: Work) -> Config:
    """The config with an end of time: the day after the work began, the same for all tasks and for a run that goes on later."""
    if config.data.rules.max_time is not None:
        return config
    latest = datetime.fromtimestamp((work.folder / FINGERPRINT).stat().st_mtime, UTC) + timedelta(days=1)
    rules = config.data.rules.model_copy(update={"max_time": latest.replace(tzinfo=None).isoformat()})
    return config.model_copy(update={"data": config.data.model_copy(update={"rules": rules})})


def _rows(config: Config, path: str) -> int:
    """About how many rows a source has."""
    file = Path(path)
    files = [p for p in file.rglob("*") if p.is_file()] if file.is_dir() else [file] if file.is_file() else []
    rows = 0
    for found in files:
        try:
            rows += pq.ParquetFile(found).metadata.num_rows
        except (OSError, ValueError):
            rows += found.stat().st_size * (5 if found.suffix in (".gz", ".zst") else 1) // BYTES_PER_ROW
    return rows


def _fill(original: Config, log: Staged, work: Work, executor: Executor, say: Say) -> None:
    """Do every step that is not done yet, for the log `original` as it was staged."""
    config, paths, folder = log.config, log.config.data.interactions, work.folder
    # the log alone decides how many shards there are: bytes depend on it, and which negatives are drawn
    shards = config.data.shards or max(2, sum(_rows(config, p) for p in paths) // ROWS_PER_SHARD + 1)
    memory = share(config.data.memory, config.data.workers)
    say(f"reading {len(paths)} file(s) into {shards} shards")
    ranges = [(file, path, label, rows) for file, (path, label) in enumerate(log.files) for rows in parts(config, path)]
    scattered = work.run(executor, scatter, [ScatterTask(config, path, label, file, index, folder, shards, memory, rows)
                                             for index, (file, path, label, rows) in enumerate(ranges)], ScatterResult, say)
    _require_rows(scattered, [label for _, label in log.files])
    read, dropped = sum(s.rows for s in scattered), total([s.dropped for s in scattered])
    check_shares(config, read, dropped, folder / "dropped")
    hours = Counter[int]()
    for result in scattered:
        hours.update({int(hour): n for hour, n in result.hours.items()})
    validation, test, end = cut(config.data.split, hours, sorted((folder / "buckets").glob("*/times.bin")))
    tables = work.run(LocalExecutor(1), write_tables, [TablesTask(config, folder)], TablesResult, say)[0]
    say("ordering timelines, computing what was known when")
    files = tuple(raw_file(config, path, file, label) for file, (path, label) in enumerate(log.files))
    used = sorted({int(p.stem) for p in (folder / "buckets").glob("*/*.arrow") if p.stem != "broken"})
    gathered = work.run(executor, gather, [GatherTask(config, bucket, shards, folder, files, (validation, test), end, memory)
                                           for bucket in used], GatherResult, say)
    dropped = total([dropped, *(g.dropped for g in gathered)])
    check_shares(config, read, dropped, folder / "dropped")
    drawn: list[DrawnResult] = []
    if config.data.negatives:
        say("drawing negatives")
        work.run(LocalExecutor(1), write_pool, [PoolTask(config, folder, validation)], DrawnResult, say)
        tasks = [NegativesTask(config, g.bucket, shards, folder, g.scored) for g in gathered]
        drawn = work.run(executor, draw_negatives, tasks, DrawnResult, say)
    report = Report(read=read, dropped=dropped, mended=total([s.mended for s in scattered]),
                    merged=sum(g.merged for g in gathered), rows=sum(g.rows for g in gathered),
                    tables=tables.tables, cuts=(validation, test), candidates=sum(d.drawn for d in drawn),
                    unscored=sum(d.unscored for d in drawn))
    last = CompleteTask(original, folder, shards, report, memory, [g.facts for g in gathered])
    work.run(LocalExecutor(1), complete, [last], Completed, say)


def _require_rows(scattered: list[ScatterResult], paths: list[str]) -> None:
    if any(result.kept for result in scattered):
        return
    first = [f"line {line}: {reason}" for result in scattered for line, reason, _ in result.problems][:3]
    found = f"{sum(s.rows for s in scattered)} rows, all of them unusable ({'; '.join(first)})" if first else "none (only a header?)"
    raise DataError(f"{', '.join(paths)}: expected rows to keep, found {found}. See the whole list with --check")
