"""Simple models on the same rows and labels; each in a file of its own, made by name."""

from importlib import import_module

from recllm.errors import ConfigError, did_you_mean
from recllm.evaluation.baselines.base import Baseline

_WHERE = {
    "item-rate": ("item_rate", "ItemRate"),
    "popularity-recent": ("popularity_recent", "PopularityRecent"),
    "logistic-counters": ("logistic_counters", "LogisticCounters"),
    "lightgbm-counters": ("lightgbm_counters", "LightGBMCounters"),
    "lightgbm-text": ("lightgbm_text", "LightGBMText"),
    "mlp-seed": ("mlp_seed", "MLPSeed"),
    "sasrec": ("sasrec", "SASRec"),
    "din": ("din", "DIN"),
}
NAMES: list[str] = list(_WHERE)


def create(name: str) -> Baseline:
    """An unfitted baseline. Raises ConfigError for an unknown name, MissingExtraError where its optional dependency is absent."""
    if name not in _WHERE:
        raise ConfigError(f'expected baselines of {", ".join(NAMES)}, found "{name}".{did_you_mean(name, NAMES)}')
    file, kind = _WHERE[name]
    return getattr(import_module(f"recllm.evaluation.baselines.{file}"), kind)()  # on demand: torch and LightGBM take seconds to import
