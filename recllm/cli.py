"""The command line: `recllm prepare configs/shop.yaml`. Each script in scripts/ is one of these commands."""

import argparse
import sys
from collections.abc import Callable

from recllm.config import Config, load_config
from recllm.errors import RecllmError

PROBLEMS_SHOWN = 20


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _prepare(config: Config, args: argparse.Namespace) -> int:
    from recllm.data.prepare import check, prepare
    from recllm.data.report import reasons

    if not args.check:
        print(prepare(config, reuse=not args.again, say=_say).text(config))
        return 0
    words, found = reasons(config), 0
    for path, result in check(config):
        dropped = sum(result.dropped.values())
        found += dropped
        print(f"{path}: {result.rows:,} rows, {dropped:,} with a problem")
        for rule, count in [*sorted(result.dropped.items()), *sorted(result.mended.items())]:
            print(f"  {count:>9,}  {rule}: {words.get(rule, 'set to unknown, the row is kept')}")
        for line, rule, row in result.problems[:PROBLEMS_SHOWN]:
            print(f"{path}:{line}: {rule}: {(row or '')[:200]}")
    return 1 if found else 0


def _train(config: Config, args: argparse.Namespace) -> int:
    from recllm.training.run import train

    train(config, seed=args.seed, again=args.again)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recllm", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable[[Config, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("config", help="a YAML file, see configs/")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as training.minutes=2")
        command.set_defaults(run=run)
        return command

    prepare = add("prepare", _prepare, "clean, join, order and split a raw log")
    prepare.add_argument("--check", action="store_true", help="only validate; list the first problems with their lines; write nothing")
    prepare.add_argument("--again", action="store_true", help="prepare even when the folder is up to date")
    training = add("train", _train, "train the tasks jointly on a prepared log; alone or under accelerate launch")
    training.add_argument("--seed", type=int, help="default: training.seed")
    training.add_argument("--again", action="store_true", help="start over; else an interrupted run goes on, a finished one is kept")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Ends with 2 and one line on stderr when the input is at fault."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(load_config(args.config, args.set), args))
    except RecllmError as error:
        print(f"recllm: {error}", file=sys.stderr)
        return 2
