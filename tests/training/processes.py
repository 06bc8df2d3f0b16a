"""One process equals N: the same update, every impression once, tokens spread evenly. For tests and the benchmark."""

import functools
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.feed import split
from recllm.feed.batches import plan
from tests.conftest import write_tiny_encoder
from tests.worlds import rich_config

ROOT = Path(__file__).parent.parent.parent
WORKER = str(ROOT / "tests/training/process_worker.py")
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
LIMIT = 300  # seconds
PERCENTILE = 95


@contextmanager
def world() -> Iterator[tuple[Path, Path]]:
    """(folder, YAML) of a tiny log that is prepared; default optimiser and rates, no dropout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = rich_config(folder, write_tiny_encoder(folder / "encoder"), dropout=0.0, item_id_dropout=0.0)
        plain = config.model_dump(mode="json", by_alias=True) | {"root": str(folder / "runs")}
        plain["training"] = {"tokens_per_batch": 400}
        path = folder / "rich.yaml"
        path.write_text(yaml.safe_dump(plain, sort_keys=False))
        prepare(Config.model_validate(plain), say=lambda _: None)
        yield folder, path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def commands(arguments: list[str], processes: int, nodes: int) -> list[list[str]]:
    """One command for each node: `processes` in all."""
    if processes == 1:
        return [[sys.executable, WORKER, *arguments]]
    where = ["--num_processes", str(processes), "--num_machines", str(nodes), "--main_process_port", str(free_port())]
    if nodes > 1:
        where += ["--main_process_ip", "127.0.0.1", "--same_network"]
    return [[*LAUNCH, *where, "--machine_rank", str(node), WORKER, *arguments] for node in range(nodes)]


def run(folder: Path, path: Path, dtype: str, processes: int, nodes: int = 1) -> dict[str, Any]:
    """What the worker leaves, and with it the `rows` that all processes trained, by epoch and request."""
    out = folder / f"{dtype}-{processes}-{nodes}"
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    with (folder / "said").open("w+") as said:
        children = [subprocess.Popen(command, env=environment, stdout=said, stderr=said)
                    for command in commands([str(path), str(out), dtype], processes, nodes)]
        if any([child.wait(LIMIT) for child in children]):
            said.seek(0)
            raise RuntimeError(said.read()[-3000:])
    each = [torch.load(f"{out}.{rank}", weights_only=False) for rank in range(processes)]
    rows = [functools.reduce(lambda a, b: a + b, epoch, Counter()) for epoch in zip(*each, strict=True)]
    return {**torch.load(out, weights_only=False), "rows": rows}


def _flat(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([values[name].double().flatten() for name in sorted(values)])


def distance(one: dict[str, Any], many: dict[str, Any]) -> float:
    """How far two runs ended from each other, over how far the first travelled."""
    return float((_flat(one["after"]) - _flat(many["after"])).norm() / (_flat(one["after"]) - _flat(one["before"])).norm())


def first_gradients(one: dict[str, Any], many: dict[str, Any]) -> float:
    return float((_flat(one["gradients"]) - _flat(many["gradients"])).norm() / _flat(one["gradients"]).norm())


def losses_apart(one: dict[str, Any], many: dict[str, Any]) -> float:
    a, b = np.array(one["losses"]), np.array(many["losses"])
    return float(np.max(np.abs(a - b) / np.abs(a)))


def once(found: dict[str, Any]) -> bool:
    """Whether every epoch trained every row of every request exactly once."""
    return bool(found["rows"]) and all(epoch == found["expected"] for epoch in found["rows"])


def process_difference(n: int, nodes: int = 1) -> float:
    """Distance of the weights of `n` processes (on `nodes` launchers) from those of one, over the distance travelled: 50 steps, float64."""
    with world() as (folder, path):
        return distance(run(folder, path, "float64", 1), run(folder, path, "float64", n, nodes))


# ---- balance


def typical_sizes(n: int = 1_000, seed: int = 0) -> np.ndarray:
    """(n, 2) events and candidate-stream tokens as MovieLens' windows have them: 5, 50 and 95% of their sums are 52, 185 and 498."""
    rng = np.random.default_rng(seed)
    candidates = np.clip(rng.lognormal(4.5, 0.75, n), 10, 400).astype(np.int64)
    return np.stack([np.where(rng.random(n) < 0.4, 0, rng.integers(80, 201, n)), candidates], axis=1)


def imbalance(sizes: np.ndarray | None = None, ranks: int = 4, budget: int = 4 * 1_536, profile: int = 32) -> float:
    """How much longer than an even share the fullest process's is, at the 95th percentile of an epoch's steps. `sizes` are those of
    `Examples`; `budget` is of the global batch, the default budget of one process times `ranks`."""
    sizes = typical_sizes() if sizes is None else sizes
    tokens = sizes.sum(1) + profile
    found = [split.imbalance(tokens[batch], split.shares(tokens[batch], ranks)) for batch in plan(tokens[:, None], budget, [0, 0])]
    return float(np.percentile(found, PERCENTILE))


if __name__ == "__main__":
    print({f"{n} processes on {k}": process_difference(n, k) for n, k in ((2, 1), (4, 1), (2, 2))}, imbalance())
