"""What an append takes over of a shard that stands: its rows of before the tail, what was dropped there, who was a bot, the item counts.

The tail, the raw rows of the last days, is judged again together with the new rows; everything older is as it was.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from recllm.config import Config
from recllm.data.engine import connect
from recllm.data.item_counts import added_sql, booking_sql, negative_sql, unbooked_sql
from recllm.data.partition import FILE, LZ4, Partition
from recllm.data.sources.files import literal, parquet
from recllm.data.whole import whole_file
from recllm.errors import FullRunError


@dataclass(frozen=True)
class Before:
    """The prepared folder that is appended to."""

    folder: Path
    tail: int  # UTC ms: from here on its rows were kept as they were read
    files: int  # of the log so far: rows of later ones are new

    def dropped(self, bucket: int) -> str:
        """SELECT of what was dropped of a bucket before the tail, as (file, line, reason, row), and UNION ALL; or nothing."""
        path = self.folder / "dropped" / f"gather-{bucket}.parquet"
        time = "CAST(json_extract_string(\"row\", '$.time') AS BIGINT)"
        return f"SELECT * FROM read_parquet({literal(path)}) WHERE {time} < {self.tail} UNION ALL" if path.is_file() else ""

    def result(self, bucket: int) -> dict[str, Any]:
        """What gather returned for the bucket, `{}` where it had no row."""
        path = self.folder / "done" / f"gather-{bucket}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load_earlier(connection: duckdb.DuckDBPyConnection, before: Before, bucket: int, shards: Sequence[Path], columns: str) -> None:
    """Fill `earlier` and `known_bots`. `shards`: the bucket's files as they stand, some of which may be missing; `columns`: what follows
    id, user, item and time in `earlier`. Its rows stand behind those of the bucket."""
    if before.result(bucket):
        connection.execute(f"""INSERT INTO earlier BY NAME
                               SELECT (SELECT count(*) FROM bucket) + row_number() OVER () - 1 AS id, "user", item, time, {columns}
                               FROM {parquet(shards)} WHERE time < {before.tail}""")
        connection.execute(f"INSERT INTO known_bots FROM {parquet([before.folder / 'partial' / f'bots-{bucket}.parquet'])}")


def require_no_new_bot(connection: duckdb.DuckDBPyConnection) -> None:
    """Raise FullRunError where a user of finished rows is a bot by now: all its rows must go, and what they were made of is not here."""
    found = connection.execute('SELECT "user" FROM bots WHERE "user" IN (SELECT "user" FROM earlier) LIMIT 1').fetchall()
    if found:
        raise FullRunError(f'user "{found[0][0]}" has become a bot (data.rules.max_events_per_day): all its rows have to go')


def read_before(connection: duckdb.DuckDBPyConnection, before: Before, bucket: int) -> int:
    """Rows that scatter kept of the bucket and that are not in the table `bucket`, because they are older than the tail."""
    old = before.result(bucket)
    tail = connection.execute(f"SELECT count(*) FROM bucket WHERE row < {before.files * 2**FILE}").fetchall()[0][0]
    return old["rows"] + old["merged"] + sum(old["dropped"].values()) - int(tail) if old else 0


def keep_tail(connection: duckdb.DuckDBPyConnection, start: int, folder: Path, bucket: int) -> None:
    """Write `tail-<bucket>.arrow`, the rows of `bucket` from `start` (UTC ms) on as scatter wrote them, and `bots-<bucket>.parquet`."""
    with whole_file(folder / f"bots-{bucket}.parquet") as part:
        connection.execute(f'COPY (SELECT "user" FROM bots ORDER BY "user") TO {literal(part)} (FORMAT parquet)')
    reader = connection.sql(f"SELECT * EXCLUDE (id) FROM bucket WHERE time >= {start} ORDER BY row").to_arrow_reader(Partition.ROWS)
    with whole_file(folder / f"tail-{bucket}.arrow") as part, pa.ipc.new_stream(str(part), reader.schema, options=LZ4) as out:
        for batch in reader:
            out.write_batch(batch)


def write_change(connection: duckdb.DuckDBPyConnection, config: Config, before: Before, bucket: int, old: Sequence[Path],
                 new: Sequence[Path], folder: Path) -> None:
    """Write `change-<bucket>.parquet`: what the item counts gain by a bucket's new files and lose by its old ones. Rows of before the
    tail have not changed."""
    gain, loss = (booking_sql(config, f"(FROM {parquet(paths)} WHERE time >= {before.tail})") for paths in (new, old))
    change = f"({gain}) UNION ALL BY NAME ({negative_sql(config, loss)})" if before.result(bucket) else gain
    with whole_file(folder / f"change-{bucket}.parquet") as part:
        connection.execute(f"COPY ({change}) TO {literal(part)} (FORMAT parquet, COMPRESSION lz4)")


@dataclass(frozen=True)
class BookTask:
    config: Config
    folder: Path
    before: Before
    memory: int | None = None  # bytes
    index: int = 0


@dataclass(frozen=True)
class Booked:
    rows: int


def book(task: BookTask) -> Booked:
    """Write `partial/counts-all.parquet`: the item counts that stand, by period again, and the changes of all touched buckets."""
    partial, stands = task.folder / "partial", parquet([task.before.folder / "item_counts.parquet"])
    changes = [f"FROM {parquet(sorted(partial.glob('change-*')))}"] if any(partial.glob("change-*")) else []
    connection = connect(memory=task.memory, spill=task.folder / "spill")
    with whole_file(partial / "counts-all.parquet") as part:
        counts = added_sql(task.config, unbooked_sql(task.config, stands), *changes)
        connection.execute(f"COPY ({counts}) TO {literal(part)} (FORMAT parquet, COMPRESSION lz4)")
        rows = connection.execute(f"SELECT count(*) FROM read_parquet({literal(part)})").fetchall()[0][0]
    return Booked(int(rows))
