"""The sections of a configuration as strict models: data, schema, model, training, evaluation, recommend."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from recllm.config.data import DataConfig
from recllm.config.data import Path as LocalPath
from recllm.config.recommend import RecommendConfig
from recllm.errors import did_you_mean
from recllm.schema import Schema, Strict

MADE_SLICES = ("items", "users", "hour", "weekday", "daypart", "segment", "history")  # recllm/evaluation/slices.py makes them


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
    accumulation: int = Field(default=1, ge=1, description="parts in which each process computes its share of a batch: the same update, "
                              "less memory")
    gradient_checkpointing: bool = Field(default=False, description="compute layers again in the backward pass: less memory, more time")
    precision: Literal["no", "bf16"] = "no"
    spike: float | None = Field(default=10.0, gt=1, description="a loss of so many times the median of the last steps stops the run")
    keep_checkpoints: int = Field(default=2, ge=1, description="the newest so many, and the best")
    checkpoint_minutes: float = Field(default=10.0, gt=0, description="also at every evaluation")
    checkpoint_steps: int | None = Field(default=None, ge=1)
    seed: int = 0
    trackers: list[Literal["tensorboard", "trackio"]] = []

    @field_validator("precision", mode="before")
    @classmethod
    def _no_is_no_boolean(cls, precision: Any) -> Any:
        return "no" if precision is False else precision  # YAML reads a bare `no` as false


class EvaluationConfig(Strict):
    """`slices` are context or profile fields, or those of MADE_SLICES, which go before a field of the same name; by default all of
    MADE_SLICES and every categorical context field. `baselines` are names in recllm/evaluation/baselines."""

    slices: list[str] | None = None
    baselines: list[str] = ["item-rate", "popularity-recent", "logistic-counters", "lightgbm-counters", "lightgbm-text", "mlp-seed",
                            "sasrec", "din"]
    bootstrap: int = Field(default=200, ge=10)
    min_slice: int = Field(default=200, ge=1)


class ReleaseConfig(Strict):
    """`adapter` holds what the pretrained encoder does not give, and names it; `merged` loads without peft. `counts` thins the item counts:
    `daily` keeps an item's last of each day, `last` what serves requests after the end of the log."""

    form: Literal["full", "adapter", "merged"] = "full"
    counts: Literal["full", "daily", "last"] = "full"
    license: str | None = Field(default=None, description="of the weights, by the Hub's short name such as apache-2.0; for the card")
    data: str = Field(default="", description="where the log comes from and under which licence, a sentence or two of the card")


def declared(plain: Any) -> Any:
    """Settings without those that say nothing (null, empty): a new optional role leaves what was prepared before it as it is."""
    if not isinstance(plain, dict):
        return plain
    kept = {name: declared(value) for name, value in plain.items()}
    return {name: value for name, value in kept.items() if value is not None and value not in ([], {})}


class Config(Strict):
    """A whole configuration file."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=200, description="of a folder")
    note: str = ""
    root: LocalPath | None = Field(default=None, description="where runs lie; default $RECLLM_RUNS, or runs/")
    data: DataConfig
    columns: Schema = Field(alias="schema")
    model: ModelSettings = ModelSettings()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    recommend: RecommendConfig = RecommendConfig()
    releases: ReleaseConfig = Field(alias="release", default=ReleaseConfig())

    @field_validator("name")
    @classmethod
    def _no_other_folder(cls, name: str) -> str:
        if not name.strip("."):
            raise ValueError("expected a name of a folder of its own")
        return name

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
        if self.data.pseudonyms:
            self._hide_what_is_hidden()
        return self

    def _hide_what_is_hidden(self) -> None:
        """A field that reads the column of an id would write it beside its pseudonym."""
        schema, items = self.columns, self.pseudonymous_items
        ids = {schema.user, schema.request, schema.session, schema.item if items else None} - {None}
        groups: dict[str, dict[str, Any]] = {"context": schema.context, "profile": schema.profile, "outcomes": schema.outcomes}
        if items:
            groups |= {"item_text": schema.item_text, "item_category": schema.item_category, "item_info": schema.item_info,
                       "item_number": schema.item_number}
        found = [f"{group}.{name}" for group, fields in groups.items() for name, spec in fields.items() if (spec.column or name) in ids]
        if found:
            raise ValueError(f"schema.{found[0]} reads the column of an id that data.pseudonyms hides: leave the field out")

    @property
    def pseudonymous_items(self) -> bool:
        """Whether item ids leave as pseudonyms: where it is said, else where the schema's relations make items of people."""
        said = self.data.pseudonyms
        return said is not None and (self.columns.relations is not None if said.items is None else said.items)

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
