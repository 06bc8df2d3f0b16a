"""What each command does: one function a command, from a validated configuration and parsed arguments to an exit status.

Heavy modules are imported where they are used: `recllm prepare --check` needs no torch.
"""

import argparse
import sys
from pathlib import Path

from recllm.config import Config
from recllm.errors import ConfigError, did_you_mean

PROBLEMS_SHOWN = 20


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _typed(args: argparse.Namespace, name: str) -> str:
    """The command to record in a results file: as given with --command, else as typed."""
    given = sys.argv[1:]
    return args.command_name or " ".join([f"scripts/{name}.py", *(given[1:] if given[:1] == [name] else given)])


def prepare(config: Config, args: argparse.Namespace) -> int:
    from recllm.data.append import append
    from recllm.data.prepare import check, prepare
    from recllm.data.report import reasons
    from recllm.data.stopped import stoppable

    if args.rewrite and not args.append:
        raise ConfigError("--rewrite: expected new files beside it, found none: say --append FILE... --rewrite")
    if not args.check:
        with stoppable("prepare"):
            report = (append(config, args.append, rewrite=args.rewrite, say=_say) if args.append
                      else prepare(config, reuse=not args.again, say=_say))
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

    found = forget(config, args.user, args.outputs, say=_say)
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


def train(config: Config, args: argparse.Namespace) -> int:
    from recllm.training.run import train

    train(config, seed=args.seed, again=args.again, init_from=args.init_from, say=_say)
    return 0


def tune(args: argparse.Namespace) -> int:
    from recllm.training.tune import tune

    print(tune(args.search, args.set, trials=args.trials, again=args.again, say=_say).text())
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
        command = _typed(args, "evaluate")
        if args.strategies:
            return _strategies(config, args.seeds or [config.training.seed], command, args.out or config.folder / "strategies.json")
        also = {name: Path(file) for name, _, file in (pair.partition("=") for pair in args.also)}
        wrong = [name for name, file in also.items() if not name or str(file) == "." or name in ("recllm", *config.evaluation.baselines)]
        if wrong or len(also) < len(args.also):
            raise ConfigError(f"--also: expected NAME=FILE with names of their own, found {' '.join(args.also)}")
        found = results(config, args.seeds or [config.training.seed], command, export=args.export_features, also=also, say=_say)
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

    found = strategy_results(config, seeds, command, say=_say)
    write_entry(out, found)
    print(text(found))
    print(f"written to {out}")
    return 0


def release(config: Config, args: argparse.Namespace) -> int:
    from recllm.release import push, release

    if not args.push and (args.private or args.revision or args.dry_run):
        raise ConfigError("--private, --revision and --dry-run: expected --push NAME beside them, found none")
    folder = release(config, seed=args.seed, folder=args.out, results=args.results, form=args.form, name=args.push, say=_say)
    print(f'{folder}: transformers.pipeline("recommendation", model="{folder}", trust_remote_code=True)')
    if args.push:
        print(push(folder, args.push, private=args.private, revision=args.revision, dry_run=args.dry_run, say=_say))
    return 0


def _recommender(config: Config, release: Path | None):
    """The released recommender of a config."""
    from recllm.model.recommender_recllm import Recommender

    folder = release or config.release
    if not (folder / "config.json").is_file():
        raise ConfigError(f"expected a release in {folder}, found none: run scripts/release.py with this config first")
    return Recommender.from_pretrained(folder, base_encoder=config.model.encoder)


def predict(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.batch import predict_file

    rows = predict_file(_recommender(config, args.release), args.requests, args.out)
    print(f"{args.out}: {rows:,} candidates")
    return 0


def recommend(config: Config, args: argparse.Namespace) -> int:
    from recllm.feed.log import load_log
    from recllm.recommend.users import request_for, table

    if bool(args.user) == (args.all_users is not None or args.vectors is not None):
        raise ConfigError("expected either --user NAME ..., or --all-users OUT.parquet and --vectors FOLDER or one of these two")
    fields = dict(zip(args.rest[::2], args.rest[1::2], strict=False))
    declared = ["time", *config.columns.context]
    for flag in args.rest[::2]:
        name = flag.removeprefix("--")
        if not flag.startswith("--") or name not in declared or len(args.rest) % 2:
            raise ConfigError(f'"{flag}": expected --field value with a declared context field ({", ".join(declared)}).'
                              f"{did_you_mean(name, declared)}")
    if not args.user:
        return _everyone(config, args, {flag.removeprefix("--"): value for flag, value in fields.items()})
    from recllm.data.pseudonyms import written_id

    recommender = _recommender(config, args.release)
    context, log = {flag.removeprefix("--"): value for flag, value in fields.items()}, load_log(config)
    for user in args.user:
        request = request_for(log, recommender.processor.rows, written_id(config, user), context)
        print(f"user {user}: {len(request['history'])} events, {', '.join(f'{k} {v}' for k, v in request['context'].items())}")
        entries = recommender.recommend(request, top_k=5 if args.top_k is None else args.top_k)
        print(table(entries, config.recommend.title, config.columns.binary, config.columns.duration))
    return 0


def _everyone(config: Config, args: argparse.Namespace, context: dict[str, str]) -> int:
    """`recommend` for all users: lists, vectors, or both."""
    from recllm.feed.log import load_log
    from recllm.recommend.everyone import Everyone, recommend_all, write_vectors
    from recllm.recommend.parts import check_target

    if args.all_users is not None:
        check_target(args.all_users)  # before a model is loaded
    everyone = Everyone(config, load_log(config), _recommender(config, args.release), args.release or config.release, context)
    if args.vectors is not None:
        items, users = write_vectors(everyone, args.vectors)
        print(f"{args.vectors}: vectors of {items:,} items and {users:,} users; their dot product is the retrieval cosine")
    if args.all_users is not None:
        found = recommend_all(everyone, args.all_users, 10 if args.top_k is None else args.top_k)
        print(f"{args.all_users}: {found.text()}")
    return 0


def replay(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.replay import replay
    from recllm.training.run import load_trained

    found = replay(load_trained(config, args.seed), _recommender(config, args.release), args.requests)
    print(found.text())
    return 0 if found.holds else 1


def update(config: Config, args: argparse.Namespace) -> int:
    from recllm.evaluation.update_report import text
    from recllm.recommend.update import EPOCHS, RATE, update
    from recllm.training.results import write

    found = update(config, args.days, args.seeds or [config.training.seed], _typed(args, "update"), again=args.again, say=_say,
                   epochs=EPOCHS if args.update_epochs is None else args.update_epochs, rate=RATE if args.rate is None else args.rate)
    out = args.out or config.folder / "update.json"
    write(found, out)
    print(text(found))
    print(f"written to {out}")
    return 0


def showcase(config: Config, args: argparse.Namespace) -> int:
    from recllm.feed.log import load_log
    from recllm.recommend.showcase import showcase

    print(showcase(config, load_log(config), _recommender(config, args.release), args.user))
    return 0
