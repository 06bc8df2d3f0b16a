"""From raw files to a prepared folder: scatter, tables, gather, negatives, complete (DESIGN 4).

The folder is a `datasets` dataset (`load_dataset(folder)`). Every step is a list of tasks that an executor carries and that are done once:
killed, the same call goes on (recllm/data/work.py).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

from recllm.config import Config
from recllm.data.complete import KEPT, Completed, CompleteTask, complete
from recllm.data.cuts import cut
from recllm.data.earlier import Before, Booked, BookTask, book
from recllm.data.engine import share
from recllm.data.executors import Executor, LocalExecutor, executor_of, opened
from recllm.data.gather import GatherResult, GatherTask, gather
from recllm.data.negatives import DrawnResult, NegativesTask, PoolTask, draw_negatives, write_pool
from recllm.data.partition import RawFile
from recllm.data.pseudonyms import sweep
from recllm.data.record import TAIL, Made, Record, hashed, keep_parts, tail_start
from recllm.data.report import Report
from recllm.data.rule_checks import check_rules, check_shares
from recllm.data.scatter import ScatterResult, ScatterTask, parts, raw_file, scatter, total
from recllm.data.settings import complete_settings, write_settings
from recllm.data.sources.places import shown
from recllm.data.sources.remote import standing, upload_folder
from recllm.data.staging import Staged, dated, rows_of, staged
from recllm.data.tables import TablesResult, TablesTask, check_tables, write_tables
from recllm.data.work import FINGERPRINT, Work
from recllm.errors import DataError

ROWS_PER_SHARD = 800_000
Say = Callable[[str], None]


def quiet(_: str) -> None:
    return None


def mark(made: Made) -> str:
    """Fingerprint, then what else the bytes depend on: work of another version is not gone on with, a finished folder stands."""
    from recllm import __version__

    return f"{made.fingerprint}\nrecllm {__version__}, duckdb {duckdb.__version__}, pyarrow {pa.__version__}\n"


def prepare(config: Config, *, executor: Executor | None = None, reuse: bool = True, say: Say = quiet) -> Report:
    """Write `config.prepared` and return the counts.

    Raises DataError when a table cannot be used, or appended files would be lost; then the folder is as it was before the call. Raises
    StoppedError where the disk is full, or another run writes the same folder; then the same call goes on.
    """
    _simulated(config)
    check_rules(config)
    Work.restore(config.prepared)
    target, made = config.prepared, Made.of(config)
    if _stands(target, made, reuse, say):
        Work(target, mark(made)).tidy()
        return hand_over(config, say)
    with Work(target, mark(made)) as work, opened(executor or executor_of(config.data)) as running:
        if not work.whole:
            log = staged(dated(config, work))
            finish_log(config, log.config, work, running, _scatter_all(log, work, running, say), say, made)
        work.finish(KEPT)
    return hand_over(config, say)


def _stands(target: Path, made: Made, reuse: bool, say: Say) -> bool:
    """Whether the prepared folder is what is wanted. Raises DataError where a full run would lose files that were appended to it."""
    finished, record = target / FINGERPRINT, Record.read_from(target)
    if reuse and finished.is_file() and finished.read_text().splitlines()[0] == made.fingerprint:
        say(f"{target} is up to date")
        return True
    if record is None or not (unnamed := record.unnamed(made)):
        return False
    files = f"{len(unnamed)} appended file(s) that data.interactions does not name ({', '.join(map(shown, unnamed))})"
    if not reuse:
        say(f"{target}: leaving out {files}")
        return False
    if record.holds(made):
        say(f"{target} is up to date, with {files}")
        return True
    raise DataError(f"{target}: expected data.interactions to name all that was prepared, found {files}, and settings or tables that have "
                    f"changed: name them too, or leave them out by --again")


def hand_over(config: Config, say: Say) -> Report:
    """What is due once the prepared folder stands, be it since now or since a run that was killed late: staged raw ids go, the folder is
    copied to `data.out` unless the same stands there. Returns its report."""
    sweep(config)
    complete_settings(config.prepared, config)
    url, storage = config.data.out, config.data.storage
    if url and standing(url, storage) != (config.prepared / FINGERPRINT).read_text(encoding="utf-8"):
        say(f"copying {config.prepared} to {shown(url)}")
        upload_folder(config.prepared, url, storage)
    return Report.read_from(config.prepared)


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
class Scattered:
    """A log in user buckets, and what the steps behind it have to know."""

    results: list[ScatterResult]  # of all files
    files: tuple[RawFile, ...]  # of all sources
    shards: int
    buckets: list[int]  # those with rows
    cuts: tuple[int, int]  # first moments of validation and test, UTC ms
    end: int  # last moment
    before: Before | None = None
    appended: int = 0  # sources so far that were appended


def scatter_files(log: Staged, work: Work, executor: Executor, shards: int, say: Say, *, place: int = 0, index: int = 0,
                  late: int | None = None) -> list[ScatterResult]:
    """Do the scatter of a log's files: the first is the log's `place`-th, the first task its `index`-th; rows before `late` are dropped."""
    config, memory = log.config, share(log.config.data.memory, log.config.data.workers)
    say(f"reading {len(log.files)} file(s) into {shards} shards")
    ranges = [(file, path, label, rows) for file, (path, label) in enumerate(log.files, place) for rows in parts(config, path)]
    return work.run(executor, scatter, [ScatterTask(config, path, label, file, task, work.folder, shards, memory, rows, late)
                                        for task, (file, path, label, rows) in enumerate(ranges, index)], ScatterResult, say)


def raw_files(log: Staged, place: int = 0) -> tuple[RawFile, ...]:
    return tuple(raw_file(log.config, path, file, label) for file, (path, label) in enumerate(log.files, place))


def buckets_in(folder: Path) -> list[int]:
    """Buckets for which scatter wrote rows."""
    return sorted({int(p.stem) for p in (folder / "buckets").glob("*/*.arrow") if p.stem != "broken" and p.parent.name != TAIL})


def _scatter_all(log: Staged, work: Work, executor: Executor, say: Say) -> Scattered:
    config, folder = log.config, work.folder
    # the log alone decides how many shards there are: bytes depend on it, and which negatives are drawn
    shards = config.data.shards or max(2, sum(rows_of(p) for p in config.data.interactions) // ROWS_PER_SHARD + 1)
    results = scatter_files(log, work, executor, shards, say)
    _require_rows(results, [label for _, label in log.files])
    check_shares(config, sum(s.rows for s in results), total([s.dropped for s in results]), folder / "dropped")
    hours = Counter[int]()
    for result in results:
        hours.update({int(hour): n for hour, n in result.hours.items()})
    validation, test, end = cut(config.data.split, hours, sorted((folder / "buckets").glob("*/times.bin")))
    return Scattered(results, raw_files(log), shards, buckets_in(folder), (validation, test), end)


def finish_log(original: Config, config: Config, work: Work, executor: Executor, log: Scattered, say: Say, made: Made) -> None:
    """Do every step behind scatter that is not done yet, for the log `original` that `config` names as it was staged."""
    folder, memory = work.folder, share(config.data.memory, config.data.workers)
    tail = tail_start(log.end, config.data.period * 1000) if isinstance(config.data.split.validation, str) else None
    tables = work.run(LocalExecutor(1), write_tables, [TablesTask(config, folder)], TablesResult, say)[0]
    say("ordering timelines, computing what was known when")
    gathered = work.run(executor, gather, [GatherTask(config, bucket, log.shards, folder, log.files, log.cuts, log.end, memory, tail,
                                                      log.before) for bucket in log.buckets], GatherResult, say)
    if log.before:
        work.run(LocalExecutor(1), book, [BookTask(config, folder, log.before, memory)], Booked, say)
    read, dropped = sum(s.rows for s in log.results), total([*(s.dropped for s in log.results), *(g.dropped for g in gathered)])
    check_shares(config, read, dropped, folder / "dropped")
    drawn: list[DrawnResult] = []
    if config.data.negatives:
        say("drawing negatives")
        work.run(LocalExecutor(1), write_pool, [PoolTask(config, folder, log.cuts[0])], DrawnResult, say)
        tasks = [NegativesTask(config, g.bucket, log.shards, folder, g.scored) for g in gathered]
        drawn = work.run(executor, draw_negatives, tasks, DrawnResult, say)
    report = Report(read=read, dropped=dropped, mended=total([s.mended for s in log.results]),
                    merged=sum(g.merged for g in gathered), rows=sum(g.rows for g in gathered),
                    tables=tables.tables, cuts=log.cuts, candidates=sum(d.drawn for d in drawn),
                    unscored=sum(d.unscored for d in drawn))
    last = CompleteTask(original, folder, log.shards, report, memory, [g.facts for g in gathered])
    work.run(LocalExecutor(1), complete, [last], Completed, say)
    write_settings(folder, original)
    keep_parts(folder, tail is not None)
    if tail is not None:
        Record(made, log.appended, log.files, len(log.results), log.shards, log.cuts, log.end, tail, hashed()).write(folder)


def _require_rows(scattered: list[ScatterResult], paths: list[str]) -> None:
    if any(result.kept for result in scattered):
        return
    first = [f"line {line}: {reason}" for result in scattered for line, reason, _ in result.problems][:3]
    found = f"{sum(s.rows for s in scattered)} rows, all of them unusable ({'; '.join(first)})" if first else "none (only a header?)"
    raise DataError(f"{', '.join(paths)}: expected rows to keep, found {found}. See the whole list with --check")
