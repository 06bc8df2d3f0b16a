"""What a prepared folder remembers of its making, `state.json`: what it was made of, and where an append goes on.

An append reads no old file of the log again. It goes by this record, the finished shards, and the parts that stay in `partial/`: the raw
rows of the last days (a new row can only be a copy of one of them, be merged with it, or make its user a bot), and each shard's items,
users and segments.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from recllm.config import Config, DataConfig, declared
from recllm.data.engine import connect
from recllm.data.partition import RawFile
from recllm.data.pseudonyms import Forgotten, read_key
from recllm.data.settings import TABLES, deciding
from recllm.data.sources.files import literal
from recllm.data.sources.places import shown
from recllm.data.sources.stage import kind_of, local_paths, source_state
from recllm.data.whole import whole_file

RECORD = "state.json"
TAIL = "-1"  # of the folders in `buckets/`: what stood before, of shards that are made anew
FORM = 1  # of this record and of what lies in `partial`
DAY = 86_400_000
Sources = list[tuple[str, str]]  # (name, a text that changes when the source does)


def sources_of(data: DataConfig, sources: Sequence[str]) -> Sources:
    """The sources of a log with their states, globs and folders file by file: a glob that finds a new file names what an append added."""
    found = []
    for source in sources:
        path = Path(source.removeprefix("file://"))
        local = kind_of(data, source) == "local" and (path.exists() or any(sign in source for sign in "*?["))
        names = [os.path.abspath(p) for p in local_paths(data, source)] if local else [source]
        found += [(shown(name), source_state(data, name)[1]) for name in names]  # the record is a file that others read
    return found


@dataclass(frozen=True)
class Made:
    """What a prepared folder depends on."""

    settings: str  # hash of the data and schema sections, without the sources
    tables: str  # hash of the tables beside the log
    sources: Sources

    @classmethod
    def of(cls, config: Config, sources: Sources | None = None, forgotten: Forgotten | None = None) -> "Made":
        """`sources`: by default those that the config names; `forgotten`: by default who is on the run's list."""
        tables = {name: [(s, *source_state(config.data, s)) for s in getattr(config.data, name)] for name in TABLES}
        plain = {"data": deciding(config.data), "schema": declared(config.columns.model_dump(mode="json"))}
        if key := read_key(config):  # where the key lies is no matter, which it is and what it hides are
            plain |= {"key": key.mark, "hidden_items": config.pseudonymous_items}
        if gone := sorted((Forgotten.read(config) if forgotten is None else forgotten).users):
            plain["forgotten"] = gone
        return cls(_hash(plain), _hash(tables), sources_of(config.data, config.data.interactions) if sources is None else sources)

    @cached_property
    def fingerprint(self) -> str:
        """Equal means that a prepared folder still holds."""
        return _hash([self.settings, self.tables, self.sources])


def fingerprint(config: Config, forgotten: Forgotten | None = None) -> str:
    """What a folder depends on that is made of this config as it is, as one text."""
    return Made.of(config, forgotten=forgotten).fingerprint


def _hash(plain: object) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def hashed() -> str:
    """What DuckDB's hash makes of a word: rows are compared by it, and another DuckDB may hash otherwise."""
    return str(connect().execute("SELECT hash('recllm')").fetchall()[0][0])


@dataclass(frozen=True)
class Record:
    """`state.json` of a prepared folder. Moments are UTC milliseconds."""

    made: Made
    appended: int  # how many of the last sources were appended
    files: tuple[RawFile, ...]  # of all sources
    tasks: int  # of scatter
    shards: int
    cuts: tuple[int, int]  # first moments of validation and test
    end: int  # the log's last moment
    tail: int  # from here on rows are kept as they were read
    hashed: str
    form: int = FORM

    @classmethod
    def read_from(cls, folder: Path) -> "Record | None":
        """The record, or None where there is none that this version reads."""
        path = folder / RECORD
        plain = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if plain.get("form") != FORM:
            return None
        made = Made(**{**plain.pop("made"), "sources": [(name, state) for name, state in plain["sources"]]})
        del plain["sources"]
        files = tuple(RawFile(**file) for file in plain.pop("files"))
        return cls(**{**plain, "made": made, "files": files, "cuts": tuple(plain["cuts"])})

    def write(self, folder: Path) -> None:
        plain = asdict(self)
        plain["sources"] = plain["made"].pop("sources")
        with whole_file(folder / RECORD) as part:
            part.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    def unnamed(self, made: Made) -> list[str]:
        """Names of appended sources that are not in `made`."""
        named = {name for name, _ in made.sources}
        return [name for name, _ in self.made.sources[len(self.made.sources) - self.appended:] if name not in named]

    def holds(self, made: Made) -> bool:
        """Whether everything of `made` is in the folder as it is now."""
        unnamed = set(self.unnamed(made))
        same = [source for source in self.made.sources if source[0] not in unnamed] == list(made.sources)
        return same and (made.settings, made.tables) == (self.made.settings, self.made.tables)


def tail_start(end: int, period: int) -> int:
    """The first moment (UTC ms) of the day, UTC, in which the open period of a log begins that ends at `end`: newer files may hold
    rows of that period, and the bot rule counts by day."""
    return end // period * period // DAY * DAY


def keep_parts(folder: Path, appendable: bool) -> None:
    """Leave of `partial` what an append needs, with the lines that the readers refused, for lines are counted by them; or nothing."""
    partial = folder / "partial"
    if not appendable:
        shutil.rmtree(partial)
        return
    for path in (*partial.glob("counts-*"), *partial.glob("change-*")):
        path.unlink()
    with whole_file(partial / "refused.parquet") as part:
        connect().execute(f"""COPY (SELECT * FROM read_parquet({literal(folder / 'buckets' / '*' / 'refused.parquet')}) ORDER BY ALL)
                              TO {literal(part)} (FORMAT parquet)""")
