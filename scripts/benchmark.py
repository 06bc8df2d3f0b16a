#!/usr/bin/env python
"""Measure, and write what was measured with its command.

scripts/benchmark.py prepare                            # results/prepare.json: about an hour on two quiet cores
scripts/benchmark.py prepare --only cost --rounds 1     # one part, printed; the file keeps its other parts
scripts/benchmark.py core --threads 2                   # results/speed.json (speed-gpu.json on CUDA): some minutes, nothing else running
scripts/benchmark.py core --rounds 1                    # a look: printed, not written
scripts/benchmark.py training                           # results/training.json: about ten minutes; --only kills for one part
"""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the measured things lie in tests/, which is not installed
ROUNDS = 5  # fewer paired rounds are a look, no measurement


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for: cost, executors, kills, leaks, fuzz."""
    from tests.data.fuzz import fuzz
    from tests.data.leaks import leaks
    from tests.speed.prepare import cost, executors

    found: dict[str, Any] = {}
    with TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        if "cost" in args.only:
            found |= cost(folder, args.events, args.memory, args.rounds, say)
        if "executors" in args.only:
            found["events_per_cpu_s"] = executors(folder, args.events // 10, args.memory)
    if "kills" in args.only:
        from tests.data.kills import kills

        killed = kills(args.kills, args.seed)
        shown = ("aim", "kind", "moment", "stage", "finished", "redone", "equal")
        found |= {name: value for name, value in killed.items() if name != "log"}
        found["kill_log"] = [{name: kill.get(name) for name in shown} for kill in killed["log"]]
    if "leaks" in args.only:
        found |= {name: value for name, value in leaks(args.impressions, args.seed).items() if name in ("compared", "leaks_found")}
    if "fuzz" in args.only:
        found |= {name: value for name, value in fuzz(args.fuzz, args.seed).items() if name in ("fuzz_cases", "tracebacks")}
    return found


def write_parts(args: argparse.Namespace, found: dict[str, Any]) -> int:
    """The file keeps the parts that were not asked for, each with its command."""
    standing = json.loads(args.out.read_text()) if args.out.is_file() else {}
    commands = standing.get("commands", {}) | dict.fromkeys(args.only, command())
    return write(args.out, {**standing, **found, "commands": commands, "machine": machine()})


def core(args: argparse.Namespace) -> dict[str, Any]:
    """The core against a flat text cross-encoder; imports nothing that a machine with torch, transformers and peft lacks."""
    import torch

    from tests.speed.core import core as measure
    from tests.speed.fitted import missing

    if not args.log.is_dir():
        raise SystemExit(missing(args.log))
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = {package: version(package) for package in ("torch", "transformers", "peft", "numpy")}
    return {"device": name, "precision": "bfloat16" if device.type == "cuda" else "float32", "threads": args.threads,
            "versions": versions, **measure(args.log, device, args.rounds, say)}


def write_core(args: argparse.Namespace, found: dict[str, Any]) -> int:
    """Nothing is written of a void run (status 1), nor of fewer than five rounds."""
    from tests.speed.core import void

    reason = void(found)
    if reason:
        say(reason)
        return 1
    if args.rounds < ROUNDS:
        say(f"not written: expected at least {ROUNDS} rounds, found {args.rounds}")
        return 0
    default = "speed.json" if found["device"] == "cpu" else "speed-gpu.json"
    return write(args.out or ROOT / "results" / default, {**found, "command": command(), "machine": machine()})


def training(args: argparse.Namespace) -> dict[str, Any]:
    """The parts asked for: what a training survives, on how many processes it is the same, what it costs and leaves."""
    from tests.speed import shipping
    from tests.speed.fitted import missing

    if "shipped" in args.only and not args.log.is_dir():
        raise SystemExit(missing(args.log))
    given: dict[str, tuple[Any, ...]] = {"kills": (args.kills, args.seed), "shipped": (args.log,)}
    found: dict[str, Any] = {}
    for part in args.only:
        found |= getattr(shipping, part)(say, *given.get(part, ()))
        say(f"{part} done")
    return found


def write(path: Path, found: dict[str, Any]) -> int:
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def command() -> str:
    from recllm.evaluation.command import kept_command

    return kept_command(shlex.join(["scripts/benchmark.py", *sys.argv[1:]]))


def machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}"


def parser() -> argparse.ArgumentParser:
    """One subcommand a thing to measure; each sets `measure` and `keep`."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = whole.add_subparsers(dest="kind", required=True)

    def add(name: str, text: str, measure: Callable[..., Any], keep: Callable[..., int], rounds: int) -> argparse.ArgumentParser:
        kind = kinds.add_parser(name, help=text)
        kind.set_defaults(measure=measure, keep=keep)
        kind.add_argument("--rounds", type=int, default=rounds)
        return kind

    parts = ("cost", "executors", "kills", "leaks", "fuzz")
    kind = add("prepare", "preparation against a plain sort of the same log", prepare, write_parts, 3)
    kind.add_argument("--only", nargs="+", choices=parts, default=parts)
    kind.add_argument("--events", type=int, default=20_000_000)
    kind.add_argument("--memory", type=int, default=2_000_000_000, help="bytes, of the whole run and of the sort")
    kind.add_argument("--kills", type=int, default=50, help="fewer do not reach every stage five times")
    kind.add_argument("--fuzz", type=int, default=2_000)
    kind.add_argument("--impressions", type=int, default=50_000)
    kind.add_argument("--seed", type=int, default=0)
    kind.add_argument("--folder", type=Path, help="where the logs are made; default: the system's folder for temporary files")
    kind.add_argument("--out", type=Path, default=ROOT / "results" / "prepare.json")
    kind = add("core", "the core against a flat text cross-encoder, on MovieLens", core, write_core, ROUNDS)
    kind.add_argument("--log", type=Path, default=ROOT / "cache" / "ml-100k", help="folder of ml-100k.inter and ml-100k.item")
    kind.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of both sides, and of the plain product")
    kind.add_argument("--out", type=Path, help="default: results/speed.json, on CUDA results/speed-gpu.json")
    parts = ("kills", "bitwise", "processes", "balance", "growth", "shipped", "large")
    kind = add("training", "what a training survives, on how many processes it is the same, what it leaves", training, write_parts, 1)
    kind.add_argument("--only", nargs="+", choices=parts, default=parts)
    kind.add_argument("--kills", type=int, default=20)
    kind.add_argument("--seed", type=int, default=0)
    kind.add_argument("--log", type=Path, default=ROOT / "cache" / "ml-100k", help="folder of ml-100k.inter and its tables")
    kind.add_argument("--out", type=Path, default=ROOT / "results" / "training.json")
    return whole


def main() -> int:
    args = parser().parse_args()
    found = args.measure(args)
    print(json.dumps(found, indent=1))
    return args.keep(args, found)


if __name__ == "__main__":
    raise SystemExit(main())
