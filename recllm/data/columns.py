"""SQL expressions that read a text column by its role. NULL is unknown; what cannot be read is NULL and the rules say why."""

from recllm.data.sources.files import literal, quote
from recllm.schema import CategoryField, ItemField, Outcome, Schema, TimeColumn

BLANKS = "chr(32) || chr(9) || chr(10) || chr(13) || chr(12) || chr(11)"  # blank, tab, line feed, return, form feed, vertical tab


def text(column: str) -> str:
    """Trimmed text, empty is NULL; True and False are lower case, as other formats write them."""
    trimmed = f"NULLIF(TRIM({quote(column)}, {BLANKS}), '')"
    return f"CASE WHEN lower({trimmed}) IN ('true', 'false') THEN lower({trimmed}) ELSE {trimmed} END"


def number(column: str) -> str:
    """A finite double; NaN, infinity and text are NULL."""
    return f"CASE WHEN isfinite(TRY_CAST({text(column)} AS DOUBLE)) THEN TRY_CAST({text(column)} AS DOUBLE) END"


def moment(time: TimeColumn) -> str:
    """int64 milliseconds since 1970 in UTC. Naive text is read in the declared zone (the connection's TimeZone)."""
    value = text(time.column)
    numeric = f"TRY_CAST({value} AS DOUBLE)"
    scale = {"s": "1e3", "ms": "1", "us": "1e-3"}.get(time.unit)
    if scale is None:  # auto: no log is older than 1973 in milliseconds (1e11) or in microseconds (1e14)
        scale = f"CASE WHEN abs({numeric}) < 1e11 THEN 1e3 WHEN abs({numeric}) < 1e14 THEN 1 ELSE 1e-3 END"
    exact = f"CASE WHEN isfinite({numeric}) AND abs({numeric} * {scale}) < 9e15 THEN CAST(floor({numeric} * {scale} + 0.5) AS BIGINT) END"
    # text with an offset says its own zone; other text is local time of this column's zone, whatever the connection's is
    own = f"regexp_matches({value}, '[T ].*([+-][0-9]{{2}}(:?[0-9]{{2}})?|Z)$')"
    naive = f"TRY_CAST({value} AS TIMESTAMP) AT TIME ZONE {literal(time.zone)}"
    iso = f"epoch_ms(CASE WHEN {own} THEN TRY_CAST({value} AS TIMESTAMPTZ) ELSE {naive} END)"
    return iso if time.unit == "iso" else exact if time.unit != "auto" else f"COALESCE({exact}, {iso})"


def utc_offset(time: TimeColumn, milliseconds: str) -> str:
    """Minutes east of UTC: the text's own offset if it has one, else that of the declared zone at that moment."""
    value = text(time.column)
    pattern = "'[T ].*([+-][0-9]{2}):?([0-9]{2})?$'"
    hours, minutes = (f"regexp_extract({value}, {pattern}, {group})" for group in (1, 2))
    sign = f"CASE WHEN {hours} LIKE '-%' THEN -1 ELSE 1 END"
    zulu = f"CASE WHEN {value} LIKE '%Z' THEN 0 END"
    written = f"(TRY_CAST({hours} AS INTEGER) * 60 + {sign} * COALESCE(TRY_CAST({minutes} AS INTEGER), 0))"
    stamp = f"make_timestamptz({milliseconds} * 1000)"
    zone = f"date_diff('minute', {stamp} AT TIME ZONE 'UTC', {stamp} AT TIME ZONE {literal(time.zone)})"
    return f"CAST(COALESCE({written}, {zulu}, {zone}) AS SMALLINT)"


def values(column: str, separator: str) -> str:
    """A list of texts, from a JSON list or from text split at `separator`; empty is NULL."""
    raw = text(column)
    parts = (f"CASE WHEN {raw} LIKE '[%' THEN TRY_CAST(TRY_CAST({raw} AS JSON) AS VARCHAR[]) "
             f"ELSE string_split({raw}, {literal(separator)}) END")
    return f"NULLIF(list_filter(list_transform({parts}, lambda x: TRIM(x)), lambda x: x <> ''), [])"


def flag(column: str) -> str:
    """0 or 1, NULL for unknown, NaN for what is neither."""
    value = text(column)
    double = f"TRY_CAST({value} AS DOUBLE)"
    return (f"CASE WHEN {value} IS NULL THEN NULL WHEN lower({value}) IN ('true', 'yes', 't') OR {double} = 1 THEN 1.0 "
            f"WHEN lower({value}) IN ('false', 'no', 'f') OR {double} = 0 THEN 0.0 ELSE CAST('nan' AS DOUBLE) END")


def outcome(name: str, spec: Outcome) -> str:
    """binary: 0, 1 or NULL; duration: seconds. Unreadable values are NaN here, and a rule drops their row."""
    if spec.derived:
        return "CAST(NULL AS DOUBLE)"
    if spec.every_row:
        return "CAST(1 AS DOUBLE)"
    column = spec.column or name
    value = text(column)
    double = f"TRY_CAST({value} AS DOUBLE)"
    bad = "CAST('nan' AS DOUBLE)"
    if spec.kind == "duration":
        scale = "1000" if spec.unit == "ms" else "1"
        return f"CASE WHEN {value} IS NULL THEN NULL WHEN isfinite({double}) THEN {double} / {scale} ELSE {bad} END"
    if spec.at_least is not None:
        test = f"WHEN isfinite({double}) THEN CAST({double} >= {spec.at_least} AS DOUBLE)"
        return f"CASE WHEN {value} IS NULL THEN NULL {test} ELSE {bad} END"
    return flag(column)


def field(name: str, spec: CategoryField | ItemField) -> str:
    """A context, profile or item field by its kind."""
    column = spec.column or name
    if spec.list:
        return values(column, spec.separator)
    return number(column) if isinstance(spec, CategoryField) and spec.kind == "number" else text(column)


def interaction_columns(schema: Schema) -> dict[str, str]:
    """Name in the prepared table -> SQL over the raw one."""
    time = moment(schema.time)
    columns = {"user": text(schema.user), "item": text(schema.item), "time": time,
               "utc_offset": utc_offset(schema.time, f"({time})"),
               "request": text(schema.request) if schema.request else "CAST(NULL AS VARCHAR)",
               "known_at": moment(schema.known_at) if schema.known_at else "CAST(NULL AS BIGINT)",
               "weight": number(schema.weight) if schema.weight else "CAST(1 AS DOUBLE)",
               "session": text(schema.session) if schema.session else "CAST(NULL AS VARCHAR)",
               "scored": f"coalesce({flag(schema.scored)}, 1)" if schema.scored else "CAST(1 AS DOUBLE)"}
    columns |= {name: field(name, spec) for name, spec in schema.context.items()}
    return columns | {name: outcome(name, spec) for name, spec in schema.outcomes.items()}


def required_columns(schema: Schema) -> dict[str, str]:
    """Schema key -> raw column that interactions must have."""
    needed = {"user": schema.user, "item": schema.item, "time": schema.time.column}
    optional = {"request": schema.request, "weight": schema.weight, "scored": schema.scored, "session": schema.session,
                "known_at": schema.known_at and schema.known_at.column}
    needed |= {key: column for key, column in optional.items() if column}
    needed |= {f"context.{n}": s.column or n for n, s in schema.context.items()}
    return needed | {f"outcomes.{n}": s.column or n for n, s in schema.outcomes.items() if not (s.derived or s.every_row)}
