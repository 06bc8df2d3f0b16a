"""What each column of a log is: the roles of DESIGN section 3, as strict pydantic models."""

import re
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

# names that prepared tables, requests or the model use themselves; a column of such a name is declared under another, with `column:`
RESERVED = set("""time hour weekday weekend gap user item item_id kind id line file raw broken seen bucket request weight known_at
    known_at_raw utc_offset pos n_before scored split next_time earlier listed published reason score before n session""".split())
# keys of the model's output, and of a strategy's weights, beside the outcomes
RESERVED_OUTCOMES = {"query", "content", "duration_logits", "nearness"}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def label_column(outcome: str) -> str:
    """Where a prepared table keeps the label of an outcome with a `window`; the event's own value stays under the outcome's name."""
    return f"{outcome}_within"


def _column(value: Any) -> Any:
    """`time: ts` is short for `time: {column: ts}`."""
    return {"column": value} if isinstance(value, str) else value


def _fields(value: Any) -> Any:
    """`[device, place]` is short for `{device: {}, place: {}}`; an empty YAML value is an empty mapping."""
    if isinstance(value, list):  # `[device, temperature: {kind: number}]` is a list of names and of mappings with one key
        return _fields({k: v for entry in value for k, v in (entry.items() if isinstance(entry, dict) else [(entry, None)])})
    if isinstance(value, dict):
        return {name: _column(spec) if spec is not None else {} for name, spec in value.items()}
    return {} if value is None else value


class TimeColumn(Strict):
    """A moment. `unit: auto` reads ISO 8601 text, or numbers by their size (seconds, milliseconds, microseconds)."""

    column: str
    unit: Literal["auto", "s", "ms", "us", "iso"] = "auto"
    zone: str = "UTC"

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone not in available_timezones():
            raise ValueError(f'expected an IANA time zone such as "Europe/Berlin", found "{zone}"')
        return zone


class CategoryField(Strict):
    """A field of values from a vocabulary, of numbers, or of free text (context only, read by the text tower).

    `list: true` holds several values in one cell, split at `separator`.
    """

    column: str | None = None
    kind: Literal["category", "number", "place", "text"] = "category"
    list: bool = False
    separator: str = "|"

    @model_validator(mode="after")
    def _list_of_categories(self) -> "CategoryField":
        if self.list and self.kind in ("number", "text"):
            raise ValueError(f"expected a category for list: true, found kind: {self.kind}")
        return self


class ItemField(Strict):
    """A field of the item; text fields are verbalised as `key: value`."""

    column: str | None = None
    list: bool = False
    separator: str = "|"


class Relations(Strict):
    """Columns of the relations' table: who is related (`user`) to whom or to which group (`other`, an item), since when."""

    user: str = "user"
    other: str = "other"
    since: Annotated[TimeColumn, BeforeValidator(_column)] = TimeColumn(column="since")


class Outcome(Strict):
    """A label of an event. `binary` is 0 or 1 (or `column >= at_least`); `duration` is in seconds after `unit`."""

    kind: Literal["binary", "duration"]
    column: str | None = None
    at_least: float | None = None
    every_row: bool = Field(default=False, description="a log of positives only: each row is a 1, see data.negatives")
    given: str | None = None
    clip: float = Field(default=600.0, gt=0, description="seconds; longer durations are 'clip or more'")
    unit: Literal["s", "ms"] = "s"
    derived: Literal["next_event"] | None = None
    session: str | None = Field(default=None, description="derived: next_event counts inside this column's sessions only")
    window: float | None = Field(default=None, gt=0, description="days: an event of its own, up to so long after, labels its row 1")
    loss_weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _options_fit_kind(self) -> "Outcome":
        if self.kind == "binary" and self.derived:
            raise ValueError("derived: next_event is for kind: duration, found kind: binary")
        if self.kind == "duration" and (self.given or self.at_least is not None or self.every_row):
            raise ValueError("given, at_least and every_row are for kind: binary, found kind: duration")
        if self.window and (self.kind != "binary" or self.every_row):
            raise ValueError("window is for kind: binary with a column, found kind: duration, or every_row")
        if self.session and not self.derived:
            raise ValueError("session is for derived: next_event, found no derived")
        return self


