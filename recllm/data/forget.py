"""Forgetting users: on the list of those that preparation keeps out, out of the prepared folder, out of what was staged.

Killed at any moment, the same call ends what was begun: the list comes first, the folder is whole or the old one, the rest is repeated.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from recllm.config import Config
from recllm.data.complete import KEPT
from recllm.data.forget_raw import RawRows, raw_rows
from recllm.data.prepare import prepare
from recllm.data.pseudonyms import Forgotten, bucket_of, sweep, written_id
from recllm.data.record import Made, Record, fingerprint
from recllm.data.shapes import lowered
from recllm.data.sources.files import literal, quote
from recllm.data.surgery import Surgery, Taken
from recllm.data.traces import Traces
from recllm.data.whole import whole_file
from recllm.data.work import FINGERPRINT, STAGES, Work
from recllm.errors import DataError, StoppedError

BEGUN = "forget"  # first line of the fingerprint of a folder that a killed call left just before its end
Say = Callable[[str], None]


@dataclass
class Prepared:
    """What became of the prepared folder."""

    traces: Traces
    taken: Taken = field(default_factory=Taken)
    again: bool = False  # prepared again from the sources
    raw: Counter[str] = field(default_factory=Counter)  # rows of the users in the sources, which stay as they are
    unread: str = ""  # why the sources could not be read


def forget_prepared(config: Config, users: list[str], say: Say) -> Prepared:
    """Take users (raw ids) out of `config.prepared`. Raises DataError where nothing would be left to learn from, or where the folder must
    be made again and a source is missing; StoppedError where another run writes it."""
    written = {written_id(config, user): user for user in users}
    with Work(config.prepared, f"{BEGUN} {hashlib.sha256(repr(sorted(written)).encode()).hexdigest()}\n") as work:
        stands = (config.prepared / FINGERPRINT).is_file()
        old = (config.prepared / FINGERPRINT).read_text(encoding="utf-8").splitlines() if stands else [""]
        if old[0] == BEGUN:  # killed at the very end: all but this is done
            old = old[1:]
            _write(config.prepared, old)
        stale = hashlib.sha256(f"{BEGUN} {old[0]}".encode()).hexdigest()
        record = Record.read_from(config.prepared)
        if record and (unnamed := record.unnamed(Made.of(config))):
            raise DataError(f"{config.prepared}: expected data.interactions to name all that was prepared, found appended files that it "
                            f"does not ({', '.join(unnamed)}): name them, or the next prepare would lose them")
        found = Prepared(Traces.of(config, users, written, _among(config, "items.parquet", "item", written)))
        train = _among(config, "data/train-*.parquet", "user", written)
        before = Forgotten.read(config)
        after = before.adding(config, {id: id in train for id in written})
        # the list may hold them since a call that was killed: the folder that it left is that of the list without them
        done = old[0] == _fingerprint(config, after)
        fresh = done or old[0] in (_fingerprint(config, before), _fingerprint(config, before.lacking(written)))
        say("reading the sources")
        raw = _read(config, written, found)
        after.write(config)  # from here on no preparation takes them in
        found.again = stands and not done and _needs_sources(config, written)
        if stands and not done and not found.again:
            say(f"taking them out of {config.prepared}")
            _empty(work)
            found.taken = _operate(config, Surgery(config, config.prepared, work.folder, found.traces, raw if fresh else None))
            _finish(work, [fresh and _fingerprint(config, after) or stale, *old[1:]])
        else:
            shutil.rmtree(work.folder)
    if found.again:
        prepare(config, reuse=False, say=say)
    sweep(config)
    return found


def _operate(config: Config, surgery: Surgery) -> Taken:
    try:
        return surgery.run()
    except DataError as error:
        if isinstance(error, StoppedError):
            raise
        raise DataError(f"without them nothing is left to learn from ({error}); {config.prepared} still holds them: remove "
                        f"{config.folder}, or give a longer log") from None


def _fingerprint(config: Config, forgotten: Forgotten) -> str | None:
    try:
        return fingerprint(config, forgotten)
    except DataError:  # a source that is not there any more
        return None


def _read(config: Config, written: dict[str, str], found: Prepared) -> RawRows | None:
    """The users' rows in the sources, None where these cannot be read."""
    files = sorted((config.prepared / "data").glob("*.parquet"))
    shards = int(files[0].stem.rsplit("-", 1)[1]) if files else 1
    by_bucket: dict[int, list[str]] = {}
    for id, user in written.items():
        by_bucket.setdefault(bucket_of(id, shards), []).append(user)
    try:
        raw = raw_rows(config, by_bucket)
    except (DataError, OSError) as error:
        found.unread = str(error)
        return None
    found.raw = raw.found
    return raw


def _among(config: Config, files: str, column: str, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that stand in a column of the prepared folder's files."""
    if not any(config.prepared.glob(files)):
        return set()
    rows = duckdb.connect().execute(f"SELECT DISTINCT {quote(column)} FROM read_parquet({literal(config.prepared / files)}) "
                                    f"WHERE {quote(column)} IN ({', '.join(map(literal, ids))})").fetchall()
    return {row[0] for row in rows}


def _needs_sources(config: Config, written: Iterable[str]) -> bool:
    """Whether more than the users' own rows changes: people who are items stand in others' rows, candidates and counts; or a row's own
    mark of history only was joined with that of the drawn candidates, and the source alone tells them apart."""
    if config.columns.relations and _among(config, "items.parquet", "item", written):
        return True
    return config.data.windowed and lowered(config.columns).scored is not None


def _empty(work: Work) -> None:
    """Nothing of a call that was killed."""
    for entry in work.folder.iterdir():
        if entry.name != FINGERPRINT:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for name in STAGES:
        (work.folder / name).mkdir()


def _finish(work: Work, lines: list[str]) -> None:
    """Put the new folder in place. Its fingerprint is valid when it stands there: killed before, no preparation takes it for work of its
    own, which it could go on with."""
    _write(work.folder, [BEGUN, *lines])
    work.finish(KEPT)
    _write(work.target, lines)


def _write(folder: Path, lines: list[str]) -> None:
    with whole_file(folder / FINGERPRINT) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
