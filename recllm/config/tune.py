"""What `scripts/tune.py` reads: which settings of a configuration to search, within which bounds, and for how long."""

import copy
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from recllm.config.files import read_yaml, validated
from recllm.config.sections import Config, ModelSettings, TrainingConfig
from recllm.errors import ConfigError, did_you_mean
from recllm.schema import Strict
from recllm.schema.base import Finite

SECTIONS: dict[str, type[Strict]] = {"model": ModelSettings, "training": TrainingConfig}
NOT_SEARCHED = {
    "model.duration_bins": "losses over another number of bins do not compare",
    "training.minutes": "it is `minutes` of the search, the same for every trial",
    "training.evaluations_per_epoch": "a trial is compared with others at the same evaluation",
    "training.seed": "the best of several seeds is luck, not a setting",
    "training.trackers": "it changes no result",
}
Choice = bool | int | Finite | str | None | list[Finite]


class Dimension(Strict):
    """One setting's values: numbers from `low` to `high` (in steps, or evenly in the logarithm), or `choices`."""

    low: int | Finite | None = None
    high: int | Finite | None = None
    log: bool = False
    step: int | Finite | None = Field(default=None, gt=0)
    choices: list[Choice] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step:
                raise ValueError("expected either choices, or low and high (with log or step), not both")
            if any(value in self.choices[:place] for place, value in enumerate(self.choices)):
                raise ValueError("expected each choice once")
        elif self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        elif self.low >= self.high:
            raise ValueError("expected low below high")
        elif self.log and (self.low <= 0 or self.step):
            raise ValueError("expected low above 0 and no step beside log: true")
        return self

    @property
    def ends(self) -> list[Any]:
        """The values that bound all others."""
        return [self.low, self.high] if self.choices is None else list(self.choices)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in this dimension."""
        if self.choices is not None:
            return value in self.choices
        if not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9


def known_settings() -> list[str]:
    """Every setting that can be searched, as `section.name`."""
    names = [f"{section}.{field}" for section, model in SECTIONS.items() for field in model.model_fields]
    return [name for name in names if name not in NOT_SEARCHED]


def is_whole(setting: str) -> bool:
    """Whether a setting takes whole numbers only."""
    section, name = setting.split(".")
    return SECTIONS[section].model_fields[name].annotation is int


def _is_number(setting: str) -> bool:
    section, name = setting.split(".")
    kind = SECTIONS[section].model_fields[name].annotation
    return bool({int, float} & {kind, *get_args(kind)})


class TuneConfig(Strict):
    """A search: the configuration that is varied, how many trials of how many minutes, and the space.

    The sampler draws the first `startup` trials at random, and the pruner stops none before as many have ended.
    """

    config: str = Field(description="path of the configuration, from where the command is called")
    trials: int = Field(default=20, ge=1, description="that ended, pruned ones among them")
    minutes: float | None = Field(default=None, gt=0, description="training.minutes of each trial; default: the configuration's")
    startup: int = Field(default=5, ge=1)
    pruner: Literal["median", "hyperband", "none"] = "median"
    seed: int = Field(default=0, ge=0, description="of the sampler; trials train with the configuration's own")
    space: dict[str, Dimension] = Field(min_length=1)

    @field_validator("space")
    @classmethod
    def _settings_of_the_config(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        known = known_settings()
        for name, values in space.items():
            if name in NOT_SEARCHED:
                raise ValueError(f"{name} cannot be searched: {NOT_SEARCHED[name]}")
            if name not in known:
                raise ValueError(f'expected settings of the sections {" and ".join(SECTIONS)}, found "{name}".{did_you_mean(name, known)}')
            if values.choices is None and not _is_number(name):
                raise ValueError(f"{name}: expected choices, found low and high: it is no number")
            if is_whole(name) and any(isinstance(v, float) for v in (values.low, values.high, values.step)):
                raise ValueError(f"{name}: expected whole numbers, found {values.low} to {values.high}")
        return space


def with_settings(raw: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration as `read_yaml` gives it with `section.name` settings in place of its own."""
    changed = copy.deepcopy(raw)
    for name, value in settings.items():
        section, key = name.split(".")
        changed[section] = {**(changed.get(section) or {}), key: value}
    return changed


def load_tune(path: str | Path, overrides: list[str] | None = None) -> tuple[TuneConfig, dict[str, Any]]:
    """(the search, its configuration as it stands in its file, with `overrides` and `minutes`).

    Raises ConfigError with file, key, what was found and the nearest valid name; also where a bound of the space is none that the
    configuration allows: found now, not after a night.
    """
    search = validated(read_yaml(path), str(path), TuneConfig)
    raw = read_yaml(search.config, overrides)
    if search.minutes:
        raw = with_settings(raw, {"training.minutes": search.minutes})
    validated(raw, search.config, Config)
    for name, values in search.space.items():
        for value in values.ends:
            try:
                validated(with_settings(raw, {name: value}), search.config, Config)
            except ConfigError as error:
                raise ConfigError(f"{path}: space.{name}: {value!r} is none that the configuration allows: {error}") from None
    return search, raw
