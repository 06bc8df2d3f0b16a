"""What each column of a log is: the roles of DESIGN section 3, as strict pydantic models."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from recllm.schema.base import (
    CENTURY,
    RESERVED,
    RESERVED_EVENTS,
    RESERVED_OUTCOMES,
    Column,
    Finite,
    Seconds,
    Strict,
    TimeColumn,
    column_of,
    label_column,
    same_name,
)
from recllm.schema.events import EventType, Impressions
from recllm.schema.fields import CategoryField, ContextFields, ItemField, ItemFields, Made, ProfileFields

__all__ = ["CategoryField", "EventType", "Impressions", "ItemField", "Made", "Outcome", "Relations", "Schema", "Strict", "TimeColumn",
           "label_column"]

Moment = Annotated[TimeColumn, BeforeValidator(column_of)]
OptionalMoment = Annotated[TimeColumn | None, BeforeValidator(column_of)]


class Relations(Strict):
    """Columns of the relations' table: who is related (`user`) to whom or to which group (`other`, an item), since when."""

    user: Column = "user"
    other: Column = "other"
    since: Moment = TimeColumn(column="since")


class Outcome(Strict):
    """A label of an event. `binary` is 0 or 1 (or `column >= at_least`); `duration` is in seconds after `unit`."""

    kind: Literal["binary", "duration"]
    column: Column | None = None
    at_least: Finite | None = None
    every_row: bool = Field(default=False, description="a log of positives only: each row is a 1, see data.negatives")
    given: str | None = None
    clip: float = Field(default=600.0, ge=0.001, le=CENTURY, allow_inf_nan=False, description="seconds; longer is 'clip or more'")
    unit: Literal["s", "ms"] = "s"
    derived: Literal["next_event"] | None = None
    session: Column | None = Field(default=None, description="derived: next_event counts inside this column's sessions only")
    window: float | None = Field(default=None, ge=1e-7, le=CENTURY / 86_400, allow_inf_nan=False,
                                 description="days: an event of its own, up to so long after, labels its row 1")
    loss_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)

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


class Schema(Strict):
    """Roles of all columns. Names on the left are recllm's, `column` is the file's name where it differs."""

    user: Column
    item: Column
    time: Moment
    request: Column | None = None
    known_at: OptionalMoment = None
    weight: Column | None = None
    scored: Column | None = Field(default=None, description="0 marks a row that is history only: an event, never a label")
    position: Column | None = Field(default=None, description="place where it was shown, from 1: for training only")
    decimal: Literal[".", ","] | None = Field(default=None, description='"," reads 1.234,56 in numbers, durations, at_least and weights')
    event_type: EventType | None = None
    impressions: Impressions | None = None
    context: ContextFields = {}
    profile: ProfileFields = {}
    item_text: ItemFields = {}
    item_category: ItemFields = {}
    item_number: ItemFields = {}
    item_vector: ItemFields = {}
    item_info: ItemFields = Field(default={}, description="kept with the item for lists (a bid, a link): no input of the model")
    published: OptionalMoment = None
    relations: Relations | None = None
    outcomes: dict[str, Outcome]
    outcome_delay: Seconds = Field(default=0.0, description="seconds from an event to its outcomes being known")

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
        self._shapes()
        if sum(outcome.kind == "duration" for outcome in self.outcomes.values()) > 1:
            raise ValueError("expected at most one outcome of kind: duration")
        return self

    def _names(self) -> None:
        """Names that would collide in a prepared table are refused here, by name."""
        events = [*self.context, *self.outcomes]
        # a field of the item may have several roles, and is one column
        items = list(dict.fromkeys([*self.item_text, *self.item_category, *self.item_number, *self.item_vector, *self.item_info]))
        tables = [*self.profile, *items]
        taken = [*(n for n in (*events, *tables) if n.casefold() in RESERVED or n.casefold().startswith("recllm_")),
                 *(n for n in events if n.casefold() in RESERVED_EVENTS),
                 *(n for n in self.outcomes if n.casefold() in RESERVED_OUTCOMES)]
        if clash := sorted({*taken, *same_name(events), *same_name([*self.profile]), *same_name(items)}):
            raise ValueError(f"names {clash} are used twice or reserved (in any case): choose another name and give the file's name as "
                             f"`column`")
        labels = {label_column(n).casefold() for n in self.outcomes}
        if clash := sorted({n for n in (*events, *tables) if n.casefold() in labels}):
            raise ValueError(f"names {clash} are kept for the labels of outcomes: choose another and give the file's name as `column`")
        odd = [n for n in (*events, *tables) if not re.fullmatch(r"\w+", n)]
        if odd:
            raise ValueError(f"names {odd}: expected letters, digits and _ only: choose another name and give the file's name as `column`")

    def _shapes(self) -> None:
        """Roles that say the same thing twice, or that a table beside the log cannot have."""
        if self.event_type and (self.impressions or self.scored):
            raise ValueError("event_type says what is scored and which outcomes a row carries: expected neither scored nor impressions")
        if self.event_type:
            self.event_type.check(self.outcomes)
        if self.impressions:
            self.impressions.check(self.outcomes)
            if self.impressions.ordered and self.position:
                raise ValueError("expected position or impressions.ordered, found both")
        moments = {"known_at": self.known_at, "published": self.published, "relations.since": self.relations and self.relations.since}
        if found := [key for key, column in moments.items() if column and column.zone_column]:
            raise ValueError(f"zone_column is for schema.time, found one in {', '.join(found)}")

    @property
    def extra(self) -> list[str]:
        """Columns of the prepared rows beside those that every log has: the show position, where the log says it."""
        return ["position"] if self.position or (self.impressions and self.impressions.ordered) else []

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