Fields = Annotated[dict[str, CategoryField], BeforeValidator(_fields)]
ItemFields = Annotated[dict[str, ItemField], BeforeValidator(_fields)]


class Schema(Strict):
    """Roles of all columns. Names on the left are recllm's, `column` is the file's name where it differs."""

    user: str
    item: str
    time: Annotated[TimeColumn, BeforeValidator(_column)]
    request: str | None = None
    known_at: Annotated[TimeColumn | None, BeforeValidator(_column)] = None
    weight: str | None = None
    scored: str | None = Field(default=None, description="0 marks a row that is history only: an event, never a label")
    context: Fields = {}
    profile: Fields = {}
    item_text: ItemFields = {}
    item_category: ItemFields = {}
    item_number: ItemFields = {}
    item_vector: ItemFields = {}
    item_info: ItemFields = Field(default={}, description="kept with the item for lists (a bid, a link): no input of the model")
    published: Annotated[TimeColumn | None, BeforeValidator(_column)] = None
    relations: Relations | None = None
    outcomes: dict[str, Outcome]
    outcome_delay: float = Field(default=0.0, ge=0, description="seconds from an event to its outcomes being known")

    @model_validator(mode="after")
    def _coherent(self) -> "Schema":
        binary = [name for name, outcome in self.outcomes.items() if outcome.kind == "binary"]
        if not binary:
            raise ValueError("expected at least one outcome of kind: binary, found none")
        for name, outcome in self.outcomes.items():
            if outcome.given is not None and (outcome.given not in binary or outcome.given == name):
                raise ValueError(f"outcomes.{name}.given: expected another binary outcome of {binary}, found {outcome.given!r}")
            if outcome.given is not None and self.outcomes[outcome.given].given is not None:
                raise ValueError(f"outcomes.{name}.given: expected an outcome that is given nothing itself, found {outcome.given!r}")
        self._names()
        if sum(outcome.kind == "duration" for outcome in self.outcomes.values()) > 1:
            raise ValueError("expected at most one outcome of kind: duration")
        return self

    def _names(self) -> None:
        """Names that would collide in a prepared table are refused here, by name."""
        events = [*self.context, *self.outcomes]
        tables = [*self.profile, *self.item_text, *self.item_category, *self.item_number, *self.item_vector, *self.item_info]
        clash = sorted({n for n in events if events.count(n) > 1} | ({*events, *tables} & RESERVED)
                       | (set(self.outcomes) & RESERVED_OUTCOMES))
        if clash:
            raise ValueError(f"names {clash} are used twice or reserved: choose another name and give the file's name as `column`")
        clash = sorted({label_column(n) for n in self.outcomes} & {*events, *tables})
        if clash:
            raise ValueError(f"names {clash} are kept for the labels of outcomes: choose another and give the file's name as `column`")
        odd = [n for n in (*events, *tables) if not re.fullmatch(r"\w+", n)]
        if odd:
            raise ValueError(f"names {odd}: expected letters, digits and _ only: choose another name and give the file's name as `column`")

    def label(self, outcome: str) -> str:
        """Column of a prepared table that holds an outcome's label."""
        return label_column(outcome) if self.outcomes[outcome].window else outcome

    @property
    def session(self) -> str | None:
        """Raw column of the sessions, where a derived duration keeps to them."""
        return next((o.session for o in self.outcomes.values() if o.session), None)

    @property
    def binary(self) -> list[str]:
        """Names of the binary outcomes, in order, each after what it is given."""
        names = [name for name, outcome in self.outcomes.items() if outcome.kind == "binary"]
        return sorted(names, key=lambda n: self.outcomes[n].given is not None)

    @property
    def duration(self) -> str | None:
        """Name of the duration outcome, or None."""
        return next((name for name, outcome in self.outcomes.items() if outcome.kind == "duration"), None)
