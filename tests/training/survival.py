"""Strikes a training at many moments and in many ways, runs the same command again, and compares with a run that nobody disturbed.

`kills(n, seed)`: SIGKILL to one process, to all, to the launcher; SIGTERM and SIGINT; a disk that takes no more; in the middle of an
epoch, of a checkpoint's write, at an epoch's end, during evaluation, at the end, and at moments by the clock. `bitwise()`: one run that is
struck many times.
"""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml
from safetensors.torch import load_file

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.training import checkpoint
from tests.conftest import write_tiny_encoder
from tests.worlds import rich_config

ROOT = Path(__file__).parent.parent.parent
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no",
          "--dynamo_backend", "no"]  # fmt: skip
TRAINING = {"epochs": 3, "patience": 9, "tokens_per_batch": 256, "evaluations_per_epoch": 2, "checkpoint_steps": 3, "warmup_steps": 4}
PLACES = {"step": 12, "write": 30, "evaluation": 5, "epoch": 3, "finish": 1}  # counted things, and how many there are at least in a run
KINDS = {1: ("rank", "term", "int"), 2: ("launcher", "term", "rank", "all", "int")}  # by the number of processes
LIMIT = 240.0  # seconds for a run


class World:
    """A tiny log, prepared once; `expected` are the sums of a run of so many processes that nobody disturbed."""

    def __init__(self, folder: Path, processes: int) -> None:
        self.folder, self.processes = folder, processes
        folder.mkdir(parents=True, exist_ok=True)
        config = rich_config(folder, write_tiny_encoder(folder / "encoder"))
        plain = config.model_dump(mode="json", by_alias=True) | {"root": str(folder / "runs")}
        plain["training"] |= TRAINING
        self.path, self.config = folder / "rich.yaml", Config.model_validate(plain)
        self.path.write_text(yaml.safe_dump(plain, sort_keys=False))
        prepare(self.config, say=lambda _: None)
        code, said = self.run("whole")
        if code:
            raise RuntimeError(said[-3000:])
        timings = (self.run_folder("whole") / "timings.jsonl").read_text().splitlines()
        self.seconds = json.loads(timings[-1])["seconds"]  # of training alone
        self.expected = sums(self.run_folder("whole"))

    def run_folder(self, name: str) -> Path:
        return self.folder / name / "rich" / "seed-0"

    def command(self, name: str) -> list[str]:
        launch = [*LAUNCH, "--num_processes", str(self.processes), "--main_process_port", "0"] if self.processes > 1 else [sys.executable]
        return [*launch, str(ROOT / "tests/training/victim.py"), str(self.path), "--set", f"root={self.folder / name}"]

    def start(self, name: str, aim: dict[str, Any] | None = None) -> subprocess.Popen:
        home = self.folder / name / "rich"
        if not home.exists():
            home.mkdir(parents=True)
            (home / "prepared").symlink_to(self.config.prepared)
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(2 // self.processes), "HF_HUB_OFFLINE": "1",
                       "PYTHONPATH": str(ROOT), "STRIKE": json.dumps(aim or {}), "STRUCK": str(self.folder / name / "struck")}  # fmt: skip
        with (self.folder / name / "said").open("w") as said:
            return subprocess.Popen(self.command(name), stdout=said, stderr=said, env=environment, start_new_session=True)

    def run(self, name: str, aim: dict[str, Any] | None = None) -> tuple[int, str]:
        """(exit status, what was said) of a run to its end, whatever that is; an aim with `moment` (seconds after training began) is struck
        from here."""
        by_clock = aim is not None and "moment" in aim
        child = self.start(name, None if by_clock else aim)
        if by_clock:
            begun = self.run_folder(name) / "timings.jsonl"
            while not begun.exists() and child.poll() is None:
                time.sleep(0.02)
            time.sleep(aim["moment"])
            for process in (*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)):
                process.kill()
        return child.wait(LIMIT), (self.folder / name / "said").read_text()


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that must not depend on interruptions: best and last weights, optimiser, progress, the metrics file."""
    last = checkpoint.newest(folder, remove=False)
    assert last is not None

    def of(parts: list[tuple[str, torch.Tensor]]) -> str:
        return hashlib.sha256(b"".join(name.encode() + value.numpy().tobytes() for name, value in parts)).hexdigest()

    own = checkpoint.load_optimizer(last)
    state = [(f"{k}.{n}", v) for k, values in sorted(own.pop("optimizer")["state"].items()) for n, v in sorted(values.items())]
    position = {k: v for k, v in (checkpoint.position(folder / "best") or {}).items() if k != "seconds"}
    return {"best": of(sorted(load_file(folder / "best" / checkpoint.WEIGHTS).items())),
            "weights": of(sorted(load_file(last / checkpoint.WEIGHTS).items())), "optimiser": of([*state, *sorted(own.items())]),
            "progress": hashlib.sha256(json.dumps(position, sort_keys=True).encode()).hexdigest(),
            "log": hashlib.sha256((folder / "log.jsonl").read_bytes()).hexdigest()}  # fmt: skip


def whole_sum(found: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def running(text: str) -> list[int]:
    """Processes whose command line holds a text."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if text in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def strike(world: World, name: str, aim: dict[str, Any]) -> dict[str, Any]:
    """Strike a run once: what came of it."""
    code, said = world.run(name, aim)
    struck = world.folder / name / "struck"
    hit = "moment" in aim or struck.is_file()
    ended, until = time.time(), time.monotonic() + 60
    while (left := running(str(world.folder / name))) and time.monotonic() < until:  # orphans of a killed launcher stop after their step
        time.sleep(0.2)
        ended = time.time()
    stopped = ended - json.loads(struck.read_text())["time"] if struck.is_file() else None
    struck.unlink(missing_ok=True)
    checks = {"hit": hit and code != 0, "left": not left}
    if aim["kind"] in ("term", "int"):
        checks["within_30_s"] = stopped is not None and stopped < 30
        checks["says_so"] = "a checkpoint is written: the same command goes on" in said or "Signals" in said or aim["at"] == "finish"
        if world.processes == 1:
            checks["status"] = code == {"term": 143, "int": 130}[aim["kind"]]
    if aim["kind"] == "disk":
        checks["says_so"] = "expected room for a checkpoint" in said
    return {**aim, "processes": world.processes, "status": code, "stopped_s": stopped and round(stopped, 1), "checks": checks,
            "said": "" if all(checks.values()) else said[-1500:]}


