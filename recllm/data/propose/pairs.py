"""How columns hang together: what is a function of what, what comes in bursts, what gives a label away."""

from dataclasses import dataclass, replace

import duckdb

from recllm.data.columns import Columns
from recllm.data.propose.profile import LINE, Table
from recllm.data.sources.files import quote
from recllm.schema import TimeColumn

ENOUGH = 10.0  # expected differences below which equality within a key proves nothing
SAME = 0.02  # of the differences that chance would show: a column with no more of them is a function of the key
BURST = 300_000  # ms
TIME = "recllm_time"  # where a sample keeps its moments


def add_time(connection: duckdb.DuckDBPyConnection, table: Table, column: str, unit: str, name: str = TIME) -> None:
    """A column of moments in UTC milliseconds, computed once. What cannot be read is NULL."""
    sql = Columns().moment(TimeColumn.model_validate({"column": column, "unit": unit}))
    connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {quote(name)} BIGINT; UPDATE {table.name} SET {quote(name)} = {sql}")


def differs(connection: duckdb.DuckDBPyConnection, table: Table, key: str, column: str) -> float | None:
    """How often two rows with one key (an SQL expression) differ in a column, as a share of how often any two rows do.

    0: the column is a function of the key; about 1: the key says nothing. None where too few rows share a key to tell.
    """
    value = quote(column)
    rows = connection.execute(f"""
        WITH cells AS (SELECT {key} AS k, {value} AS v, count(*)::DOUBLE AS n FROM {table.name}
                       WHERE {value} IS NOT NULL AND {key} IS NOT NULL GROUP BY 1, 2),
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


def rising(connection: duckdb.DuckDBPyConnection, table: Table, value: str, order: str = LINE) -> float:
    """Share of rows whose value is not below that of the row before them in the file, or in another order."""
    found = connection.execute(f"""SELECT avg((t >= before)::INT) FROM (SELECT {value} AS t, lag({value}) OVER (ORDER BY {order}) AS before
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
    """What a column has to do with a label: where it is filled and where it is above 0 (shares of the rows with a 1 and with a 0, and the
    numbers of rows above 0), and how well its values tell 1 from 0 (AUC)."""

    filled_1: float
    filled_0: float
    above_1: float
    above_0: float
    n_1: int
    n_0: int
    auc: float = 0.5

    @property
    def told(self) -> str | None:
        """Why the column can only be known after the label, or None."""
        if self.filled_1 - self.filled_0 >= 0.3 and self.filled_0 <= 0.05:
            return f"filled in {self.filled_1:.0%} of the rows with a 1 and {self.filled_0:.0%} of those with a 0"
        if self.above_1 - self.above_0 >= 0.3 and self.above_0 <= 0.05:
            return f"above 0 in {self.above_1:.0%} of the rows with a 1 and {self.above_0:.0%} of those with a 0"
        if self.above_1 >= 0.02 and self.above_1 >= 10 * self.above_0 and self.n_1 >= 10:
            return f"above 0 in {self.above_1:.1%} of the rows with a 1 and {self.above_0:.1%} of those with a 0"
        return f"its values alone tell 1 from 0 (AUC {self.auc:.2f})" if self.auc >= 0.95 else None

    @property
    def only(self) -> bool:
        """A flag that is 1 only where the label is, in ten cases or more."""
        return self.n_1 >= 10 and self.n_0 == 0


ONES, ZEROS = "('1', '1.0', 'true', 'yes', 't')", "('0', '0.0', 'false', 'no', 'f')"


def label_sql(column: str, at_least: float | None = None) -> str:
    """0, 1 or NULL, of a column of the sample."""
    c = quote(column)
    if at_least is not None:
        return f"CAST(TRY_CAST({c} AS DOUBLE) >= {at_least} AS INTEGER)"
    return f"CASE WHEN lower({c}) IN {ONES} THEN 1 WHEN lower({c}) IN {ZEROS} THEN 0 END"


def ties(connection: duckdb.DuckDBPyConnection, table: Table, columns: list[str], label: str) -> dict[str, Tie]:
    """The Tie of each column to a label (SQL, 0/1/NULL) without its AUC, in one pass. Empty where the label has one value."""
    if not columns:
        return {}
    facts = []
    for name in columns:
        above = f"({label_sql(name)} = 1 OR TRY_CAST({quote(name)} AS DOUBLE) > 0)"
        facts.append(", ".join(f"count(*) FILTER (y = {y} AND {test})" for test in (f"{quote(name)} IS NOT NULL", above) for y in (1, 0)))
    ones, zeros, *counts = connection.execute(f"""SELECT count(*) FILTER (y = 1), count(*) FILTER (y = 0), {', '.join(facts)}
                                                  FROM (SELECT *, {label} AS y FROM {table.name})""").fetchall()[0]
    if not ones or not zeros:
        return {}
    four = [counts[i:i + 4] for i in range(0, len(counts), 4)]
    return {name: Tie(f1 / ones, f0 / zeros, a1 / ones, a0 / zeros, a1, a0) for name, (f1, f0, a1, a0) in zip(columns, four, strict=True)}


def tie(connection: duckdb.DuckDBPyConnection, table: Table, column: str, label: str) -> Tie | None:
    """The Tie of one column, AUC included.

    Numbers are ranked in 50 bins; of other values those with 20 rows or more stand for themselves, ordered by the label's rate in the
    other half of the rows, so that rare values cannot learn the label by heart.
    """
    found = ties(connection, table, [column], label).get(column)
    if found is None:
        return None
    numeric = table[column].numeric and table[column].distinct > 24
    key = f"ntile(50) OVER (ORDER BY TRY_CAST({quote(column)} AS DOUBLE))" if numeric else quote(column)
    bins = connection.execute(f"""
        SELECT sum(y) FILTER (half = 0), count(y) FILTER (half = 0), sum(y) FILTER (half = 1), count(y) FILTER (half = 1)
        FROM (SELECT y, half, CASE WHEN count(*) OVER (PARTITION BY k) >= 20 THEN k END AS k FROM (
              SELECT {label} AS y, hash({LINE}) % 2 AS half, {key} AS k FROM {table.name})) GROUP BY k""").fetchall()
    return replace(found, auc=_auc(bins))


def _auc(bins: list[tuple]) -> float:
    """AUC over the first half of the rows, bins in order of the label's rate in the second half."""
    ordered = sorted(bins, key=lambda b: (b[2] or 0) / b[3] if b[3] else 0.5)
    ones = [float(b[0] or 0) for b in ordered]
    zeros = [float(b[1]) - one for b, one in zip(ordered, ones, strict=True)]
    below, won = 0.0, 0.0
    for one, zero in zip(ones, zeros, strict=True):
        won, below = won + one * (below + zero / 2), below + zero
    return won / (sum(ones) * below) if sum(ones) and below else 0.5
