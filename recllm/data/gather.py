"""gather(bucket) -> one finished shard: merges, orders, computes visibility, splits; with it the shard's item counts, facts, segments."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from recllm.config import Config
from recllm.data.earlier import Before, keep_tail, load_earlier, read_before, require_no_new_bot, write_change
from recllm.data.engine import connect
from recllm.data.facts import write_partial
from recllm.data.item_counts import booked_columns, write_booking
from recllm.data.partition import RawFile, lines_of, write_files
from recllm.data.shapes import lowered
from recllm.data.shard import BATCH, ROW_GROUP, bucket_table, coded, plain_schema, shard_schema, write_shard
from recllm.data.sources.files import literal, quote
from recllm.data.whole import whole_file
from recllm.schema import Schema, label_column

SPLITS = ("train", "validation", "test")
TEXT = (Path(__file__).parent / "prepare.sql").read_text(encoding="utf-8")


def shard_name(split: str, bucket: int, shards: int) -> str:
    return f"{split}-{bucket:05d}-of-{shards:05d}.parquet"


@dataclass(frozen=True)
class GatherTask:
    config: Config
    bucket: int
    shards: int
    folder: Path
    files: tuple[RawFile, ...]
    cuts: tuple[int, int]  # first moments of validation and test, UTC milliseconds
    log_end: int  # last moment of the log, UTC milliseconds
    memory: int | None = None  # bytes
    tail: int | None = None  # UTC ms: later rows are kept as they were read, for appends; None: no append is possible
    before: Before | None = None  # what new files are appended to

    @property
    def index(self) -> int:
        return self.bucket

    def old(self) -> list[Path]:
        """The shard's files as they stand where new ones are appended."""
        return [replace(self, folder=self.before.folder).shard(split) for split in SPLITS] if self.before else []

    def shard(self, split: str) -> Path:
        return self.folder / "data" / shard_name(split, self.bucket, self.shards)


@dataclass(frozen=True)
class GatherResult:
    bucket: int
    rows: int
    merged: int
    dropped: dict[str, int]
    facts: dict[str, Any]  # by split, of facts.py

    @property
    def scored(self) -> int:
        return sum(facts["rows"] for facts in self.facts.values())


def _declared(schema: Schema) -> list[str]:
    """Columns of a bucket beside user, item, time and known_at."""
    optional = {"request": schema.request, "weight": schema.weight, "session": schema.session, "scored": schema.scored}
    outcomes = [n for n, spec in schema.outcomes.items() if not spec.derived]
    return ["utc_offset", *(n for n, column in optional.items() if column), *schema.extra, *schema.context, *outcomes]


def _merge(schema: Schema) -> str:
    """One row of those equal in user, time and item: outcomes combined, every other field from the first line that has it."""
    parts = ["max(known_at) AS known_at_raw" if schema.known_at else "CAST(NULL AS BIGINT) AS known_at_raw"]
    for name in _declared(schema):
        column, spec = quote(name), schema.outcomes.get(name)
        if spec or name == "scored":
            parts.append(f"{'sum' if spec and spec.kind == 'duration' else 'max'}({column}) AS {column}")
        else:
            parts.append(f"arg_min({column}, row) FILTER ({column} IS NOT NULL) AS {column}")
    return ", ".join(parts)


def _columns(schema: Schema) -> str:
    known = "known_at AS known_at_raw" if schema.known_at else "CAST(NULL AS BIGINT) AS known_at_raw"
    return ", ".join([known, *map(quote, _declared(schema))])


def _sql(task: GatherTask) -> str:
    schema, rules = lowered(task.config.columns), task.config.data.rules
    duration = schema.duration
    measured = duration if duration and not schema.outcomes[duration].derived else None
    whose = "u, session" if schema.session else "u"
    after = f"min(time) OVER (PARTITION BY {whose} ORDER BY time RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
    carried = "".join(f"{quote(n)}, " for n, spec in schema.outcomes.items() if spec.window)
    after = f"CASE WHEN session IS NOT NULL THEN {after} END" if schema.session else after
    return TEXT.format(columns=_columns(schema), carried=carried, merge=_merge(schema), max_events_per_day=rules.max_events_per_day,
                       measured=f"coalesce({quote(measured)}, 0)" if measured else "0",
                       outcome_delay=int(schema.outcome_delay * 1000), session="session" if schema.session else "NULL AS session",
                       next_time=after if any(o.derived for o in schema.outcomes.values()) else "CAST(NULL AS BIGINT)",
                       drop_unknown_items=rules.unknown_items == "drop", drop_unknown_users=rules.unknown_users == "drop",
                       validation_start=task.cuts[0], test_start=task.cuts[1])


def _labels(task: GatherTask) -> str:
    """Columns of the shard that no row carries: known_at, pos, n_before, and labels that look ahead.

    A label that the row's split cannot know is masked: a derived duration whose next event lies past the split's end, or (outside of
    sessions) past the clip; an outcome whose window is still open there.
    """
    parts = ["id", "known_at", "pos", "n_before"]
    for name, spec in task.config.columns.outcomes.items():
        end = f"CASE split WHEN 'train' THEN {task.cuts[0]} WHEN 'validation' THEN {task.cuts[1]} ELSE {{}} END"
        if spec.derived:
            gap, clip = "(next_time - time)", int(spec.clip * 1000)
            kept = "" if spec.session else f" AND {gap} <= {clip}"
            parts.append(f"CASE WHEN next_time < {end.format(2**63 - 1)}{kept} THEN least({gap}, {clip}) / 1e3 END AS {quote(name)}")
        if spec.window:
            length, column = int(spec.window * 86_400_000), quote(name)
            later = f"max({column}) OVER (PARTITION BY u, i ORDER BY time RANGE BETWEEN 1 FOLLOWING AND {length} FOLLOWING)"
            parts.append(f"CASE WHEN time + {length} < {end.format(task.log_end + 1)} "
                         f"THEN greatest({column}, {later}) END AS {quote(label_column(name))}")
    return ", ".join(parts)


