"""Logs whose labels are no column of their own: an event type per row, or lists of candidates in one cell."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from recllm.schema.base import Column, Strict


def _texts(value: Any) -> Any:
    """YAML reads `1:` and `true:` as no text; a log's cells hold them as `1` and `true`."""
    if not isinstance(value, dict):
        return value
    return {str(k).lower() if isinstance(k, bool) else str(k): {} if v is None else v for k, v in value.items()}


def _flag(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


Flag = Annotated[Literal[0, 1], BeforeValidator(_flag)]


class EventType(Strict):
    """What the values of one column mean, for logs with one row per `view`, `cart`, `buy`.

    `values: {view: {scored: true, click: 0}, cart: {click: 1}, buy: {click: 1, purchase: 1}}`: the outcomes that a row of that type
    carries, and whether it was shown and is predicted (`scored`; else it is an event at its own time, history only). An outcome that a
    type does not name is unknown there, except that a scored row carries 0 of an outcome with a `window`: what comes within the window
    makes its label 1. Rows of other types are dropped with the reason `unknown_event_type`, or kept as history without outcomes.
    """

    column: Column
    values: Annotated[dict[str, dict[str, Flag]], BeforeValidator(_texts), Field(min_length=1)]
    other: Literal["drop", "history"] = "drop"

    @field_validator("values")
    @classmethod
    def _one_is_scored(cls, values: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        if not any(facts.get("scored") for facts in values.values()):
            raise ValueError(f"expected at least one type with scored: true (what was shown), found none among {', '.join(values)}")
        return values

    @property
    def outcomes(self) -> list[str]:
        """Outcomes that the types carry, in the order of their first mention."""
        return list(dict.fromkeys(name for facts in self.values.values() for name in facts if name != "scored"))

    def says(self, outcome: str, value: int, *, scored: bool) -> list[str]:
        """Types whose rows carry `value` of an outcome, scored ones or the others."""
        return [kind for kind, facts in self.values.items() if facts.get(outcome) == value and bool(facts.get("scored")) == scored]

    def check(self, outcomes: dict[str, Any]) -> None:
        """Raise ValueError where the types cannot give the labels that the outcomes promise."""
        for name in self.outcomes:
            spec = outcomes.get(name)
            if spec is None or spec.kind != "binary":
                raise ValueError(f'event_type: "{name}" is no outcome of kind: binary')
            if spec.column or spec.every_row or spec.at_least is not None:
                raise ValueError(f"outcomes.{name}: expected no column, at_least or every_row, since event_type says it")
            late = self.says(name, 1, scored=False)
            if late and not self.says(name, 1, scored=True) and not spec.window:
                raise ValueError(f"outcomes.{name}: it is 1 in rows of type {', '.join(late)} alone, which are not scored: give it a "
                                 f"window (days) in which they label the row that was shown before them, or set scored: true there")
            self._check_given(name, spec, outcomes)

    def _check_given(self, name: str, spec: Any, outcomes: dict[str, Any]) -> None:
        """What is given another outcome must bring it along, or a row would be labelled 1 where the other is 0."""
        given = outcomes.get(spec.given) if spec.given else None
        if given is None or spec.given not in self.outcomes or not given.window:
            return
        alone = [kind for kind in self.says(name, 1, scored=False) if self.values[kind].get(spec.given) != 1]
        if alone:
            raise ValueError(f"event_type.values.{alone[0]}: {name} is given {spec.given}: add {spec.given}: 1")
        if spec.window and spec.window > given.window:
            raise ValueError(f"outcomes.{name}.window: expected at most that of {spec.given} ({given.window:g} days), which it is given, "
                             f"found {spec.window:g}")


class Impressions(Strict):
    """Candidates of one request as a list in one cell: one row each is made of it, with its item and label.

    `{column: impressions, separator: " ", label: "-"}` reads MIND's `N123-1 N456-0`; `{column: slate, separator: "|", clicked: chosen}`
    reads `a|b|c` with what was chosen in another column (nothing, one, or several). A JSON list is read too. With `ordered: true` an
    entry's place in the list, from 1, is its show position.
    """

    column: Column
    separator: str = Field(default="|", min_length=1, description="a blank stands for any run of white space")
    label: str | None = Field(default=None, min_length=1, description="between an item and its 0 or 1")
    clicked: Column | None = Field(default=None, description="column that names the entries whose outcome is 1")
    outcome: str = "click"
    ordered: bool = False

    @model_validator(mode="after")
    def _labelled_one_way(self) -> "Impressions":
        if bool(self.label) == bool(self.clicked):
            raise ValueError("expected either label (between an item and its 0 or 1) or clicked (a column that names what was chosen)")
        return self

    def check(self, outcomes: dict[str, Any]) -> None:
        """Raise ValueError where the outcome is not the list's to say."""
        spec = outcomes.get(self.outcome)
        if spec is None or spec.kind != "binary":
            known = ", ".join(n for n, o in outcomes.items() if o.kind == "binary")
            raise ValueError(f'impressions.outcome: expected a binary outcome ({known}), found "{self.outcome}"')
        if spec.column or spec.every_row or spec.at_least is not None:
            raise ValueError(f"outcomes.{self.outcome}: expected no column, at_least or every_row, since impressions say it")
