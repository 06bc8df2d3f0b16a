"""The section `recommend`: how a list is ranked. The same settings can be given for one call (model/settings_recllm.py)."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from recllm.schema import Schema, Strict


class Cap(Strict):
    """At most `most` items of one value of an item category or text field in a list; an item with several values counts in each."""

    field: str
    most: int = Field(ge=1)


class Auction(Strict):
    """Ranks by bid x P(click). `second` is the generalised second price, `first` the bid itself; a bid below the floor stays out."""

    payment: Literal["second", "first"] = "second"
    floor: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="least price per click")


class RecommendConfig(Strict):
    """`weighted` sums the outcomes' predictions; `expected_value` is value x probability.

    `thresholds` (outcome: least prediction) put an item that is below any of them behind all others; `cap` bounds the items of one
    category; `diversity` is the weight of maximal marginal relevance (0: order by score, 1: difference alone); `auction` sells the places
    by bid, the field `value`. They compose.
    """

    strategy: Literal["weighted", "expected_value"] = "weighted"
    weights: dict[str, float] = {}
    value: str | None = None
    outcome: str | None = None
    exclude_seen: bool = True
    retrieve: int = Field(default=200, ge=1)
    title: str | None = None
    thresholds: dict[str, float] = {}
    cap: Cap | None = None
    diversity: float = Field(default=0.0, ge=0, le=1)
    auction: Auction | None = None

    @field_validator("thresholds")
    @classmethod
    def _not_negative(cls, thresholds: dict[str, float]) -> dict[str, float]:
        for name, least in thresholds.items():
            if not 0 <= least < float("inf"):
                raise ValueError(f"{name}: expected a least probability, or least seconds, of at least 0, found {least}")
        return thresholds

    @model_validator(mode="after")
    def _auction_by_value(self) -> "RecommendConfig":
        if self.auction is not None and self.strategy != "expected_value":
            raise ValueError(f"auction: expected strategy: expected_value (it ranks by bid x P(click)), found {self.strategy}")
        return self

    def names(self, schema: Schema) -> list[tuple[str, list[str | None], list[str]]]:
        """(key, names that it holds, names that the schema declares for it) of every setting that names something.

        Raises ValueError for a threshold that no probability reaches.
        """
        for name, least in self.thresholds.items():
            if name in schema.binary and least > 1:
                raise ValueError(f"recommend.thresholds.{name}: expected a probability from 0 to 1, found {least}")
        groups = dict.fromkeys([*schema.item_category, *schema.item_text])
        items = list(dict.fromkeys([*schema.item_text, *schema.item_category, *schema.item_number, *schema.item_info]))
        return [("recommend.weights", [*self.weights], [*schema.outcomes, "nearness"]),
                ("recommend.outcome", [self.outcome], schema.binary[:1] if self.auction else schema.binary),
                ("recommend.title", [self.title], items), ("recommend.value", [self.value], items),
                ("recommend.thresholds", [*self.thresholds], list(schema.outcomes)),
                ("recommend.cap.field", [self.cap.field if self.cap else None], list(groups))]
