"""SQL expressions that read a raw column by its role. NULL is unknown; what cannot be read is NULL and the rules say why.

A column of text is parsed; one that has a type already (Parquet, Arrow) is taken as it is where that gives the same value.
"""

from recllm.data.sources.files import FLOATS, as_text, literal, quote
from recllm.schema import CategoryField, ItemField, Outcome, Schema, TimeColumn

BLANKS = "chr(32) || chr(9) || chr(10) || chr(13) || chr(12) || chr(11)"  # blank, tab, line feed, return, form feed, vertical tab
INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
NAN = "CAST('nan' AS DOUBLE)"
DAY = "[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,2}"  # later years than 9999 do not fit DuckDB's moments
Types = dict[str, str]  # column -> DuckDB type; a column that is not named is text


def says_zone(value: str) -> str:
    """SQL: whether a text ends in an offset, or in Z, UTC or GMT behind its time."""
    return f"regexp_matches({value}, '^{DAY}[Tt ].*([+-][0-9]{{2}}(:?[0-9]{{2}}){{0,2}}|[Zz]|UTC|GMT)$')"


def zoned_moment(value: str) -> str:
    """SQL: TIMESTAMPTZ of a text that says its zone; a small t or z, and blanks before the offset, are read where the plain cast fails."""
    plain = f"regexp_replace(upper({value}), ' *(UTC|GMT|Z|[+-][0-9:]*)$', '\\1')"
    plain = f"regexp_replace(regexp_replace({plain}, '(UTC|GMT)$', 'Z'), '^([0-9-]+)T', '\\1 ')"
    return f"COALESCE(TRY_CAST({value} AS TIMESTAMPTZ), TRY_CAST({plain} AS TIMESTAMPTZ))"


def local_moment(value: str) -> str:
    """SQL: TIMESTAMP of a text without a zone. DuckDB's cast would pass over other words (`10:00 CET`): such a text is unreadable."""
    return f"CASE WHEN regexp_full_match({value}, '{DAY}([Tt ]+[0-9:.]*)?') THEN TRY_CAST(upper({value}) AS TIMESTAMP) END"


