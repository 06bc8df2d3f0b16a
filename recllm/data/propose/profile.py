"""What the values of each column of a file look like: one pass over a sample of its rows, in DuckDB."""

from dataclasses import dataclass, field

import duckdb

from recllm.config import DataConfig
from recllm.data.columns import Columns
from recllm.data.partition import rejected_lines
from recllm.data.propose.raw import Source, opened
from recllm.data.propose.words import concepts
from recllm.data.shapes.numbers import WRITTEN
from recllm.data.sources.files import columns_of, literal, quote
from recllm.data.sources.places import shown
from recllm.errors import DataError

HEAD, SPREAD = 50_000, 100_000  # rows from the file's beginning; and more of them, evenly out of the rest
READ_WHOLE = 256 * 2**20  # bytes; of a larger file only its beginning is read
LINE = "recllm_line"
ABSENT = ("na", "n/a", "nan", "null", "none", "\\n", "-")
FLAGS = "('0', '1', '0.0', '1.0', 'true', 'false', 'yes', 'no', 't', 'f')"
TOP = 24  # columns with no more values than this keep their counts
# seconds from 1990 to 2040; a number of this size in every row is a moment
EPOCH = {"s": 1.0, "ms": 1e3, "us": 1e6}
FIRST, LAST = 631_152_000, 2_208_988_800

# share of a column's filled rows for which a condition on its text `c` (or its number `d`) holds
SHARES = {
    "numeric": "d IS NOT NULL",
    "whole": r"regexp_full_match(c, '[+-]?\d+(\.0+)?')",
    "flags": f"lower(c) IN {FLAGS}",
    "positive": "lower(c) IN ('1', '1.0', 'true', 'yes', 't')",
    "nonzero": "d <> 0",
    "iso": r"regexp_matches(c, '^\d{4}-\d{2}-\d{2}') AND TRY_CAST(c AS TIMESTAMPTZ) IS NOT NULL",
    "offset": r"regexp_matches(c, '^\d{4}-.*[T ].*([+-]\d{2}(:?\d{2})?|Z)$')",
    "european": r"regexp_matches(c, '^\d{1,2}[./]\d{1,2}[./]\d{4}')",
    "comma": f"contains(c, ',') AND regexp_full_match(c, {literal(WRITTEN)})",  # 3,50 and 1.049,90
    "written": f"regexp_full_match(c, {literal(WRITTEN)})",  # as a number where the decimal sign is a comma
    "point": r"regexp_full_match(c, '[+-]?\d+\.\d*')",
    "fine": r"regexp_full_match(c, '[+-]?\d+\.\d{4,}')",
    "letters": r"regexp_matches(c, '\p{L}')",
    "beyond": r"regexp_matches(c, '[^\x00-\x7F]')",  # of ASCII
    "json": "starts_with(c, '[') AND ends_with(c, ']')",
    "url": "regexp_matches(c, '^https?://')",
    "agent": "starts_with(c, 'Mozilla/')",
    **{unit: f"d BETWEEN {FIRST * scale} AND {LAST * scale}" for unit, scale in EPOCH.items()},
    "absent": f"lower(c) IN ({', '.join(map(literal, ABSENT))})",
}


@dataclass(frozen=True)
class Column:
    """A column of one table. `filled` is a share of the rows; the entries of `share` are shares of the filled rows."""

    name: str
    rows: int
    filled: float
    distinct: int
    low: float | None
    middle: float | None
    high: float | None
    words: float
    length: float
    share: dict[str, float]
    top: dict[str, int] = field(default_factory=dict)

    @property
    def hints(self) -> frozenset[str]:
        return concepts(self.name)

    @property
    def n(self) -> int:
        return round(self.rows * self.filled)

    @property
    def fresh(self) -> float:
        """Distinct values a filled row: 1 says that no value repeats."""
        return self.distinct / max(self.n, 1)

    @property
    def flag(self) -> bool:
        """0 and 1 in any spelling, but for one value in fifty that is no number at all."""
        return self.distinct > 0 and self.share["flags"] >= 0.98 and 0 <= (self.low or 0) <= (self.high or 0) <= 1

    @property
    def numeric(self) -> bool:
        return self.share["numeric"] >= 0.98

    @property
    def whole(self) -> bool:
        return self.share["whole"] >= 0.99

    @property
    def unit(self) -> str | None:
        """The unit in which (nearly all) values read as moments from 1990 to 2040."""
        return next((unit for unit in ("iso", *EPOCH) if self.share[unit] >= 0.95), None)


