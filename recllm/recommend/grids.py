"""The strategies that are tried on validation, and whether a configuration ships the one that won."""

from typing import Any

from recllm.config import Config
from recllm.config.recommend import RecommendConfig
from recllm.model.settings_recllm import PLAIN
from recllm.model.strategy_recllm import NEARNESS
from recllm.schema import Schema

Settings = dict[str, Any]
LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4)
MOST = (1, 2, 3)
DIVERSITIES = (0.05, 0.1, 0.2, 0.3, 0.5)
SHARES = (0.5, 1.0, 2.0, 4.0)
COMPARED = ("strategy", "weights", "value", "outcome", "exclude_seen", "retrieve", *PLAIN)


def base_grids(schema: Schema, recommend: RecommendConfig) -> dict[str, list[Settings]]:
    """Family -> its members, of the families that give a score."""
    first, *others = schema.binary
    plain = {"value": recommend.value, "exclude_seen": recommend.exclude_seen, "retrieve": recommend.retrieve, **PLAIN}
    weights = [{first: 1.0}, *({first: 1.0, name: share} for name in others for share in SHARES), *({name: 1.0} for name in others)]
    weights += [{NEARNESS: 1.0}, *({name: 1.0, NEARNESS: share} for name in schema.binary for share in SHARES)]
    return {"weighted": [{"strategy": "weighted", "weights": w, "outcome": None, **plain} for w in weights],
            "expected_value": [{"strategy": "expected_value", "weights": {}, "outcome": name, **plain} for name in schema.binary]}


def grids_over(base: Settings, schema: Schema) -> dict[str, list[Settings]]:
    """Family -> its members, of the families that change the list of the scores `base`."""
    fields = list(schema.item_category)
    found = {"thresholds": [{**base, "thresholds": {name: level}} for name in schema.binary for level in LEVELS],
             "cap": [{**base, "cap": {"field": field, "most": most}} for field in fields for most in MOST],
             "diversity": [{**base, "diversity": d} for d in DIVERSITIES]}
    return {family: members for family, members in found.items() if members}


def short(settings: Settings) -> str:
    """What a member sets, in a few words."""
    if settings["strategy"] == "weighted":
        said = [" + ".join(f"{weight:g} {name}" for name, weight in settings["weights"].items())]
    else:
        said = [f"{settings['value'] or 1} x {settings['outcome']}"]
    said += [f"{name} >= {least:g}" for name, least in settings["thresholds"].items()]
    said += [f"at most {settings['cap']['most']} of a {settings['cap']['field']}"] if settings["cap"] else []
    said += [f"diversity {settings['diversity']:g}"] if settings["diversity"] else []
    return ", ".join(said)


def shipped(config: Config, results: dict[str, Any]) -> bool:
    """Whether the config's section `recommend` ranks as the winner of its entry in a strategies file does; False without an entry."""
    entry, first = results.get(config.name), config.columns.binary[0]
    if entry is None:
        return False
    return _effective(RecommendConfig.model_validate(entry["winner"]), first) == _effective(config.recommend, first)


def _effective(recommend: RecommendConfig, first: str) -> Settings:
    """Settings with defaults filled in and without those that have no say."""
    plain = {name: value for name, value in recommend.model_dump(mode="json").items() if name in COMPARED}
    if recommend.strategy == "weighted":
        weights = {name: weight for name, weight in recommend.weights.items() if weight} or {first: 1.0}
        return plain | {"weights": weights, "value": None, "outcome": None}
    return plain | {"weights": {}, "outcome": recommend.outcome or first}