class Columns:
    """The columns of one raw relation: an SQL expression for each role."""

    def __init__(self, types: Types | None = None) -> None:
        self.types = types or {}

    def kind(self, column: str) -> str:
        return self.types.get(column, "VARCHAR")

    def text(self, column: str) -> str:
        """Trimmed text, empty is NULL; True and False are lower case, as other formats write them."""
        raw = as_text(column, self.kind(column))
        if self.kind(column) in INTEGERS:
            return raw
        trimmed = f"NULLIF(TRIM({raw}, {BLANKS}), '')"
        lowered = f"CASE WHEN lower({trimmed}) IN ('true', 'false') THEN lower({trimmed}) ELSE {trimmed} END"
        # most values are neither padded nor empty nor a truth value: one look at their ends is all they cost
        return f"CASE WHEN {raw} < '!' OR {raw}[-1] < '!' OR {raw} IN ('True', 'TRUE', 'False', 'FALSE') THEN {lowered} ELSE {raw} END"

    def double(self, column: str) -> str:
        """A double, NULL where the text is no number; NaN and infinity stay."""
        if self.kind(column) in INTEGERS | FLOATS:
            return f"CAST({quote(column)} AS DOUBLE)"
        return f"TRY_CAST({self.text(column)} AS DOUBLE)"

    def number(self, column: str) -> str:
        """A finite double; NaN, infinity and text are NULL."""
        double = self.double(column)
        return double if self.kind(column) in INTEGERS else f"CASE WHEN isfinite({double}) THEN {double} END"

    def moment(self, time: TimeColumn) -> str:
        """int64 milliseconds since 1970 in UTC. Naive text is read in the declared zone."""
        kind, value = self.kind(time.column), quote(time.column)
        if kind == "TIMESTAMP WITH TIME ZONE" and time.unit in ("auto", "iso"):
            return f"epoch_ms({value})"
        if kind == "BIGINT" and time.unit == "ms":
            return f"CASE WHEN abs({value}) < 9000000000000000 THEN {value} END"
        return self._parsed_moment(time)

    def _parsed_moment(self, time: TimeColumn) -> str:
        value, numeric = self.text(time.column), self.double(time.column)
        scale = {"s": "1e3", "ms": "1", "us": "1e-3"}.get(time.unit)
        if scale is None:  # auto: no log is older than 1973 in milliseconds (1e11) or in microseconds (1e14)
            scale = f"CASE WHEN abs({numeric}) < 1e11 THEN 1e3 WHEN abs({numeric}) < 1e14 THEN 1 ELSE 1e-3 END"
        scaled = f"{numeric} * {scale}"
        exact = f"CASE WHEN isfinite({numeric}) AND abs({scaled}) < 9e15 THEN CAST(floor({scaled} + 0.5) AS BIGINT) END"
        if self.kind(time.column) in INTEGERS | FLOATS:
            return exact if time.unit != "iso" else "CAST(NULL AS BIGINT)"
        # text with an offset says its own zone; other text is local time of this column's zone, whatever the connection's is
        naive = f"{local_moment(value)} AT TIME ZONE {literal(time.zone)}"
        iso = f"epoch_ms(CASE WHEN {says_zone(value)} THEN {zoned_moment(value)} ELSE {naive} END)"
        return iso if time.unit == "iso" else exact if time.unit != "auto" else f"COALESCE({exact}, {iso})"

    def utc_offset(self, time: TimeColumn, milliseconds: str) -> str:
        """Minutes east of UTC: the text's own offset if it has one, else that of the declared zone at that moment."""
        stamp = f"make_timestamptz({milliseconds} * 1000)"
        zone = f"date_diff('minute', {stamp} AT TIME ZONE 'UTC', {stamp} AT TIME ZONE {literal(time.zone)})"
        zone = "0" if time.zone == "UTC" else zone
        if self.kind(time.column) != "VARCHAR":  # a typed column carries no offset of its own
            return f"CAST(CASE WHEN {milliseconds} IS NOT NULL THEN {zone} END AS SMALLINT)"
        value = self.text(time.column)
        pattern = "'[Tt ].*([+-][0-9]{2}):?([0-9]{2})?(?::?[0-9]{2})?$'"
        hours, minutes = (f"regexp_extract({value}, {pattern}, {group})" for group in (1, 2))
        sign = f"CASE WHEN {hours} LIKE '-%' THEN -1 ELSE 1 END"
        zulu = f"CASE WHEN {says_zone(value)} THEN 0 END"
        written = f"(TRY_CAST({hours} AS INTEGER) * 60 + {sign} * COALESCE(TRY_CAST({minutes} AS INTEGER), 0))"
        return f"CAST(COALESCE({written}, {zulu}, {zone}) AS SMALLINT)"

    def values(self, column: str, separator: str) -> str:
        """A list of texts, from a JSON list or from text split at `separator`; empty is NULL."""
        raw = self.text(column)
        parts = (f"CASE WHEN {raw} LIKE '[%' THEN TRY_CAST(TRY_CAST({raw} AS JSON) AS VARCHAR[]) "
                 f"ELSE string_split({raw}, {literal(separator)}) END")
        return f"NULLIF(list_filter(list_transform({parts}, lambda x: TRIM(x, {BLANKS})), lambda x: x <> ''), [])"

    def flag(self, column: str) -> str:
        """0 or 1, NULL for unknown, NaN for what is neither."""
        kind, raw = self.kind(column), quote(column)
        if kind == "BOOLEAN":
            return f"CAST({raw} AS DOUBLE)"
        if kind in INTEGERS:
            return f"CASE WHEN {raw} IN (0, 1) THEN CAST({raw} AS DOUBLE) WHEN {raw} IS NOT NULL THEN {NAN} END"
        value, double = self.text(column), self.double(column)
        return (f"CASE WHEN {value} IS NULL THEN NULL WHEN lower({value}) IN ('true', 'yes', 't') OR {double} = 1 THEN 1.0 "
                f"WHEN lower({value}) IN ('false', 'no', 'f') OR {double} = 0 THEN 0.0 ELSE {NAN} END")

    def outcome(self, name: str, spec: Outcome) -> str:
        """binary: 0, 1 or NULL; duration: seconds. Unreadable values are NaN here, and a rule drops their row."""
        if spec.derived:
            return "CAST(NULL AS DOUBLE)"
        if spec.every_row:
            return "CAST(1 AS DOUBLE)"
        column = spec.column or name
        raw = quote(column) if self.kind(column) in INTEGERS | FLOATS else self.text(column)
        double = self.double(column)
        if spec.kind == "duration":
            scale = "1000" if spec.unit == "ms" else "1"
            return f"CASE WHEN {raw} IS NULL THEN NULL WHEN isfinite({double}) THEN {double} / {scale} ELSE {NAN} END"
        if spec.at_least is not None:
            test = f"WHEN isfinite({double}) THEN CAST({double} >= {spec.at_least} AS DOUBLE)"
            return f"CASE WHEN {raw} IS NULL THEN NULL {test} ELSE {NAN} END"
        return self.flag(column)

    def field(self, name: str, spec: CategoryField | ItemField) -> str:
        """A context, profile or item field by its kind."""
        column = spec.column or name
        if spec.list:
            return self.values(column, spec.separator)
        return self.number(column) if isinstance(spec, CategoryField) and spec.kind == "number" else self.text(column)

    def interaction(self, schema: Schema) -> dict[str, str]:
        """Name in the prepared table -> SQL over the raw one. Roles that are not declared have no column here."""
        time = self.moment(schema.time)
        columns = {"user": self.text(schema.user), "item": self.text(schema.item), "time": time,
                   "utc_offset": self.utc_offset(schema.time, f"({time})")}
        if schema.request:
            columns["request"] = self.text(schema.request)
        if schema.known_at:
            columns["known_at"] = self.moment(schema.known_at)
        if schema.weight:
            columns["weight"] = self.number(schema.weight)
        if schema.session:
            columns["session"] = self.text(schema.session)
        if schema.scored:
            columns["scored"] = f"coalesce({self.flag(schema.scored)}, 1)"
        columns |= {name: self.field(name, spec) for name, spec in schema.context.items()}
        return columns | {name: self.outcome(name, spec) for name, spec in schema.outcomes.items() if not spec.derived}


def text(column: str) -> str:
    """Trimmed text of a column of text."""
    return Columns().text(column)


def required_columns(schema: Schema) -> dict[str, str]:
    """Schema key -> raw column that interactions must have."""
    needed = {"user": schema.user, "item": schema.item, "time": schema.time.column}
    optional = {"request": schema.request, "weight": schema.weight, "scored": schema.scored, "session": schema.session,
                "known_at": schema.known_at and schema.known_at.column}
    needed |= {key: column for key, column in optional.items() if column}
    needed |= {f"context.{n}": s.column or n for n, s in schema.context.items()}
    return needed | {f"outcomes.{n}": s.column or n for n, s in schema.outcomes.items() if not (s.derived or s.every_row)}