@dataclass(frozen=True, eq=False)
class Table:
    """A sample in DuckDB: `name` is its table there, with every column as trimmed text (empty is NULL) and LINE."""

    path: str
    name: str
    rows: int  # in the sample
    total: int | None  # in the file, where it was counted
    refused: list[tuple[int, str]]
    columns: list[Column]
    encoding: str | None = None  # that was guessed

    def __getitem__(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


def sample(connection: duckdb.DuckDBPyConnection, path: str, name: str, data: DataConfig) -> Table:
    """Read the sample of a source into a table and describe its columns. `data` says how it is read.

    Raises DataError where it cannot be read.
    """
    with opened(connection, data, path, "interactions" if name == "log" else name) as source:
        names = columns_of(connection, source.relation, path)
        total = _load(connection, source, name, names, shown(path))
    rows = int(connection.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0])
    lines = rejected_lines(connection)
    refused = [(int(line), content) for line, content in connection.execute(lines).fetchall()] if lines else []
    if not rows and refused:
        why = connection.execute("SELECT error_message FROM reject_errors ORDER BY line LIMIT 1").fetchall()[0][0].splitlines()[0]
        raise DataError(f"{shown(path)}: none of its {len(refused):,} lines could be read. The first is line {refused[0][0]}: {why}")
    if not rows:
        raise DataError(f"{shown(path)}: expected rows to look at, found none (only a header?)")
    connection.execute("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans")  # the next table's are its own
    return Table(path, name, rows, total, refused, describe(connection, name, rows, names), source.guessed)


def _load(connection: duckdb.DuckDBPyConnection, source: Source, name: str, names: list[str], path: str) -> int | None:
    """Make the sample's table. Returns the rows of the whole source, where they were counted."""
    cleaned = ", ".join(f"{Columns().text(n)} AS {quote(n)}" for n in names)
    try:
        counted = 0 < source.size <= READ_WHOLE
        total = int(connection.execute(f"SELECT count(*) FROM {source.relation}").fetchall()[0][0]) if counted else None
        step = max(1, -(-total // SPREAD)) if total else 0
        spread = f"WHERE {LINE} <= {HEAD} OR {LINE} % {step} = 0" if step else f"LIMIT {HEAD}"
        connection.execute(f"""CREATE TABLE {name} AS SELECT * FROM (SELECT row_number() OVER () AS {LINE}, {cleaned}
                               FROM {source.relation}) {spread}""")
    except duckdb.Error as error:
        raise DataError(f"{path}: could not be read: {str(error).splitlines()[0]}") from None
    return total


def describe(connection: duckdb.DuckDBPyConnection, table: str, rows: int, names: list[str]) -> list[Column]:
    """One statement over the table: the distinct values of all columns with their counts, then what holds for them."""
    shares = ", ".join(f"coalesce(sum(n) FILTER ({sql}), 0)" for sql in SHARES.values())
    found = {name: row for name, *row in connection.execute(f"""
        WITH cells AS (SELECT name, c, count(*) AS n FROM (UNPIVOT {table} ON {', '.join(quote(n) for n in names)} INTO NAME name VALUE c)
                       GROUP BY name, c),
             typed AS (SELECT *, CASE WHEN isfinite(TRY_CAST(c AS DOUBLE)) THEN TRY_CAST(c AS DOUBLE) END AS d FROM cells)
        SELECT name, sum(n), count(*), min(d), median(d), max(d), avg(len(string_split(c, ' '))), avg(len(c)), {shares}
        FROM typed GROUP BY name""").fetchall()}
    columns = []
    for name in names:
        n, distinct, low, middle, high, words, length, *counts = found.get(name, [0, 0, None, None, None, 0.0, 0.0, *[0] * len(SHARES)])
        share = {key: float(count) / max(n, 1) for key, count in zip(SHARES, counts, strict=True)}
        top: dict[str, int] = {}
        if distinct <= TOP:
            top = dict(connection.execute(f"""SELECT {quote(name)}, count(*) AS n FROM {table} WHERE {quote(name)} IS NOT NULL
                                              GROUP BY 1 ORDER BY n DESC, 1""").fetchall())
        columns.append(Column(name, rows, float(n) / rows, int(distinct), low, middle, high, words, length, share, top))
    return columns
