"""How columns hang together: what is a function of what, what comes in bursts, what gives a label away."""

from dataclasses import dataclass

import duckdb

from recllm.data.columns import flag, moment, number
from recllm.data.propose.profile import LINE, Table
from recllm.data.sources.files import quote
from recllm.schema import TimeColumn

ENOUGH = 10.0  # expected differences below which equality within a key proves nothing
SAME = 0.02  # of the differences that chance would show: a column with no more of them is a function of the key
BURST = 300_000  # ms
TIME = "recllm_time"  # where a sample keeps its moments


def add_time(connection: duckdb.DuckDBPyConnection, table: Table, column: str, unit: str, name: str = TIME) -> None:
    """A column of moments in UTC milliseconds, computed once. What cannot be read is NULL."""
    sql = moment(TimeColumn.model_validate({"column": column, "unit": unit}))
    connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {quote(name)} BIGINT; UPDATE {table.name} SET {quote(name)} = {sql}")


def differs(connection: duckdb.DuckDBPyConnection, table: Table, key: str, column: str) -> float | None:
    """How often two rows with one key (an SQL expression) differ in a column, as a share of how often any two rows do.

    0: the column is a function of the key; about 1: the key says nothing. None where too few rows share a key to tell.
    """
    value = quote(column)
    rows = connection.execute(f"""
        WITH cells AS (SELECT {key} AS k, {value} AS v, count(*)::DOUBLE AS n FROM {table.name} WHERE {value} IS NOT NULL AND {key} IS NOT NULL
                       GROUP BY 1, 2),
             keys AS (SELECT sum(n) AS n, sum(n * n) AS same FROM cells GROUP BY k)
        SELECT sum(n * n - same) / nullif(sum(n * (n - 1)), 0), sum(n - 1), (SELECT 1 - sum(n * n) / (sum(n) * sum(n))
               FROM (SELECT v, sum(n) AS n FROM cells GROUP BY v)) FROM keys""").fetchall()
    within, repeats, overall = rows[0]
    if within is None or not overall or overall * repeats < ENOUGH:
        return None
    return within / overall


def bursts(connection: duckdb.DuckDBPyConnection, table: Table, column: str) -> float:
    """Share of a column's events that follow another of the same value within five minutes, less that share were values shuffled.

    People act in bursts; what they act on is spread over the day.
    """
    value = quote(column)
    share = f"avg((coalesce(t - before, 9e15) <= {BURST})::INT)"
    found = connection.execute(f"""
        WITH rows AS (SELECT {TIME} AS t, {value} AS v, row_number() OVER (ORDER BY {LINE}) AS i,
                             row_number() OVER (ORDER BY hash({LINE})) AS j FROM {table.name} WHERE {value} IS NOT NULL),
             shuffled AS (SELECT a.t, b.v FROM rows a JOIN rows b ON a.i = b.j)
        SELECT (SELECT {share} FROM (SELECT t, lag(t) OVER (PARTITION BY v ORDER BY t) AS before FROM rows)),
               (SELECT {share} FROM (SELECT t, lag(t) OVER (PARTITION BY v ORDER BY t) AS before FROM shuffled))""").fetchall()[0]
    return float((found[0] or 0) - (found[1] or 0))


def rising(connection: duckdb.DuckDBPyConnection, table: Table, time: str) -> float:
    """Share of rows that are not earlier than the row before them in the file, by a column of moments."""
    found = connection.execute(f"""SELECT avg((t >= before)::INT) FROM (SELECT {time} AS t, lag({time}) OVER (ORDER BY {LINE}) AS before
                                   FROM {table.name}) WHERE before IS NOT NULL AND t IS NOT NULL""").fetchall()[0][0]
    return float(found or 0)


def not_after(connection: duckdb.DuckDBPyConnection, table: Table, first: str, second: str) -> float:
    """Share of the rows with both moments in which the first is not later."""
    found = connection.execute(f"SELECT avg(({first} <= {second})::INT) FROM {table.name}").fetchall()[0][0]
    return float(found or 0)


def overlap(connection: duckdb.DuckDBPyConnection, log: Table, column: str, other: Table, key: str) -> float:
    """Share of a log column's distinct values that stand in another table's column."""
    found = connection.execute(f"""SELECT avg((v IN (SELECT {quote(key)} FROM {other.name}))::INT)
                                   FROM (SELECT DISTINCT {quote(column)} AS v FROM {log.name}) WHERE v IS NOT NULL""").fetchall()[0][0]
    return float(found or 0)


