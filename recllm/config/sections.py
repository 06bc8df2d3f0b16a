"""The sections of a configuration as strict models: data, schema, model, training, evaluation, recommend."""

import os
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from recllm.config.recommend import RecommendConfig
from recllm.errors import did_you_mean
from recllm.schema import Schema, Strict


def _paths(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(_paths)]


def _date(value: Any) -> Any:
    """YAML reads an unquoted 2026-03-03 as a date; text must be ISO 8601."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError:
            raise ValueError('expected a date or moment in ISO 8601, such as "2026-03-03"') from None
    return value


def _codec(value: Any) -> Any:
    """A text encoding that Python knows."""
    try:
        if isinstance(value, str):
            "".encode(value)  # refuses unknown names, and codecs that are none of text
    except LookupError:
        raise ValueError("expected a text encoding that Python knows, such as latin-1, cp1252, utf-16 or shift_jis") from None
    return value


Encoding = Annotated[str, BeforeValidator(_codec)]
Moment = Annotated[str, BeforeValidator(_date)]
FractionOrMoment = Annotated[float | str, BeforeValidator(_date)]

MADE_SLICES = ("items", "users", "hour", "weekday", "daypart", "segment", "history")  # recllm/evaluation/slices.py makes them


class Negatives(Strict):
    """Candidates for a log of positives only: `per_event` items per scored row, drawn uniformly or by popularity in train (`from`).

    With `window` (days) they come from the items in which some user had an event within so many days before the row, and only a
    user's first event of such an item is scored: else "never seen before" or "nobody looked lately" alone would tell drawn from logged.
    `base_rate` is the share of positives where the model will serve: predictions are shifted to it, metrics are not.
    """

    per_event: int = Field(default=4, ge=1, le=100)
    source: Literal["uniform", "popularity"] = Field(default="uniform", alias="from")
    seed: int = 0
    window: float | None = Field(default=None, gt=0, description="days")
    base_rate: float | None = Field(default=None, gt=0, lt=1)


class Rules(Strict):
    """Limits of the cleaning rules (DESIGN 4). Each dropped row is kept in `dropped.parquet` with its reason."""

    min_time: Moment = "1990-01-01"
    max_time: Moment | None = None
    max_duration: float = Field(default=86_400.0, gt=0, allow_inf_nan=False, description="seconds; longer is absurd")
    max_events_per_day: int = Field(default=5_000, ge=1, description="a user above it on any day is taken for a bot")
    unknown_items: Literal["keep", "drop"] = "keep"
    unknown_users: Literal["keep", "drop"] = "keep"


class Split(Strict):
    """By global time: fractions of the rows, or the first moments of validation and test (ISO 8601, UTC)."""

    validation: FractionOrMoment = 0.1
    test: FractionOrMoment = 0.1

    @model_validator(mode="after")
    def _same_kind(self) -> "Split":
        if isinstance(self.validation, str) != isinstance(self.test, str):
            raise ValueError("expected validation and test both as fractions or both as dates")
        if isinstance(self.validation, float) and not (0 < self.validation < 1 and 0 < self.test < 1 and self.validation + self.test < 1):  # type: ignore[operator]
            raise ValueError("expected fractions above 0 that leave rows to train on: validation + test < 1")
        return self


class Simulation(Strict):
    """Settings of the simulated log (recllm/data/simulate), for `format: simulate`: a shop, or a social network."""

    world: Literal["shop", "social"] = "shop"
    seed: int = Field(default=0, ge=0)
    users: int = Field(default=800, ge=2)
    items: int = Field(default=300, ge=10, description="products of the shop")
    groups: int = Field(default=120, ge=1, description="of the social network, whose other items are its users")
    days: int = Field(default=28, ge=3)
    requests_per_user: int = Field(default=33, ge=1)
    slate: int = Field(default=3, ge=1)
    finer: bool = Field(default=False, description="shop only: weather, companion, the mood in free text, and the items' look")

    @model_validator(mode="after")
    def _settings_fit_world(self) -> "Simulation":
        odd = ["groups"] if self.world == "shop" else ["finer", "items"]
        # by value and not by presence: a whole config that was dumped and read again names every setting
        if found := [name for name in odd if getattr(self, name) != type(self).model_fields[name].default]:
            raise ValueError(f"expected no {', '.join(found)} for world: {self.world}: leave it out, or choose the other world")
        return self


class DataConfig(Strict):
    """Where the tables are, how they are read, cleaned and split."""

    interactions: Paths
    users: Paths = []
    items: Paths = []
    relations: Paths = []
    format: Literal["auto", "csv", "jsonl", "parquet", "arrow", "sqlite", "datasets", "recbole", "simulate",
                    "kuairand", "deskdrop"] = "auto"
    delimiter: str | None = None
    encoding: Encoding | None = Field(default=None, description="of text files that are not UTF-8: any codec of Python")
    storage: dict[str, Any] = Field(default={}, description="options of fsspec for URLs: endpoint_url, anon, key: ${AWS_KEY}...")
    simulate: Simulation = Simulation()
    rules: Rules = Rules()
    split: Split = Split()
    negatives: Negatives | None = None
    period: int = Field(default=3600, ge=1, description="seconds of one period of the item counts")
    shards: int | None = Field(default=None, ge=1)
    workers: int = Field(default=2, ge=1)


class ModelSettings(Strict):
    """Shape of the model; everything here travels in the release's config.json."""

    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    layers: int = Field(default=3, ge=1)
    pretrained: bool = True
    lora_rank: int = Field(default=8, ge=0)
    lora_alpha: float = 16.0
    profile_tokens: int = Field(default=32, ge=2)
    text_tokens: int = Field(default=48, ge=4)
    stride: int = Field(default=100, ge=1)
    overlap: int = Field(default=100, ge=0)
    duration_bins: int = Field(default=24, ge=4)
    head_width: int = Field(default=128, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    item_id: bool = True
    item_id_dropout: float = Field(default=0.5, ge=0, lt=1)
    counters: bool = True
    recent_days: list[float] = Field(default=[1.0, 7.0], description="item counts of so many last days, beside those of all time")
    cross_rank: int = Field(default=64, ge=0, description="width of the products of item and moment; 0 leaves them out")


class TrainingConfig(Strict):
    """DESIGN 6. `minutes` is a wall-clock budget; at least one checkpoint is always trained and evaluated."""

    epochs: int = Field(default=5, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    tokens_per_batch: int = Field(default=1536, ge=64, description="padded tokens; small batches learn small logs fastest")
    learning_rate: float = Field(default=2e-3, gt=0)
    lora_learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    loss: Literal["fixed", "uncertainty"] = "fixed"
    retrieval_weight: float = Field(default=0.1, ge=0)
    patience: int = Field(default=2, ge=1, description="evaluations without a better validation loss before stopping")
    evaluations_per_epoch: int = Field(default=1, ge=1)
    seed: int = 0
    trackers: list[Literal["tensorboard"]] = []


class EvaluationConfig(Strict):
    """`slices` are context or profile fields, or those of MADE_SLICES, which go before a field of the same name; by default all of
    MADE_SLICES and every categorical context field. `baselines` are names in recllm/evaluation/baselines."""

    slices: list[str] | None = None
    baselines: list[str] = ["item-rate", "popularity-recent", "logistic-counters", "lightgbm-counters", "lightgbm-text", "mlp-seed",
                            "sasrec", "din"]
    bootstrap: int = Field(default=200, ge=10)
    min_slice: int = Field(default=200, ge=1)


def declared(plain: Any) -> Any:
    """Settings without those that say nothing (null, empty): a new optional role leaves what was prepared before it as it is."""
    if not isinstance(plain, dict):
        return plain
    kept = {name: declared(value) for name, value in plain.items()}
    return {name: value for name, value in kept.items() if value is not None and value not in ([], {})}


class Config(Strict):
    """A whole configuration file."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    note: str = ""
    root: str | None = Field(default=None, description="where runs lie; default $RECLLM_RUNS, or runs/")
    data: DataConfig
    columns: Schema = Field(alias="schema")
    model: ModelSettings = ModelSettings()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recommend: RecommendConfig = RecommendConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        """What one section names, another must declare: a typo is found here and not after an hour of training."""
        schema = self.columns
        items = [*schema.item_text, *schema.item_category, *schema.item_number, *schema.item_info]
        fields = [*schema.context, *schema.profile, *MADE_SLICES]
        checks: list[tuple[str, list[str | None], list[str]]] = [
            ("evaluation.slices", [*(self.evaluation.slices or [])], fields), *self.recommend.names(schema)]
        for key, names, known in checks:
            for name in (n for n in names if n is not None and n not in known):
                hint = did_you_mean(name, known)
                raise ValueError(f'{key}: expected one of {", ".join(known) or "(none declared)"}, found "{name}".{hint}')
        if schema.profile and not self.data.users:
            raise ValueError("schema.profile is declared without data.users: give the users' table (it may be the log's own file)")
        if (items or schema.item_vector or schema.published) and not self.data.items:
            raise ValueError("item fields are declared without data.items: give the items' table (it may be the log's own file)")
        if bool(schema.relations) != bool(self.data.relations):
            raise ValueError("schema.relations and data.relations go together: found one without the other")
        return self

    @property
    def slices(self) -> list[str]:
        """The slices to evaluate, each once: as declared, or the default of EvaluationConfig."""
        context = [name for name, spec in self.columns.context.items() if spec.kind in ("category", "place") and not spec.list]
        declared = self.evaluation.slices
        return list(dict.fromkeys([*MADE_SLICES, *context] if declared is None else declared))

    @property
    def folder(self) -> Path:
        """Where everything made from this config lies: `<root>/<name>`, by default `$RECLLM_RUNS/<name>`, else `runs/<name>`."""
        return Path(self.root or os.environ.get("RECLLM_RUNS", "runs")) / self.name

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def release(self) -> Path:
        return self.folder / "release"
