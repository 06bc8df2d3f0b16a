"""The settings that decide a prepared folder's rows: kept in it as plain JSON, `settings.json`, and compared with a config's own whenever
the folder is read.

The folder's fingerprint holds them too, but as a hash that cannot say what differs, and together with the states of the sources, which may
have been moved, or have grown, since.
"""

import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

from recllm.config import Config, DataConfig, declared
from recllm.data.whole import whole_file
from recllm.errors import DataError

SETTINGS = "settings.json"
TABLES = ("users", "items", "relations")
HOW = {"workers", "memory", "executor", "executor_options", "storage", "out"}  # settings that do not change what is written
SHOWN, LONGEST = 5, 120  # differences that are named, characters of a value


def deciding(data: DataConfig, by_alias: bool = False) -> dict[str, Any]:
    """The `data` section without sources and tables, where the key of pseudonyms lies, and what says only how it is done."""
    out = HOW | {"interactions", "pseudonyms", *TABLES} | (set() if data.format == "simulate" else {"simulate"})
    plain = data.model_dump(mode="json", exclude=out, by_alias=by_alias)
    plain["rules"] = {name: value for name, value in plain["rules"].items() if name not in ("max_dropped", "confirmed")}
    return dict(declared(plain))


def settings_of(config: Config) -> dict[str, Any]:
    """What `settings.json` holds: names as a config has them, no key, no path."""
    found = deciding(config.data, by_alias=True)
    if config.data.pseudonyms:  # which key it was is no matter for who only reads
        found["pseudonyms"] = {"items": config.pseudonymous_items}
    return found


def write_settings(folder: Path, config: Config) -> None:
    with whole_file(folder / SETTINGS) as part:
        part.write_text(json.dumps(settings_of(config), indent=1) + "\n", encoding="utf-8")


def complete_settings(folder: Path, config: Config) -> None:
    """Write `settings.json` of an earlier version's folder, which is known to be made with this config's settings."""
    if not (folder / SETTINGS).is_file() and os.access(folder, os.W_OK):
        write_settings(folder, config)


def check_settings(folder: Path, config: Config) -> None:
    """Raise DataError, one line with every name and both values, where a config has other settings than a folder was prepared with.
    Of an earlier version's folder, which does not say them, that is said once."""
    if not (folder / SETTINGS).is_file():
        return _warn(f"{folder}: prepared by an earlier version, which did not keep its data settings: not checked against the config's: "
                     f"run prepare again to have them kept")
    found = _differences(json.loads((folder / SETTINGS).read_text(encoding="utf-8")), settings_of(config), "data")
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise DataError(f"{folder} was prepared with other settings: {'; '.join(found[:SHOWN])}{more}: run prepare again, or put them back")


def _differences(then: Any, now: Any, name: str) -> list[str]:
    """`data.split.test is 0.05 here and 0.3 in the folder` for each setting that is not the same."""
    if isinstance(then, dict) and isinstance(now, dict):
        return [said for key in {**now, **then} for said in _differences(then.get(key), now.get(key), f"{name}.{key}")]
    return [] if then == now else [f"{name} is {_shown(now)} here and {_shown(then)} in the folder"]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@cache  # a command may read the same folder more than once
def _warn(text: str) -> None:
    logging.getLogger(__name__).warning(text)
