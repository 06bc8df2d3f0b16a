"""One YAML file per dataset or use: data, schema, model, training, evaluation. `${NAME}` is replaced from the environment."""

import os
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError

from recllm.config.sections import Config
from recllm.errors import ConfigError, did_you_mean
from recllm.schema import Strict

M = TypeVar("M", bound=Strict)
# YAML's own errors, a date that is none (2026-13-45), brackets too deep
NO_YAML = (yaml.YAMLError, ValueError, RecursionError)


def _known_keys(model: Any, path: tuple) -> list[str]:
    """Names that are allowed beside the offending key, by walking the models along the error's path."""
    for step in path[:-1]:
        fields = getattr(model, "model_fields", {})
        field = next((f for n, f in fields.items() if step in (n, f.alias)), None)
        if field is None:
            continue
        found = re.findall(r"recllm\.[\w.]+\.(\w+)", str(field.annotation))
        model = next((m for m in Strict.__subclasses__() if m.__name__ in found), model)
    return [f.alias or n for n, f in getattr(model, "model_fields", {}).items()]


def explain(error: ValidationError, where: str, root: Any) -> ConfigError:
    """A pydantic error as one line: the key, what was found, the nearest valid name."""
    lines = []
    for problem in error.errors()[:5]:
        key = ".".join(str(p) for p in problem["loc"]) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            known = _known_keys(root, problem["loc"])
            lines.append(f'unknown key "{key}" (known here: {", ".join(known)}).{did_you_mean(str(problem["loc"][-1]), known)}')
        elif problem["type"] == "missing":
            lines.append(f'missing key "{key}": add it')
        elif "pseudonyms" in problem["loc"]:  # what stands there may be the key itself
            lines.append(f'"{key}": {problem["msg"].removeprefix("Value error, ")}')
        else:
            lines.append(f'"{key}": {problem["msg"].removeprefix("Value error, ")}, found {str(problem["input"])[:80]!r}')
    return ConfigError(f"{where}: " + "; ".join(lines))


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {k: _expand(v, where) for k, v in value.items()}
    if isinstance(value, list):
        return [_expand(v, where) for v in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match) -> str:
        name, default = match.group(1), match.group(3)
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(f"{where}: environment variable {name} is not set: export {name}=... (see README)")
        return found

    return re.sub(r"\$\{(\w+)(:-([^}]*))?\}", replace, value)


def _override(raw: dict[str, Any], override: str) -> None:
    """Apply one `section.key=value`. Raises ConfigError where the path does not lead through mappings."""
    key, found, value = override.partition("=")
    if not found:
        raise ConfigError(f'expected key=value after --set, found "{override}"')
    *parents, last = key.split(".")
    target = raw
    for parent in parents:
        target[parent] = {} if target.get(parent) is None else target[parent]
        target = target[parent]
        if not isinstance(target, dict):
            raise ConfigError(f'--set {override}: "{parent}" is {target!r} in the file and has no keys')
    try:
        target[last] = yaml.safe_load(value)
    except NO_YAML:
        raise ConfigError(f"--set {override}: expected a YAML value, found {value!r}") from None


def read_yaml(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """A YAML file as it stands, with `section.key=value` overrides. Raises ConfigError where it is no file, no YAML or no mapping."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"expected a YAML configuration at {path}, found no file: see configs/ for examples")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x} at byte {error.start}"
        raise ConfigError(f"{path}: expected UTF-8 text, found {found}: save it as UTF-8") from None
    except (*NO_YAML, OSError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping, such as of name, data and schema, found {type(raw).__name__}")
    for override in overrides or []:
        _override(raw, override)
    return raw


def validated(raw: dict[str, Any], where: str, kind: type[M]) -> M:
    """What `read_yaml` gave as a strict model. Raises ConfigError with `where`, key, what was found and the nearest valid name."""
    try:
        return kind.model_validate(_expand(raw, where))
    except ValidationError as error:
        raise explain(error, where, kind) from None


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file; `overrides` are `section.key=value` strings from the command line.

    Raises ConfigError with file, key, what was found and the nearest valid name.
    """
    return validated(read_yaml(path, overrides), str(path), Config)
