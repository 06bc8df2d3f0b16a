"""Simple models on the same rows and labels; each in a file of its own, made by name."""

from importlib import import_module

from recllm.errors import ConfigError, did_you_mean
from recllm.evaluation.baselines.base import Baseline

_WHERE = {
    "item-rate": ("item_rate", "ItemRate"),
    "logistic-counters": ("logistic_counters", "LogisticCounters"),
    "lightgbm-counters": ("lightgbm_counters", "LightGBMCounters"),
    "mlp-seed": ("mlp_seed", "MLPSeed"),
}
NAMES: list[str] = list(_WHERE)


def create(name: str) -> Baseline:
    """An unfitted baseline. Raises ConfigError for an unknown name, MissingExtraError where its optional dependency is absent."""
    if name not in _WHERE:
        raise ConfigError(f'expected baselines of {", ".join(NAMES)}, found "{name}".{did_you_mean(name, NAMES)}')
    file, kind = _WHERE[name]
    return getattr(import_module(f"recllm.evaluation.baselines.{file}"), kind)()  # on demand: torch and LightGBM take seconds to import
