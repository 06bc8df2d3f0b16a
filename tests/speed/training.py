"""What a training costs before its first step, and whether it grows. `python -m tests.speed.training first|growth YAML` is such a run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parent.parent.parent
FROM, TO = 200, 2_200  # steps between which memory may not grow


class Enough(BaseException):
    """Ends a run from within."""


def _since_start() -> float:
    """Seconds since this process began."""
    return time.time() - psutil.Process().create_time()


def _until(path: str, last: int, at: dict[int, Any], look: Any) -> None:
    """Train by a YAML until step `last`, leaving `look()` in `at` after each step that is a key of it."""
    from recllm.config import load_config
    from recllm.training.loop import Trainer
    from recllm.training.run import train

    step = Trainer._step

    def stepped(self: Any, *args: Any) -> None:
        step(self, *args)
        if self.progress.step in at:
            at[self.progress.step] = look()
        if self.progress.step >= last:
            raise Enough

    Trainer._step = stepped
    try:
        train(load_config(path), again=True, say=lambda _: None)
    except Enough:
        return


def _first(path: str) -> dict[str, float]:
    """Seconds from the process's start to its first step done, and of the part that no code can save: imports, and loading the weights."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import transformers  # noqa: F401

    from recllm.config import load_config
    from recllm.training.run import train  # noqa: F401
    from recllm.training.setup import load_pretrained

    load_pretrained(load_config(path).model.encoder)
    needed, found = _since_start(), {1: 0.0}
    _until(path, 1, found, _since_start)
    return {"needed_s": needed, "first_step_s": found[1]}


def _growth(path: str) -> dict[str, float]:
    """Resident memory in MB at two steps."""
    found = {FROM: 0.0, TO: 0.0}
    _until(path, TO, found, lambda: psutil.Process().memory_info().rss / 1e6)
    return {"from_mb": found[FROM], "to_mb": found[TO]}


def _child(kind: str, path: Path, **environment: str) -> dict[str, float]:
    found = subprocess.run([sys.executable, "-m", "tests.speed.training", kind, str(path)], capture_output=True, text=True, cwd=ROOT,
                           env={**os.environ, "HF_HUB_OFFLINE": "1", **environment})
    if found.returncode:
        raise RuntimeError(found.stderr[-3000:])
    return json.loads(found.stdout.strip().splitlines()[-1])


def first_step_ratio(path: Path, rounds: int = 3) -> dict[str, float]:
    """`first_step_ratio` of a prepared log's YAML: start to first step over imports and loading the weights; the median of some rounds
    after one that fills caches (vectors of the items' texts, the system's of files)."""
    _child("first", path)
    found = sorted((_child("first", path) for _ in range(rounds)), key=lambda f: f["first_step_s"] / f["needed_s"])[rounds // 2]
    return {"first_step_ratio": found["first_step_s"] / found["needed_s"], **found}


def growth() -> dict[str, float]:
    """`rss_growth_mb` of a tiny training from step 200 to 2,200."""
    from recllm.config import Config
    from recllm.data.prepare import prepare
    from tests.conftest import write_tiny_encoder
    from tests.worlds import rich_config

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = rich_config(folder, write_tiny_encoder(folder / "encoder"))
        plain = config.model_dump(mode="json", by_alias=True) | {"root": str(folder / "runs")}
        plain["training"] |= {"tokens_per_batch": 256, "epochs": 2_000, "patience": 10**6, "checkpoint_steps": 100}
        path = folder / "rich.yaml"
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        prepare(Config.model_validate(plain), say=lambda _: None)
        found = _child("growth", path, OMP_NUM_THREADS="1")
    return {"rss_growth_mb": found["to_mb"] - found["from_mb"], **found}


if __name__ == "__main__":
    kind, path = sys.argv[1:]
    print(json.dumps({"first": _first, "growth": _growth}[kind](path)))
