"""The command line: `recllm prepare configs/shop.yaml`. Each script in scripts/ is one of these commands."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from recllm.config import Config, load_config
from recllm.errors import ConfigError, RecllmError, did_you_mean

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

    train(config, seed=args.seed, again=args.again, init_from=args.init_from, say=_say)
    return 0


def _evaluate(config: Config, args: argparse.Namespace) -> int:
    from recllm.evaluation.drops import drops
    from recllm.evaluation.page.plots import require
    from recllm.evaluation.report import slices_text, text
    from recllm.recommend.report import write_report
    from recllm.training.results import read, results, write

    committed = read(args.check_baseline) if args.check_baseline else None  # a wrong file is found before anything is scored
    if args.report:
        require()  # so is a missing extra
    if args.results and (args.seeds or args.out or args.export_features):
        raise ConfigError("--results takes figures that stand already: leave out --seeds, --out and --export-features, or --results")
    if args.results:
        found = read(args.results)
    else:
        given = sys.argv[1:]
        command = args.command_name or " ".join(["scripts/evaluate.py", *(given[1:] if given[:1] == ["evaluate"] else given)])
        if args.strategies:
            return _strategies(config, args.seeds or [config.training.seed], command, args.out or config.folder / "strategies.json")
        found = results(config, args.seeds or [config.training.seed], command, export=args.export_features, say=_say)
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


def _release(config: Config, args: argparse.Namespace) -> int:
    from recllm.release import release

    folder = release(config, seed=args.seed, folder=args.out, results=args.results)
    print(f'{folder}: transformers.pipeline("recommendation", model="{folder}", trust_remote_code=True)')
    return 0


def _recommender(config: Config, release: Path | None):
    """The released recommender of a config."""
    from recllm.model.modeling_recllm import RecllmModel
    from recllm.model.processor_recllm import RecllmProcessor
    from recllm.model.recommender_recllm import Recommender

    folder = release or config.release
    if not (folder / "config.json").is_file():
        raise ConfigError(f"expected a release in {folder}, found none: run scripts/release.py with this config first")
    return Recommender(RecllmModel.from_pretrained(folder), RecllmProcessor.from_pretrained(folder))


def _predict(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.batch import predict_file

    rows = predict_file(_recommender(config, args.release), args.requests, args.out)
    print(f"{args.out}: {rows:,} candidates")
    return 0


def _recommend(config: Config, args: argparse.Namespace) -> int:
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
    recommender = _recommender(config, args.release)
    context, log = {flag.removeprefix("--"): value for flag, value in fields.items()}, load_log(config)
    for user in args.user:
        request = request_for(log, recommender.processor.rows, user, context)
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


def _replay(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.replay import replay
    from recllm.training.run import load_trained

    found = replay(load_trained(config, args.seed), _recommender(config, args.release), args.requests)
    print(found.text())
    return 0 if found.holds else 1


def _update(config: Config, args: argparse.Namespace) -> int:
    from recllm.evaluation.update_report import text
    from recllm.recommend.update import EPOCHS, RATE, update
    from recllm.training.results import write

    given = sys.argv[1:]
    command = " ".join(["scripts/update.py", *(given[1:] if given[:1] == ["update"] else given)])
    found = update(config, args.days, args.seeds or [config.training.seed], command, again=args.again, say=_say,
                   epochs=EPOCHS if args.update_epochs is None else args.update_epochs, rate=RATE if args.rate is None else args.rate)
    out = args.out or config.folder / "update.json"
    write(found, out)
    print(text(found))
    print(f"written to {out}")
    return 0


def _showcase(config: Config, args: argparse.Namespace) -> int:
    from recllm.feed.log import load_log
    from recllm.recommend.showcase import showcase

    print(showcase(config, load_log(config), _recommender(config, args.release), args.user))
    return 0


Run = Callable[[Config, argparse.Namespace], int]


def _daily_arguments(daily: argparse.ArgumentParser) -> None:
    daily.add_argument("--days", nargs="+", required=True, metavar="DATE", help="UTC test days in order, each validated on the day before")
    daily.add_argument("--seeds", type=int, nargs="+", help="default: training.seed")
    daily.add_argument("--out", type=Path, help="results file; default: update.json in the run's folder")
    daily.add_argument("--update-epochs", type=int, help="epochs of one update; default: 1")
    daily.add_argument("--rate", type=float, help="learning rates of an update, as a share of the config's; default: 0.25")
    daily.add_argument("--again", action="store_true", help="train everything anew; else finished trainings are reused")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recllm", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
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
    training.add_argument("--init-from", type=Path, metavar="RELEASE", help="go on from a release, on the train rows since its own")
    evaluate = add("evaluate", _evaluate, "metrics of trained seeds and baselines on the test split")
    evaluate.add_argument("--seeds", type=int, nargs="+", help="trained seeds; default: training.seed")
    evaluate.add_argument("--out", type=Path, help="results file; default: results.json in the run's folder")
    evaluate.add_argument("--strategies", action="store_true", help="instead: lists of every strategy, and the next item in the whole "
                          "catalogue; --out: strategies.json in the run's folder")
    evaluate.add_argument("--command", dest="command_name", help="what to record as the command; default: this one")
    evaluate.add_argument("--export-features", type=Path, metavar="FOLDER", help="also write the baselines' columns as Parquet")
    evaluate.add_argument("--results", type=Path, metavar="FILE", help="take this results file instead of evaluating again")
    evaluate.add_argument("--report", type=Path, metavar="HTML", help="also write one page of tables and plots; needs recllm[report]")
    evaluate.add_argument("--check-baseline", type=Path, metavar="FILE", help="end with 1 where recllm is worse than this results file's "
                                                                              "intervals allow")
    release = add("release", _release, "write a folder for the Hub from a trained seed")
    release.add_argument("--seed", type=int, help="default: training.seed")
    release.add_argument("--out", type=Path, help="default: release/ in the run's folder")
    release.add_argument("--results", type=Path, help="results file for the model card; default: results.json in the run's folder")
    predict = add("predict", _predict, "predictions for a JSON Lines file of requests")
    predict.add_argument("requests", type=Path)
    predict.add_argument("out", type=Path, help="Parquet file to write")
    recommend = add("recommend", _recommend, "lists for users of the prepared log; --FIELD VALUE for any context field, --time included")
    recommend.add_argument("--user", nargs="+", help="print the lists of these users")
    recommend.add_argument("--all-users", type=Path, metavar="OUT", help="write every user's list as Parquet; killed, call it again")
    recommend.add_argument("--vectors", type=Path, metavar="FOLDER", help="write item and user vectors for other search tools, as Parquet")
    recommend.add_argument("--top-k", type=int, help="default: 5 of --user, 10 of --all-users")
    shop = add("showcase", _showcase, "one simulated shopper's lists by hour, place, device and mood, beside the known truth")
    shop.add_argument("--user", default="u0013")
    again = add("replay", _replay, "test requests as raw dicts through the release: do they give evaluate's scores?")
    again.add_argument("--requests", type=int, default=1000)
    again.add_argument("--seed", type=int, help="the seed that was released; default: training.seed")
    _daily_arguments(add("update", _update, "stale, updated and retrained models, day by day: what fresh data is worth, and costs"))
    for command in (predict, recommend, shop, again):
        command.add_argument("--release", type=Path, help="default: release/ in the run's folder")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Ends with 2 and one line on stderr when the input is at fault."""
    from recllm.model.errors_recllm import ReleaseError, RequestError

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading takes less than a second: no bar for it
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    args.rest = rest
    if args.rest and args.command != "recommend":
        parser.error(f"unrecognized arguments: {' '.join(args.rest)}")
    try:
        return int(args.run(load_config(args.config, args.set), args))
    except (RecllmError, RequestError, ReleaseError, OSError, UnicodeDecodeError) as error:
        print(f"recllm: {error}", file=sys.stderr)
        return 2