@dataclass(frozen=True)
class Tie:
    """What a column has to do with a label: where it is filled, where it is above 0, how well its values tell 1 from 0 (AUC)."""

    filled_1: float
    filled_0: float
    above_1: float
    above_0: float
    auc: float

    @property
    def told(self) -> str | None:
        """Why the column can only be known after the label, or None."""
        if self.filled_1 - self.filled_0 >= 0.3 and self.filled_0 <= 0.05:
            return f"filled in {self.filled_1:.0%} of the rows with a 1 and {self.filled_0:.0%} of those with a 0"
        if self.above_1 - self.above_0 >= 0.3 and self.above_0 <= 0.05:
            return f"above 0 in {self.above_1:.0%} of the rows with a 1 and {self.above_0:.0%} of those with a 0"
        if self.above_1 >= 0.02 and self.above_1 >= 10 * self.above_0:
            return f"above 0 in {self.above_1:.1%} of the rows with a 1 and {self.above_0:.1%} of those with a 0"
        return f"its values alone tell 1 from 0 (AUC {self.auc:.2f})" if self.auc >= 0.95 else None


def label_sql(column: str, at_least: float | None = None) -> str:
    """0, 1 or NULL."""
    return f"CAST({number(column)} >= {at_least} AS DOUBLE)" if at_least is not None else f"NULLIF({flag(column)}, CAST('nan' AS DOUBLE))"


def tie(connection: duckdb.DuckDBPyConnection, table: Table, column: str, label: str) -> Tie | None:
    """The Tie of a column to a label (SQL, 0/1/NULL). None where the label has one value.

    Numbers are ranked in 50 bins; of other values those with 20 rows or more stand for themselves, ordered by the label's rate in the
    other half of the rows, so that rare values cannot learn the label by heart.
    """
    value, d = quote(column), number(column)
    shares = connection.execute(f"""SELECT avg((v IS NOT NULL)::INT) FILTER (y = 1), avg((v IS NOT NULL)::INT) FILTER (y = 0),
        avg((coalesce(d, 0) > 0)::INT) FILTER (y = 1), avg((coalesce(d, 0) > 0)::INT) FILTER (y = 0)
        FROM (SELECT {value} AS v, {d} AS d, {label} AS y FROM {table.name})""").fetchall()[0]
    if None in shares:
        return None
    numeric = table[column].numeric and table[column].distinct > 24
    key = f"ntile(50) OVER (ORDER BY {d})" if numeric else value
    bins = connection.execute(f"""SELECT sum(y) FILTER (half = 0), count(y) FILTER (half = 0), sum(y) FILTER (half = 1), count(y) FILTER (half = 1)
        FROM (SELECT y, half, CASE WHEN count(*) OVER (PARTITION BY k) >= 20 THEN k END AS k FROM (
              SELECT {label} AS y, hash({LINE}) % 2 AS half, CAST({key} AS VARCHAR) AS k FROM {table.name})) GROUP BY k""").fetchall()
    return Tie(*(float(s) for s in shares), _auc(bins))


def _auc(bins: list[tuple]) -> float:
    """AUC over the first half of the rows, bins in order of the label's rate in the second half."""
    ordered = sorted(bins, key=lambda b: (b[2] or 0) / b[3] if b[3] else 0.5)
    ones = [float(b[0] or 0) for b in ordered]
    zeros = [float(b[1]) - one for b, one in zip(ordered, ones, strict=True)]
    below, won = 0.0, 0.0
    for one, zero in zip(ones, zeros, strict=True):
        won, below = won + one * (below + zero / 2), below + zero
    return won / (sum(ones) * below) if sum(ones) and below else 0.5


def implies(connection: duckdb.DuckDBPyConnection, table: Table, rare: str, common: str) -> bool:
    """Whether one label (SQL) is 1 only where the other is, with ten cases or more, and the other is not nearly always 1."""
    n, both, rate = connection.execute(f"""SELECT count(*) FILTER (a = 1), count(*) FILTER (a = 1 AND b = 1), avg(b)
                                           FROM (SELECT {rare} AS a, {common} AS b FROM {table.name})""").fetchall()[0]
    return bool(n >= 10 and n == both and rate is not None and rate < 0.9)
