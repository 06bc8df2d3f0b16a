"""Commands on raw logs: one function a command, from a validated configuration and parsed arguments to an exit status."""

import argparse
from pathlib import Path

from recllm.commands.common import say
from recllm.config import Config
from recllm.errors import ConfigError

PROBLEMS_SHOWN = 20


def prepare(config: Config, args: argparse.Namespace) -> int:
    from recllm.data.append import append
    from recllm.data.prepare import check, prepare
    from recllm.data.report import reasons
    from recllm.data.stopped import stoppable

    if args.rewrite and not args.append:
        raise ConfigError("--rewrite: expected new files beside it, found none: say --append FILE... --rewrite")
    if not args.check:
        with stoppable("prepare"):
            report = (append(config, args.append, rewrite=args.rewrite, say=say) if args.append
                      else prepare(config, reuse=not args.again, say=say))
        print(report.text(config))
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


def pseudonym(config: Config, args: argparse.Namespace) -> int:
    from recllm.data.pseudonyms import read_key

    key = read_key(config)
    if key is None:
        raise ConfigError("expected data.pseudonyms in the config, found none: ids are written as they are")
    print(*map(key.of, args.user), sep="\n")
    return 0


def forget(config: Config, args: argparse.Namespace) -> int:
    """1: something of a user is still found."""
    from recllm.recommend.forget import forget

    found = forget(config, args.user, args.outputs, say=say)
    print(found.text())
    return 1 if found.left else 0


def schema(args: argparse.Namespace) -> int:
    """Propose a configuration for raw files. 1: a required role could not be told, and its line waits to be filled in."""
    from recllm.data.propose.guess import propose
    from recllm.data.propose.write import name_of_source, next_step, table, write_yaml

    proposal = propose(args.file, items=args.items, users=args.users, format=args.format, delimiter=args.delimiter, encoding=args.encoding,
                       told=dict(pair.split("=", 1) for pair in args.role))
    out = args.out or Path(f"{name_of_source(args.file)}.yaml")
    write_yaml(proposal, out, again=args.again)
    print(table(proposal), next_step(proposal, out), sep="\n\n")
    return 1 if proposal.missing else 0
