"""Where scatter's rows go: one Arrow stream a bucket, one Parquet file of dropped rows, whole or not at all.

Arrow streams instead of partitioned Parquet: half of the CPU to write, a third to read, for files that live for minutes.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from recllm.data.pseudonyms import Ids
from recllm.data.sources.files import literal
from recllm.data.whole import whole_file

HOUR = 3_600_000
# a row's number: its file's place in the log, its own place in the file, and its place in the list where one line is several rows
FILE, ENTRY = 44, 12  # bits below the file's place, and below the row's
SHOWN = 20
META = ("bucket", "reason", "raw", "mended", "unreadable")  # columns for scatter itself, not for gather
BROKEN = pa.schema({"row": pa.int64(), "reason": pa.string(), "raw": pa.string()})
LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


def rejected_lines(connection: duckdb.DuckDBPyConnection, shown: bool = True) -> str | None:
    """SELECT of (line, content) of lines that the CSV reader refused; None for other formats, which have no such table. Content that is
    not `shown` is empty: nobody can tell the ids in it."""
    tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "reject_errors" not in tables:
        return None
    content = "coalesce(any_value(csv_line), '')" if shown else "any_value('')"
    return f"SELECT CAST(line AS BIGINT) AS line, {content} AS content FROM reject_errors GROUP BY file_id, line ORDER BY 1"


class Partition:
    """Takes batches; at the end `buckets/<index>/<bucket>.arrow`, `dropped/scatter-<index>.parquet`
    and `buckets/<index>/times.bin` stand."""

    ROWS = 122_880  # of one batch

    def __init__(self, folder: Path | None, index: int, buckets: int, ids: Ids) -> None:
        self.folder, self.index, self.buckets, self.ids = folder, index, buckets, ids
        self.rows = self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.mended: Counter[int] = Counter()
        self.unreadable: Counter[str] = Counter()  # kept rows by what shapes could not read
        self.hours: Counter[int] = Counter()
        self.problems: list[tuple[int, str, str]] = []
        self.writers: dict[int, Any] = {}

    def __enter__(self) -> "Partition":
        self.part = self.folder / "buckets" / f".{self.index}.part" if self.folder else Path(mkdtemp())
        shutil.rmtree(self.part, ignore_errors=True)
        self.part.mkdir(parents=True)
        self.times = open(self.part / "times.bin", "wb")
        self.broken = pa.ipc.new_stream(str(self.part / "broken.arrow"), BROKEN)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            for writer in (*self.writers.values(), self.broken, self.times):
                writer.close()
            if self.folder and kind is None:
                shutil.rmtree(self.folder / "buckets" / str(self.index), ignore_errors=True)
                self.part.rename(self.folder / "buckets" / str(self.index))
        finally:  # a full disk may be found only on closing
            shutil.rmtree(self.part, ignore_errors=True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Rows of `batch` to their buckets; those in the bucket behind the last one are dropped."""
        self.rows += batch.num_rows
        batch = self.ids.hide(batch, self.buckets) if self.ids.closed else batch
        bucket = batch.column("bucket").to_numpy()
        order = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[order], np.arange(self.buckets + 2))
        lost = order[ends[self.buckets]:]
        if len(lost):
            self.broken.write_batch(batch.select(BROKEN.names).take(pa.array(lost)).cast(BROKEN))
        kept = order[:ends[self.buckets]]
        self.kept += len(kept)
        mended = batch.column("mended").to_numpy()[kept]
        for bit in range(int(mended.max(initial=0)).bit_length()):
            self.mended[bit] += int((mended >> bit & 1).sum())
        if "unreadable" in batch.schema.names:
            self.unreadable.update(batch.column("unreadable").take(pa.array(kept)).flatten().to_pylist())
        time = batch.column("time").to_numpy(zero_copy_only=False)[kept].astype(np.int64)
        hours, counts = np.unique(time // HOUR, return_counts=True)
        self.hours.update(dict(zip(hours.tolist(), counts.tolist(), strict=True)))
        if self.folder is None:
            return
        self.times.write(time.tobytes())
        rows = batch.drop_columns([name for name in META if name in batch.schema.names]).take(pa.array(kept))
        for k in np.flatnonzero(np.diff(ends[:self.buckets + 1])).tolist():
            if k not in self.writers:
                self.writers[k] = pa.ipc.new_stream(str(self.part / f"{k}.arrow"), rows.schema, options=LZ4)
            self.writers[k].write_batch(rows.slice(ends[k], ends[k + 1] - ends[k]))

    def refuse(self, connection: duckdb.DuckDBPyConnection, file: "RawFile") -> None:
        """Count and write what was dropped: broken rows, and lines that the reader refused."""
        self.broken.close()
        connection.register("recllm_broken", pa.ipc.open_stream(str(self.part / "broken.arrow")))
        refused = rejected_lines(connection, shown=not self.ids.closed) or "SELECT 0::BIGINT AS line, '' AS content WHERE false"
        connection.execute(f"CREATE TEMP TABLE refused AS SELECT {file.place} AS file, * FROM ({refused})")
        write_files(connection, [file])
        connection.execute(f"""CREATE TEMP TABLE lost AS
            SELECT path AS file, line, reason, raw AS row FROM ({lines_of('SELECT row, reason, raw FROM recllm_broken')})
            UNION ALL SELECT {literal(file.label)}, line, 'malformed_line', content FROM refused""")
        self.rows += int(connection.execute("SELECT count(*) FROM refused").fetchall()[0][0])
        self.dropped.update(dict(connection.execute("SELECT reason, count(*) FROM lost GROUP BY reason").fetchall()))
        self.problems = connection.execute(f"SELECT line, reason, row FROM lost ORDER BY line LIMIT {SHOWN}").fetchall()
        if self.folder:
            with whole_file(self.folder / "dropped" / f"scatter-{self.index}.parquet") as part:
                connection.execute(f"COPY (SELECT * FROM lost ORDER BY line) TO {literal(part)} (FORMAT parquet)")
            connection.execute(f"COPY (SELECT file, line FROM refused) TO {literal(self.part / 'refused.parquet')}")


@dataclass(frozen=True)
class RawFile:
    """A file of the log: its place among them, and how many lines stand before its first row."""

    place: int
    label: str
    header: int


def write_files(connection: duckdb.DuckDBPyConnection, files: Sequence[RawFile]) -> None:
    """Table `files` (file, path, header), for `lines_of`."""
    connection.execute("CREATE TEMP TABLE files(file BIGINT, path VARCHAR, header BIGINT)")
    connection.executemany("INSERT INTO files VALUES (?, ?, ?)", [(f.place, f.label, f.header) for f in files])


def lines_of(rows: str) -> str:
    """SELECT of `rows` (row, ...) with `path` and `line` (from 1): the k-th row that was read of a file stands behind the header and all
    lines that were refused before it. Reads the tables `files` and `refused` (file, line)."""
    return f"""SELECT found.*, CAST(((row & {2 ** FILE - 1}) >> {ENTRY}) + 1 + header + coalesce(r.n, 0) AS BIGINT) AS line
               FROM (SELECT rows.*, path, header, files.file FROM ({rows}) rows JOIN files ON row >> {FILE} = files.file) found
               ASOF LEFT JOIN (
                 SELECT file, line - header - n AS before, max(n) AS n
                 FROM (SELECT refused.*, row_number() OVER (PARTITION BY file ORDER BY line) AS n FROM refused) JOIN files USING (file)
                 GROUP BY ALL) r
               ON found.file = r.file AND ((row & {2 ** FILE - 1}) >> {ENTRY}) >= r.before"""
