"""A run's folder: who writes it, what it was made of and with, and how another config differs from that."""

import fcntl
import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.whole import whole_file
from recllm.data.work import FINGERPRINT
from recllm.errors import TrainingError

ABOUT, MARK = "run.json", "mark"
NEUTRAL = {"trackers", "seed", "spike", "keep_checkpoints", "checkpoint_minutes", "checkpoint_steps"}  # no weight depends on them
LATER = {"accumulation": 1, "gradient_checkpointing": False, "precision": "no"}  # said where it is not as it was before they were settings
PACKAGES = ("recllm", "torch", "transformers", "accelerate", "peft", "safetensors", "numpy", "pandas", "duckdb")
PATIENCE = 30.0  # seconds for the processes of a killed launcher to end
SHOWN = 5


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Around a run's main process. Raises TrainingError where another run still writes the folder after half a minute."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > until:
                    raise TrainingError(f"{folder}: expected a folder that no other process writes, found a training at work in it: wait "
                                        f"for it, or stop it with SIGTERM") from None
                time.sleep(0.2)
        yield


# ---- what decides a run


def fingerprint(config: Config) -> str:
    path = config.prepared / FINGERPRINT
    return path.read_text() if path.is_file() else ""


def _fields(training: dict[str, Any]) -> set[str]:
    return {n for n, v in training.items() if n not in NEUTRAL and (n not in LATER or v != LATER[n])}


def mark_of(config: Config, origin: str) -> str:
    """Hash of what decides a run: the prepared log, the model, the training settings, and the release that it goes on from."""
    plain = config.model_dump_json(include={"model": True, "training": _fields(config.training.model_dump())})
    return hashlib.sha256((fingerprint(config) + plain + origin).encode()).hexdigest()


def differences(folder: Path, config: Config, origin: str) -> list[str]:
    """`training.epochs is 2 here and 1 in the run` for each thing in which a config differs from the run that a folder holds."""
    path = folder / ABOUT
    if not path.is_file():
        return ["its data or settings (model, training, --init-from)"]
    then, now = json.loads(path.read_text(encoding="utf-8")), config.model_dump(mode="json", by_alias=True)
    found = []
    for section in ("model", "training"):
        own, old = now[section], then["config"][section]
        skipped = NEUTRAL if section == "training" else set()
        found += [f"{section}.{key} is {json.dumps(own.get(key))} here and {json.dumps(old.get(key))} in the run"
                  for key in {**own, **old} if key not in skipped and own.get(key) != old.get(key)]
    if then["data"] != fingerprint(config):
        found.append(f"the prepared log is {fingerprint(config)[:12]} here and {then['data'][:12]} in the run")
    if then["origin"] != _sum(origin):
        found.append("the run went on from another release, or one of both from none (--init-from)")
    return found


def refusal(folder: Path, config: Config, origin: str, what: str) -> TrainingError:
    """The error that names what differs and what to do."""
    found = differences(folder, config, origin)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return TrainingError(f"{folder} holds {what} of other data or settings: {'; '.join(found[:SHOWN])}{more}: use the run's own, pass "
                         f"--again to replace it, or set RECLLM_RUNS to keep both")


# ---- what it was made of and with


def write_about(folder: Path, config: Config, seed: int, origin: str, processes: int, device: str) -> None:
    """`run.json`: everything that says how the run came to be."""
    about = {"seed": seed, "processes": processes, "device": device, "commit": commit(), "versions": versions(),
             "data": fingerprint(config), "origin": _sum(origin), "config": config.model_dump(mode="json", by_alias=True)}
    with whole_file(folder / ABOUT) as part:
        part.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The commit of the repository in which the command runs, `unknown` outside of one."""
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else ""
