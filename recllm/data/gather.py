"""gather(bucket) -> one finished shard: merges, orders, computes visibility, splits, books its items' counts."""

from dataclasses import dataclass
from pathlib import Path

from recllm.config import Config
from recllm.data.item_counts import booking_sql
from recllm.data.scatter import connect
from recllm.data.sources.files import literal, quote
from recllm.schema import Schema, label_column

SPLITS = ("train", "validation", "test")
TEXT = (Path(__file__).parent / "prepare.sql").read_text(encoding="utf-8")


@dataclass(frozen=True)
class GatherTask:
    config: Config
    bucket: int
    shards: int
    folder: Path
    cuts: tuple[int, int]  # first moments of validation and test, UTC milliseconds
    log_end: int  # last moment of the log, UTC milliseconds


@dataclass(frozen=True)
class GatherResult:
    rows: int
    merged: int
    dropped: dict[str, int]


def _merge(schema: Schema) -> str:
    """One row of those equal in user, time and item: outcomes combined, every other field from the first line."""
    first = [n for n in ("utc_offset", "request", "weight", "session", *schema.extra, *schema.context)]
    parts = [f"arg_min({quote(n)}, (file, line)) FILTER ({quote(n)} IS NOT NULL) AS {quote(n)}" for n in first]
    parts += [f"{'sum' if spec.kind == 'duration' else 'max'}({quote(n)}) AS {quote(n)}" for n, spec in schema.outcomes.items()]
    return ", ".join([*parts, "max(scored) > 0 AS scored", "max(known_at) AS known_at_raw"])


def _sql(task: GatherTask) -> str:
    schema, rules = task.config.columns, task.config.data.rules
    duration = schema.duration
    measured = duration if duration and not schema.outcomes[duration].derived else None
    whose = '"user", session' if schema.session else '"user"'
    after = f"min(time) OVER (PARTITION BY {whose} ORDER BY time RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)"
    after = f"CASE WHEN session IS NOT NULL THEN {after} END" if schema.session else after
    return TEXT.format(merge=_merge(schema), max_events_per_day=rules.max_events_per_day,
                       measured=f"coalesce({quote(measured)}, 0)" if measured else "0",
                       outcome_delay=int(schema.outcome_delay * 1000), next_time=after,
                       drop_unknown_items=rules.unknown_items == "drop", drop_unknown_users=rules.unknown_users == "drop",
                       validation_start=task.cuts[0], test_start=task.cuts[1])


def _labels(task: GatherTask) -> list[str]:
    """Outcome columns of the shard, and the labels of those with a window.

    A label that the row's split cannot know is masked: a derived duration whose next event lies past the split's end, or (outside of
    sessions) past the clip; an outcome whose window is still open there.
    """
    parts = []
    for name, spec in task.config.columns.outcomes.items():
        end = f"CASE split WHEN 'train' THEN {task.cuts[0]} WHEN 'validation' THEN {task.cuts[1]} ELSE {{}} END"
        if spec.derived:
            gap, clip = "(next_time - time)", int(spec.clip * 1000)
            kept = "" if spec.session else f" AND {gap} <= {clip}"
            parts.append(f"CASE WHEN next_time < {end.format(2**63 - 1)}{kept} THEN least({gap}, {clip}) / 1e3 END AS {quote(name)}")
        else:
            parts.append(f"CAST({quote(name)} AS DOUBLE) AS {quote(name)}")
        if spec.window:
            length, column = int(spec.window * 86_400_000), quote(name)
            later = (f"max({column}) OVER (PARTITION BY \"user\", item ORDER BY time RANGE BETWEEN 1 FOLLOWING AND {length} FOLLOWING)")
            parts.append(f"CASE WHEN time + {length} < {end.format(task.log_end + 1)} "
                         f"THEN greatest({column}, {later}) END AS {quote(label_column(name))}")
    return parts


def gather(task: GatherTask) -> GatherResult:
    """Write `data/<split>-<bucket>.parquet`, the bucket's dropped rows and partial item counts."""
    connection = connect(task.config.columns.time.zone)
    files = literal(task.folder / "buckets" / "*" / f"bucket={task.bucket}" / "*.parquet")
    connection.execute(f"""CREATE TEMP TABLE bucket AS
        SELECT * FROM read_parquet({files}, hive_partitioning=false, union_by_name=true)""")
    for table, column in (("items", "item"), ("users", "user")):
        path = task.folder / f"{table}.parquet"
        connection.execute(f"CREATE TEMP TABLE known_{table} AS SELECT {quote(column)} FROM read_parquet({literal(path)}) WHERE listed")
    connection.execute(_sql(task))
    dropped = dict(connection.execute("SELECT reason, count(*) FROM judged WHERE reason IS NOT NULL GROUP BY reason").fetchall())
    connection.execute(f"""COPY (SELECT file, line, reason, CAST(raw AS VARCHAR) AS row FROM judged WHERE reason IS NOT NULL
                                 ORDER BY file, line) TO {literal(task.folder / 'dropped' / f'gather-{task.bucket}.parquet')}""")
    columns = [quote(n) for n in ("user", "item", "time", "utc_offset", "request", "weight", "known_at", "pos", "n_before",
                                  *task.config.columns.extra, *task.config.columns.context)]
    projection = ", ".join([*columns, *_labels(task), "scored"])
    for split in SPLITS:
        target = task.folder / "data" / f"{split}-{task.bucket:05d}-of-{task.shards:05d}.parquet"
        connection.execute(f"""COPY (SELECT {projection} FROM shard WHERE split = '{split}' ORDER BY "user", pos)
                               TO {literal(target)} (FORMAT parquet, COMPRESSION zstd)""")
    connection.execute(f"COPY ({booking_sql(task.config)}) TO {literal(task.folder / 'partial' / f'{task.bucket}.parquet')}")
    rows = int(connection.execute("SELECT count(*) FROM shard").fetchall()[0][0])
    kept = int(connection.execute("SELECT count(*) FROM judged WHERE reason IS NULL").fetchall()[0][0])
    return GatherResult(rows, kept - rows, dropped)
