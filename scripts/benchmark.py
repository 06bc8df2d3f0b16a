#!/usr/bin/env python
"""Measure, and write what was measured with its command.

scripts/benchmark.py prepare                            # results/prepare.json: about an hour on two quiet cores
scripts/benchmark.py prepare --only cost --rounds 1     # one part, printed; the file keeps its other parts
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the measured things lie in tests/, which is not installed


def prepare(args: argparse.Namespace) -> dict:
    """The parts asked for: cost, executors, kills, leaks, fuzz."""
    from tests.data.fuzz import fuzz
    from tests.data.leaks import leaks
    from tests.speed.prepare import cost, executors

    found: dict = {}
    with TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        if "cost" in args.only:
            found |= cost(folder, args.events, args.memory, args.rounds, lambda text: print(text, file=sys.stderr, flush=True))
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("cost", "executors", "kills", "leaks", "fuzz")
    kind = parser.add_subparsers(dest="kind", required=True).add_parser("prepare", help="preparation against a plain sort of the same log")
    kind.add_argument("--only", nargs="+", choices=parts, default=parts)
    kind.add_argument("--events", type=int, default=20_000_000)
    kind.add_argument("--memory", type=int, default=2_000_000_000, help="bytes, of the whole run and of the sort")
    kind.add_argument("--rounds", type=int, default=3)
    kind.add_argument("--kills", type=int, default=50, help="fewer do not reach every stage five times")
    kind.add_argument("--fuzz", type=int, default=2_000)
    kind.add_argument("--impressions", type=int, default=50_000)
    kind.add_argument("--seed", type=int, default=0)
    kind.add_argument("--folder", type=Path, help="where the logs are made; default: the system's folder for temporary files")
    kind.add_argument("--out", type=Path, default=ROOT / "results" / "prepare.json")
    args = parser.parse_args()
    found = prepare(args)
    standing = json.loads(args.out.read_text()) if args.out.is_file() else {}
    commands = standing.get("commands", {}) | dict.fromkeys(args.only, " ".join(["scripts/benchmark.py", *sys.argv[1:]]))
    args.out.write_text(json.dumps({**standing, **found, "commands": commands, "machine": f"{platform.machine()}, Python "
                                    f"{platform.python_version()}"}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