def survived(world: World, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Run the same command again and compare."""
    code, said = world.run(name)
    found = sums(world.run_folder(name)) if code == 0 else {}
    entry["apart"] = sorted(k for k, v in world.expected.items() if found.get(k) != v)
    entry["survived"] = code == 0 and not entry["apart"] and all(entry["checks"].values())
    if code:
        entry["said"] += said[-1500:]
    return entry


def aims(n: int, rng: random.Random, seconds: dict[int, float]) -> list[dict[str, Any]]:
    """n strikes: places and kinds in turn, on one and on two processes; every fifth by the clock, every second in a write a full disk."""
    found: list[dict[str, Any]] = []
    places, writes, kinds = itertools.cycle(PLACES), itertools.cycle(("kind", "disk")), {p: itertools.cycle(KINDS[p]) for p in KINDS}
    for k in range(n):
        processes = 1 + k % 2
        if k % 5 == 4:
            found.append({"kind": "all", "moment": round(seconds[processes] * rng.uniform(0.0, 0.8), 2), "processes": processes})
            continue
        at = next(places)
        kind = "disk" if at == "write" and next(writes) == "disk" else next(kinds[processes])
        who = 0 if at == "write" or processes == 1 else rng.randrange(2)
        found.append({"at": at, "n": rng.randint(1, PLACES[at]), "kind": kind, "rank": who, "processes": processes})
    return found


def kills(n: int, seed: int, folder: Path | None = None) -> dict[str, Any]:
    """`kills`, `kills_survived` and the log: each strike, and whether the same command then finished with equal results."""
    rng, log = random.Random(seed), []
    with tempfile.TemporaryDirectory(dir=folder) as name:
        worlds = {p: World(Path(name) / str(p), p) for p in (1, 2)}
        for k, aim in enumerate(aims(n, rng, {p: w.seconds for p, w in worlds.items()})):
            world = worlds[aim.pop("processes")]
            log.append(survived(world, f"kill-{k}", strike(world, f"kill-{k}", aim)))
            print(json.dumps(log[-1]), file=sys.stderr, flush=True)
    return {"kills": len(log), "kills_survived": sum(e["survived"] for e in log), "log": log}


CHAIN = [("step", 5, "rank"), ("write", 3, "rank"), ("evaluation", 1, "rank"), ("step", 2, "term"), ("epoch", 2, "rank"),
         ("finish", 1, "rank")]  # fmt: skip


def bitwise(folder: Path | None = None) -> dict[str, Any]:
    """One run that is killed in the middle of an epoch, of a checkpoint's write, during an evaluation, stopped by SIGTERM, killed at an
    epoch's end and at its own, against an undisturbed one: the SHA-256 of weights, optimiser, progress and metrics of both."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        world = World(Path(name), 1)
        struck = [strike(world, "struck", {"at": at, "n": n, "kind": kind, "rank": 0}) for at, n, kind in CHAIN]
        entry = survived(world, "struck", {"checks": {"hit": all(e["checks"]["hit"] for e in struck)}, "said": ""})
        for one in struck:
            print(json.dumps(one), file=sys.stderr, flush=True)
        found = sums(world.run_folder("struck"))
    return {"bitwise_resume": entry["survived"], "sha256_uninterrupted": whole_sum(world.expected), "sha256_resumed": whole_sum(found)}


if __name__ == "__main__":
    kind, *numbers = sys.argv[1:]
    result = bitwise() if kind == "bitwise" else kills(*(int(x) for x in numbers))
    print(json.dumps(result, indent=1))
