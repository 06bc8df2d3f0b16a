"""Users taken out of a prepared folder: the shards of theirs, and what all shards add up to, as if their rows had never been in the log.

Moments of the split, the number of shards and the candidates drawn for others stay as they are. The new folder is made aside and put in
the old one's place when it is whole, so that a kill leaves the old or the new one; the same call goes on.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recllm.config import Config
from recllm.data.complete import CompleteTask, complete
from recllm.data.engine import connect, share
from recllm.data.facts import shard_facts
from recllm.data.forget_raw import RawRows
from recllm.data.gather import SPLITS
from recllm.data.item_counts import added_sql, booking_sql, negative_sql, unbooked_sql
from recllm.data.pseudonyms import bucket_of
from recllm.data.report import Report
from recllm.data.segments import users_sql
from recllm.data.settings import SETTINGS
from recllm.data.shard import ROW_GROUP, write_rows
from recllm.data.sources.files import literal, parquet, quote
from recllm.data.traces import Traces
from recllm.data.whole import link_or_copy, whole_file

Json = dict[str, Any]


@dataclass
class Taken:
    """What was taken out of a prepared folder."""

    rows: int = 0
    candidates: int = 0
    dropped: dict[str, Counter[str]] = field(default_factory=dict)  # file of dropped rows -> by reason
    inexact: list[str] = field(default_factory=list)  # counts that could not be corrected

    def of(self, start: str) -> Counter[str]:
        """Dropped rows by reason, of files whose names start so."""
        return sum((counts for name, counts in self.dropped.items() if name.startswith(start)), Counter())


class Surgery:
    """One prepared folder (`old`) without some users, made in `new`. ids: as written; raw: their rows in the sources, where these are
    what was prepared."""

    def __init__(self, config: Config, old: Path, new: Path, traces: Traces, raw: RawRows | None) -> None:
        self.config, self.old, self.new, self.traces, self.raw = config, old, new, traces, raw
        self.ids, self.taken = traces.written, Taken()
        self.memory = share(config.data.memory, config.data.workers)
        self.connection = connect(memory=self.memory, spill=new / "spill")
        self.listed = ", ".join(map(literal, self.ids))
        self.shards = int(next((old / "data").glob("*.parquet")).stem.rsplit("-", 1)[1])
        self.touched = sorted({bucket_of(id, self.shards) for id in self.ids})

    def run(self) -> Taken:
        """Fill `new`. Raises DataError where nothing is left to learn from."""
        report = Report.read_from(self.old)
        self._copy()
        self._dropped()
        facts, merged, unscored = self._shards()
        self._inputs()
        taken, raw = self.taken, self.raw
        lost = taken.of("scatter") + taken.of("gather")
        tables = self._tables(report)
        report = replace(report, rows=report.rows - taken.rows, dropped=_less(report.dropped, lost), merged=report.merged - merged,
                         read=report.read - taken.rows - lost.total() - merged, tables=tables, unscored=report.unscored - unscored,
                         mended=_less(report.mended, raw.mended) if raw else report.mended, candidates=report.candidates - taken.candidates)
        self._done("complete-0", rows=report.rows)
        self._scattered()
        if not report.candidates:
            shutil.rmtree(self.new / "candidates", ignore_errors=True)
            (self.new / "candidates").mkdir()
        complete(CompleteTask(self.config, self.new, self.shards, report, self.memory, facts))
        return taken

    def _copy(self) -> None:
        """Everything that stays, as links to the same bytes where the file system has them; what is rewritten later is renamed over."""
        for name in ("data", "candidates", "dropped", "done"):
            for path in sorted((self.old / name).glob("*")):
                link_or_copy(path, self.new / name / path.name)
        if (self.old / SETTINGS).is_file():  # those it was prepared with, whatever the config says now
            link_or_copy(self.old / SETTINGS, self.new / SETTINGS)

    def _without(self, path: Path, columns: Iterable[str] = ("user",)) -> int:
        """Rewrite a Parquet file of `old` without the users' rows, in the same order. Returns how many there were."""
        target = self.new / path.relative_to(self.old)
        theirs = " OR ".join(f"coalesce({quote(c)} IN ({self.listed}), false)" for c in columns)
        found = int(self.connection.execute(f"SELECT count(*) FROM read_parquet({literal(path)}) WHERE {theirs}").fetchall()[0][0])
        if found or not target.exists():
            kept = self.connection.sql(f"{_all_of(path)} WHERE NOT ({theirs})").to_arrow_reader(ROW_GROUP)
            write_rows(target, kept, kept.schema)
        return found

    def _shards(self) -> tuple[list[Json], int, int]:
        """Rewrite the users' shards and candidates. Returns all shards' facts, rows that were merged, rows that a window left unscored."""
        facts, merged, unscored = [], 0, 0
        for path in sorted((self.new / "done").glob("gather-*.json"), key=lambda p: int(p.stem.split("-")[1])):
            plain = json.loads(path.read_text(encoding="utf-8"))
            bucket = int(plain["bucket"])
            if bucket in self.touched:
                theirs = self._their_rows([bucket])
                drew = bool(self.config.data.negatives)
                mute = self._count(f"SELECT count(*) FROM {theirs} WHERE NOT scored") if self.config.data.windowed else 0
                rows = sum(self._without(path) for path in self._files(self.old, [bucket]))
                drawn = sum(self._without(path) for path in sorted((self.old / "candidates").glob(f"*-{bucket:05d}.parquet")))
                lost = self.taken.dropped.get(f"gather-{bucket}", Counter())
                twins = self.raw.kept[bucket] - lost.total() - rows if self.raw else 0
                plain |= {"rows": plain["rows"] - rows, "merged": plain["merged"] - twins, "dropped": _less(plain["dropped"], lost),
                          "facts": {split: self._facts(bucket, split) for split in SPLITS}}
                self._done(path.stem, **plain)
                if drew:
                    was = json.loads((self.old / "done" / f"draw_negatives-{bucket}.json").read_text(encoding="utf-8"))
                    self._done(f"draw_negatives-{bucket}", drawn=was["drawn"] - drawn, unscored=was["unscored"] - mute)
                self.taken.rows, self.taken.candidates = self.taken.rows + rows, self.taken.candidates + drawn
                merged, unscored = merged + twins, unscored + mute
            facts.append(plain["facts"])
        return facts, merged, unscored

    def _facts(self, bucket: int, split: str) -> Json:
        """Facts of a new shard; they count what was scored before candidates were drawn."""
        path = next((self.new / "data").glob(f"{split}-{bucket:05d}-*.parquet"))
        shard = f"read_parquet({literal(path)})"
        whole = f"(SELECT * REPLACE (true AS scored) FROM {shard})" if self.config.data.windowed else shard
        return shard_facts(self.connection, self.config, whole)

    def _files(self, folder: Path, buckets: Iterable[int], split: str = "*") -> list[Path]:
        return sorted(path for bucket in buckets for path in (folder / "data").glob(f"{split}-{bucket:05d}-of-*.parquet"))

    def _their_rows(self, buckets: Iterable[int]) -> str:
        return f'(SELECT * FROM {parquet(self._files(self.old, buckets))} WHERE "user" IN ({self.listed}))'

    def _count(self, query: str) -> int:
        return int(self.connection.execute(query).fetchall()[0][0])

    def _inputs(self) -> None:
        """What `complete` puts together: partial counts, items, users, segments, and the tables beside the log."""
        every = f"read_parquet({literal(self.new / 'data' / '*.parquet')})"
        train = f"read_parquet({literal(self.new / 'data' / 'train-*.parquet')})"
        parts = {"partial/items-0": f"SELECT DISTINCT item FROM {every} ORDER BY item",
                 "partial/users-0": f'SELECT DISTINCT "user" FROM {every} ORDER BY "user"',
                 "partial/segments-0": users_sql(self.config, train), "partial/counts-0": self._counts(),
                 "listed-items": f"{_all_of(self.old / 'items.parquet')} WHERE listed",
                 "listed-users": f"{_all_of(self.old / 'users.parquet')} WHERE listed AND NOT coalesce(\"user\" IN ({self.listed}), false)"}
        for name, sql in parts.items():
            with whole_file(self.new / f"{name}.parquet") as part:
                self.connection.execute(f"COPY ({sql}) TO {literal(part)} (FORMAT parquet, COMPRESSION lz4)")
        if (self.old / "relations.parquet").is_file():
            self._without(self.old / "relations.parquet", ("user", "other"))

    def _counts(self) -> str:
        """SELECT of what each period booked, without the users' bookings: differences of the cumulative counts, as whole numbers."""
        theirs = booking_sql(self.config, self._their_rows(self.touched))
        booked = unbooked_sql(self.config, parquet([self.old / "item_counts.parquet"]))
        return added_sql(self.config, booked, negative_sql(self.config, theirs))

    def _dropped(self) -> None:
        """Rewrite the files of dropped rows without the users' rows."""
        for path in sorted((self.old / "dropped").glob("*.parquet")):
            table = pq.read_table(path)
            rows = table.column("row").to_pylist()
            theirs = [k for k, row in enumerate(rows) if self.traces.owns_row(row, path.stem)]
            if theirs:
                reasons = table.column("reason").to_pylist()
                self.taken.dropped[path.stem] = Counter(reasons[k] for k in theirs)
                kept = np.ones(len(rows), dtype=bool)
                kept[theirs] = False
                with whole_file(self.new / "dropped" / path.name) as part:
                    pq.write_table(table.filter(pa.array(kept)), part)

    def _tables(self, report: Report) -> dict[str, dict[str, int]]:
        """Dropped rows of the tables, `unlisted` left to be counted anew."""
        tables = {name: _less({k: n for k, n in counts.items() if k != "unlisted"}, self.taken.of(name))
                  for name, counts in report.tables.items()}
        self._done("write_tables-0", tables=tables)
        return tables

    def _scattered(self) -> None:
        """Correct the results of scatter that stand beside the folder."""
        if self.raw is None:
            self.taken.inexact.append("rows read, mended and merged hold what the sources said when they were prepared")
        for path in sorted((self.new / "done").glob("scatter-*.json")):
            plain, index = json.loads(path.read_text(encoding="utf-8")), int(path.stem.split("-")[1])
            lost = self.taken.dropped.get(path.stem, Counter())
            problems = [p for p in plain["problems"] if not self.traces.owns_row(p[2], path.stem)]
            plain |= {"problems": problems, "dropped": _less(plain["dropped"], lost), "rows": plain["rows"] - lost.total()}
            for result in self.raw.results.get(index, []) if self.raw else []:
                plain |= {"rows": plain["rows"] - result.kept, "kept": plain["kept"] - result.kept,
                          "mended": _less(plain["mended"], result.mended),
                          "hours": _less(plain["hours"], {str(hour): n for hour, n in result.hours.items()})}
            self._done(path.stem, **plain)

    def _done(self, name: str, **plain: Any) -> None:
        with whole_file(self.new / "done" / f"{name}.json") as part:
            part.write_text(json.dumps(plain), encoding="utf-8")


def _less(counts: dict[str, int], fewer: dict[str, int]) -> dict[str, int]:
    """Counts without others; what is 0 then is left out."""
    return {name: n - fewer.get(name, 0) for name, n in counts.items() if n != fewer.get(name, 0)}


def _all_of(path: Path) -> str:
    """SELECT of a Parquet file. A column that may be null stays one that may, though no value of it is: equal bytes."""
    columns = {field.name: quote(field.name) for field in pq.read_schema(path)}
    may = {field.name for field in pq.read_schema(path) if field.nullable}
    listed = (f"CASE WHEN {c} IS NOT NULL THEN {c} END AS {c}" if name in may else c for name, c in columns.items())
    return f"SELECT {', '.join(listed)} FROM read_parquet({literal(path)})"
