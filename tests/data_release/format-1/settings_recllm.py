"""Ranking settings of one call over those of a release; every mistake is named with its remedy."""

import math
from typing import Any

from .auction_recllm import PAYMENTS
from .errors_recllm import RequestError, nearest
from .strategy_recllm import NEARNESS, STRATEGIES

PLAIN: dict[str, Any] = {"thresholds": {}, "cap": None, "diversity": 0.0, "auction": None}  # the order of the scores and no more
OPTIONS = ("strategy", "weights", "outcome", "value", "retrieve", *PLAIN)


def call_settings(release: dict[str, Any], call: dict[str, Any], schema: dict[str, Any], outcomes: list[str],
                  binary: list[str]) -> dict[str, Any]:
    """The release's settings overridden by a call's; `outcomes` are all that are predicted, `binary` those with a probability.

    An auction of the release holds for its own strategy and outcome: a call that names another has none, unless it asks for one.
    Raises RequestError for a misspelt option, name or value, and for an auction without bid x P(click).
    """
    _check(call, schema, outcomes, binary)
    settings = {**release, **call}
    auction = settings.get("auction")
    if auction is not None and (settings.get("strategy") != "expected_value" or (settings.get("outcome") or binary[0]) != binary[0]):
        if "auction" in call:
            found = f"strategy {settings.get('strategy', 'weighted')}, outcome {settings.get('outcome') or binary[0]}"
            raise RequestError(f"auction: expected strategy expected_value and outcome {binary[0]} (it ranks by bid x P({binary[0]})), "
                               f"found {found}: set both, or leave the auction out")
        settings["auction"] = None
    return settings


def _check(call: dict[str, Any], schema: dict[str, Any], outcomes: list[str], binary: list[str]) -> None:
    groups = ("item_text", "item_category", "item_number", "item_info", "item_vector")
    fields = list(dict.fromkeys(name for group in groups for name in schema.get(group, {})))
    known = {"strategy": list(STRATEGIES), "value": fields, "outcome": binary}
    for name, chosen in call.items():
        if name not in OPTIONS:
            raise RequestError(f'expected options of {", ".join(OPTIONS)}, found "{name}".{nearest(name, list(OPTIONS))}')
        if chosen is None:
            continue
        if name in known:
            _one_of(name, chosen, known[name])
        elif name == "weights":
            for outcome, weight in _mapping(name, chosen, [*outcomes, NEARNESS]).items():
                _number(f"weights.{outcome}", weight, -math.inf, math.inf)
        elif name == "diversity":
            _number(name, chosen, 0, 1)
        elif name == "retrieve":
            _whole(name, chosen)
        elif name == "thresholds":
            for outcome, least in _mapping(name, chosen, outcomes).items():
                _number(f"thresholds.{outcome}", least, 0, 1 if outcome in binary else math.inf)
        elif name == "cap":
            _mapping(name, chosen, ["field", "most"], needed=True)
            _one_of("cap.field", chosen["field"], list(dict.fromkeys([*schema["item_category"], *schema["item_text"]])))
            _whole("cap.most", chosen["most"])
        elif name == "auction":
            _mapping(name, chosen, ["payment", "floor"])
            _one_of("auction.payment", chosen.get("payment", PAYMENTS[0]), list(PAYMENTS))
            _number("auction.floor", chosen.get("floor", 0.0), 0, math.inf)


def _one_of(name: str, chosen: Any, known: list[str]) -> None:
    if chosen not in known:
        hint = nearest(str(chosen), known)
        raise RequestError(f'{name}: expected one of {", ".join(known) or "(none declared)"}, found "{chosen}".{hint}')


def _mapping(name: str, chosen: Any, known: list[str], needed: bool = False) -> dict[str, Any]:
    if not isinstance(chosen, dict):
        raise RequestError(f"{name}: expected a dict with keys of {', '.join(known)}, found {chosen!r}")
    for key in chosen:
        _one_of(f"key of {name}", key, known)
    missing = [key for key in known if needed and key not in chosen]
    if missing:
        raise RequestError(f"{name}: expected the keys {', '.join(known)}, found no {missing[0]}: add it")
    return chosen


def _number(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or not math.isfinite(value):
        room = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        raise RequestError(f"{name}: expected a number {room}, found {value!r}")


def _whole(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RequestError(f"{name}: expected a whole number of at least 1, found {value!r}")