def _load(connection: duckdb.DuckDBPyConnection, task: GatherTask) -> pa.Table:
    """Tables `bucket` (the rows that scatter kept), `earlier` and `known_bots` (of what stands), `known_items` and `known_users`. Returns
    the bucket's rows."""
    paths = sorted((task.folder / "buckets").glob(f"*/{task.bucket}.arrow"), key=lambda p: int(p.parent.name))
    rows = bucket_table(paths, task.before.tail if task.before else None)  # a tail may be older than the last append
    connection.register("bucket", rows)
    columns = _columns(lowered(task.config.columns))
    connection.execute(f'CREATE TEMP TABLE earlier AS SELECT id, "user", item, time, {columns} FROM bucket LIMIT 0')
    connection.execute('CREATE TEMP TABLE known_bots AS SELECT "user" FROM bucket LIMIT 0')
    if task.before:
        stored = ["known_at AS known_at_raw", *map(quote, _declared(lowered(task.config.columns)))]
        load_earlier(connection, task.before, task.bucket, task.old(), ", ".join(stored))
    for table, column in (("items", "item"), ("users", "user")):
        path = literal(task.folder / f"listed-{table}.parquet")
        connection.execute(f"CREATE TEMP VIEW known_{table} AS SELECT {quote(column)} FROM read_parquet({path})")
    return rows


def _with_made(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
    """The bucket's rows, and behind them those of `earlier` and `merged`, at the places that SQL gave them."""
    made = [connection.sql(f"SELECT * FROM {table} ORDER BY id").to_arrow_table() for table in ("earlier", "merged")]
    made = [table for table in made if len(table)]
    if not made:
        return rows
    plain = plain_schema(rows.schema, but=("row", "content", "known_at"))
    return coded((batch for table in (rows, *made) for batch in table.select(plain.names).cast(plain).to_batches(BATCH)), plain)


def _write_dropped(connection: duckdb.DuckDBPyConnection, task: GatherTask) -> dict[str, int]:
    """`dropped/gather-<bucket>.parquet`: file, line, reason and the row's roles as JSON. Returns their number by reason."""
    write_files(connection, task.files)
    refused = literal(task.folder / "buckets" / "*" / "refused.parquet")
    connection.execute(f"CREATE TEMP VIEW refused AS SELECT * FROM read_parquet({refused})")
    roles = ", ".join(f"{quote(n)} := {quote(n)}" for n in ("user", "item", "time", *_declared(lowered(task.config.columns))))
    rows = f"SELECT b.row, d.reason, CAST(to_json(struct_pack({roles})) AS VARCHAR) AS raw FROM bucket b JOIN dropped d USING (row)"
    with whole_file(task.folder / "dropped" / f"gather-{task.bucket}.parquet") as part:
        found = f"SELECT path AS file, line, reason, raw AS row FROM ({lines_of(rows)}) found ORDER BY found.row"
        found = f"{task.before.dropped(task.bucket)} ({found})" if task.before else found
        connection.execute(f"COPY ({found}) TO {literal(part)} (FORMAT parquet)")
        return dict(connection.execute(f"SELECT reason, count(*) FROM read_parquet({literal(part)}) GROUP BY reason").fetchall())


def _write_shards(connection: duckdb.DuckDBPyConnection, task: GatherTask, rows: pa.Table) -> pa.Table:
    """`data/<split>-<bucket>.parquet` of every split. Returns the columns of all rows that item counts are made of."""
    booked, written = booked_columns(task.config), list[pa.Table]()
    schema, labels = shard_schema(lowered(task.config.columns), rows.schema), _labels(task)
    edges = (-(2**63) + 1, *task.cuts, 2**63 - 1)
    for split, first, end in zip(SPLITS, edges[:-1], edges[1:], strict=True):
        order = connection.sql(f"SELECT {labels} FROM shard WHERE time >= {first} AND time < {end} ORDER BY u, pos")
        written += write_shard(task.shard(split), rows, order.to_arrow_reader(ROW_GROUP), schema, booked)
    return pa.concat_tables(written)


def gather(task: GatherTask) -> GatherResult:
    """Write `data/<split>-<bucket>.parquet`, the bucket's dropped rows and its partial counts."""
    connection = connect(task.config.columns.time.zone, memory=task.memory, spill=task.folder / "spill")
    rows = _load(connection, task)
    connection.execute(_sql(task))
    if task.before:
        require_no_new_bot(connection)
    dropped = _write_dropped(connection, task)
    written = _write_shards(connection, task, _with_made(connection, rows))
    read = int(connection.execute("SELECT count(*) FROM bucket").fetchall()[0][0])
    kept = int(connection.execute("SELECT count(*) FROM timeline").fetchall()[0][0])
    shards, partial = {split: task.shard(split) for split in SPLITS}, task.folder / "partial"
    facts = write_partial(connection, task.config, shards, partial, task.bucket)
    if task.before:
        read += read_before(connection, task.before, task.bucket)
        write_change(connection, task.config, task.before, task.bucket, task.old(), [*shards.values()], partial)
    else:
        write_booking(task.config, written, partial / f"counts-{task.bucket}.parquet")
    if task.tail is not None:
        keep_tail(connection, task.tail, partial, task.bucket)
    return GatherResult(task.bucket, kept, read - sum(dropped.values()) - kept, dropped, facts)
