"""What every part of a schema shares: strict models, names that are taken, moments."""

from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

# names that prepared tables, requests or the model use themselves, in any case: DuckDB's names ignore it; a column of such a name is
# declared under another, with `column:`
RESERVED = set("""time hour weekday weekend gap user item item_id kind id line file raw broken seen bucket request weight known_at
    known_at_raw utc_offset pos n_before scored split next_time earlier listed published reason score before n session position
    misshapen unreadable""".split())
# names beside the context and the outcomes on the way from a raw file to a shard (scatter.py, prepare.sql) and segments; so is recllm_*
RESERVED_EVENTS = set("row content mended u i copy daypart".split())
# keys of the model's output, and of a strategy's weights, beside the outcomes
RESERVED_OUTCOMES = {"query", "content", "duration_logits", "nearness"}
CENTURY = 3_155_760_000  # seconds: no span of a log is longer, and milliseconds of it fit everywhere


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _named(column: str) -> str:
    if not column.strip() or "\0" in column:
        raise ValueError("expected the name of a column of the file")
    return column


def same_name(names: list[str]) -> list[str]:
    """Names that occur twice, whatever their case."""
    folded = [name.casefold() for name in names]
    return [name for name, fold in zip(names, folded, strict=True) if folded.count(fold) > 1]


Column = Annotated[str, AfterValidator(_named)]  # a column of a raw file
Seconds = Annotated[float, Field(ge=0, le=CENTURY, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def label_column(outcome: str) -> str:
    """Where a prepared table keeps the label of an outcome with a `window`; the event's own value stays under the outcome's name."""
    return f"{outcome}_within"


def column_of(value: Any) -> Any:
    """`time: ts` is short for `time: {column: ts}`."""
    return {"column": value} if isinstance(value, str) else value


class TimeColumn(Strict):
    """A moment. `unit: auto` reads ISO 8601 text, or numbers by their size (seconds, milliseconds, microseconds).

    Text without an offset is local time of `zone`: an hour that a clock change doubles is taken for the later one, a moment that it
    skips for as long after the change as it claims to be. `zone_column` (of the log's `time` only) names each row's own zone, as an IANA
    name or as `+02:00`: local text is read in it, and hour and weekday are those of that zone; where it is empty, `zone` holds.
    """

    column: Column
    unit: Literal["auto", "s", "ms", "us", "iso"] = "auto"
    zone: str = "UTC"
    zone_column: Column | None = None

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones() - {"localtime"}:  # the machine's own zone is nobody's
            raise ValueError(f'expected an IANA time zone such as "Europe/Berlin", found "{zone}"')
        return zone
