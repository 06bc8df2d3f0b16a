"""Commands that train and judge models: one function a command, from a validated configuration and parsed arguments to an exit status."""

import argparse
from pathlib import Path

from recllm.commands.common import recommender_of, say, typed
from recllm.config import Config
from recllm.errors import ConfigError


def train(config: Config, args: argparse.Namespace) -> int:
    from recllm.training.run import train

    train(config, seed=args.seed, again=args.again, init_from=args.init_from, say=say)
    return 0


def tune(args: argparse.Namespace) -> int:
    from recllm.training.tune import tune

    print(tune(args.search, args.set, trials=args.trials, again=args.again, say=say).text())
    return 0


def evaluate(config: Config, args: argparse.Namespace) -> int:
    from recllm.evaluation.drops import drops
    from recllm.evaluation.page.plots import require
    from recllm.evaluation.report import slices_text, text
    from recllm.recommend.report import write_report
    from recllm.training.results import read, results, write

    if args.results and (args.seeds or args.out or args.export_features or args.strategies or args.also):
        raise ConfigError("--results takes figures that stand already: leave out --seeds, --out, --also, --strategies and "
                          "--export-features, or --results")
    if args.strategies and (args.check_baseline or args.report or args.also or args.export_features):
        raise ConfigError("--strategies measures lists instead of predictions: call it without --check-baseline, --report, --also and "
                          "--export-features")
    committed = read(args.check_baseline) if args.check_baseline else None  # a wrong file is found before anything is scored
    if args.report:
        require()  # so is a missing extra
    if args.results:
        found = read(args.results)
    else:
        command = typed(args, "evaluate")
        if args.strategies:
            return _strategies(config, args.seeds or [config.training.seed], command, args.out or config.folder / "strategies.json")
        also = {name: Path(file) for name, _, file in (pair.partition("=") for pair in args.also)}
        wrong = [name for name, file in also.items() if not name or str(file) == "." or name in ("recllm", *config.evaluation.baselines)]
        if wrong or len(also) < len(args.also):
            raise ConfigError(f"--also: expected NAME=FILE with names of their own, found {' '.join(args.also)}")
        found = results(config, args.seeds or [config.training.seed], command, export=args.export_features, also=also, say=say)
        write(found, args.out or config.folder / "results.json")
    print(text(found), slices_text(found), sep="\n\n")
    if not args.results:
        print(f"written to {args.out or config.folder / 'results.json'}")
    if args.report:
        write_report(config, found, args.report)
        print(f"report in {args.report}")
    worse = drops(found, committed, str(args.check_baseline)) if committed is not None else []
    for drop in worse:
        print(drop.text())
    return 1 if worse else 0


def _strategies(config: Config, seeds: list[int], command: str, out: Path) -> int:
    from recllm.recommend.strategy_file import strategy_results, text, write_entry

    found = strategy_results(config, seeds, command, say=say)
    write_entry(out, found)
    print(text(found))
    print(f"written to {out}")
    return 0


def update(config: Config, args: argparse.Namespace) -> int:
    from recllm.evaluation.update_report import text
    from recllm.recommend.update import EPOCHS, RATE, update
    from recllm.training.results import write

    found = update(config, args.days, args.seeds or [config.training.seed], typed(args, "update"), again=args.again, say=say,
                   epochs=EPOCHS if args.update_epochs is None else args.update_epochs, rate=RATE if args.rate is None else args.rate)
    out = args.out or config.folder / "update.json"
    write(found, out)
    print(text(found))
    print(f"written to {out}")
    return 0


def release(config: Config, args: argparse.Namespace) -> int:
    from recllm.release import push, release

    if not args.push and (args.private or args.revision or args.dry_run):
        raise ConfigError("--private, --revision and --dry-run: expected --push NAME beside them, found none")
    folder = release(config, seed=args.seed, folder=args.out, results=args.results, form=args.form, name=args.push, say=say)
    print(f'{folder}: transformers.pipeline("recommendation", model="{folder}", trust_remote_code=True)')
    if args.push:
        print(push(folder, args.push, private=args.private, revision=args.revision, dry_run=args.dry_run, say=say))
    return 0


def replay(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.replay import replay
    from recllm.training.run import load_trained

    found = replay(load_trained(config, args.seed), recommender_of(config, args.release), args.requests)
    print(found.text())
    return 0 if found.holds else 1
