"""The command line: `recllm prepare configs/shop.yaml`. Each script in scripts/ is one of these commands."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from recllm import commands
from recllm.config import Config, load_config
from recllm.errors import RecllmError
from recllm.training import stopping  # noqa: F401  early, and light: it keeps who launched this process

INTERRUPTED = 130  # as a shell says it of ctrl-C
Run = Callable[[Config, argparse.Namespace], int]
OUTPUTS = "files and folders outside of the run's folder to clean and search as well: predictions, lists, vectors, features, releases"


def _daily_arguments(daily: argparse.ArgumentParser) -> None:
    daily.add_argument("--days", nargs="+", required=True, metavar="DATE", help="UTC test days in order, each validated on the day before")
    daily.add_argument("--seeds", type=int, nargs="+", help="default: training.seed")
    daily.add_argument("--out", type=Path, help="results file; default: update.json in the run's folder")
    daily.add_argument("--command", dest="command_name", help="what to record as the command; default: this one")
    daily.add_argument("--update-epochs", type=int, help="epochs of one update; default: 1")
    daily.add_argument("--rate", type=float, help="learning rates of an update, as a share of the config's; default: 0.25")
    daily.add_argument("--again", action="store_true", help="train everything anew; else finished trainings are reused")


def _evaluate_arguments(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("--seeds", type=int, nargs="+", help="trained seeds; default: training.seed")
    evaluate.add_argument("--out", type=Path, help="results file; default: results.json in the run's folder")
    evaluate.add_argument("--strategies", action="store_true", help="instead: lists of every strategy, and the next item in the whole "
                          "catalogue; --out: strategies.json in the run's folder")
    evaluate.add_argument("--command", dest="command_name", help="what to record as the command; default: this one")
    evaluate.add_argument("--export-features", type=Path, metavar="FOLDER", help="also write the baselines' columns as Parquet")
    evaluate.add_argument("--also", nargs="+", default=[], metavar="NAME=FILE", help="recllm's figures out of other results files, such as "
                          "the same log with something left out, as columns of these names")
    evaluate.add_argument("--results", type=Path, metavar="FILE", help="take this results file instead of evaluating again")
    evaluate.add_argument("--report", type=Path, metavar="HTML", help="also write one page of tables and plots; needs recllm[report]")
    evaluate.add_argument("--check-baseline", type=Path, metavar="FILE", help="end with 1 where recllm is worse than this results file's "
                                                                              "intervals allow")


def _release_arguments(release: argparse.ArgumentParser) -> None:
    release.add_argument("--seed", type=int, help="default: training.seed")
    release.add_argument("--out", type=Path, help="default: release/ in the run's folder")
    release.add_argument("--results", type=Path, help="results file for the model card; default: results.json in the run's folder")
    release.add_argument("--form", choices=("full", "adapter", "merged"), help="default: release.form")
    release.add_argument("--push", metavar="NAME", help="also upload it to the Hub, as owner/name")
    release.add_argument("--private", action="store_true", help="with --push: for its owners' eyes only, where it is a new repository")
    release.add_argument("--revision", metavar="TAG", help="with --push: tag it; from_pretrained(..., revision=TAG) is then this release")
    release.add_argument("--dry-run", action="store_true", help="with --push: only list files and bytes, upload nothing")


def _user_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("user", nargs="+", help="ids as in the raw log")


def _role(text: str) -> str:
    role, found, column = text.partition("=")
    if role not in ("user", "item", "time", "outcome") or not found or not column:
        raise argparse.ArgumentTypeError(f'expected user, item, time or outcome = a column, found "{text}"')
    return text


def _schema_arguments(schema: argparse.ArgumentParser) -> None:
    schema.add_argument("file", help="the log: a file, a folder, a glob, a URL, or a table of SQLite or Postgres (see README)")
    schema.add_argument("--items", metavar="FILE", help="the items' table, if there is one")
    schema.add_argument("--users", metavar="FILE", help="the users' table, if there is one")
    schema.add_argument("--out", type=Path, metavar="YAML", help="default: the log's name with .yaml, here")
    schema.add_argument("--format", default="auto", help="data.format, where the file's name does not say it")
    schema.add_argument("--delimiter", help="of CSV, where it is not found by itself")
    schema.add_argument("--encoding", help="of text that is not UTF-8, such as cp1252: guessed where it is not given")
    schema.add_argument("--role", nargs="+", default=[], type=_role, metavar="ROLE=COLUMN", help="what you know: user, item, time or "
                        "outcome; everything else is judged by it")
    schema.add_argument("--again", action="store_true", help="write over a file that is there")
    schema.set_defaults(plain=commands.schema)  # a command without a configuration: it makes one


def _tune_arguments(tune: argparse.ArgumentParser) -> None:
    tune.add_argument("search", help="a YAML file of a search space, see configs/tune/")
    tune.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override in the configuration that is searched")
    tune.add_argument("--trials", type=int, help="go on until so many have ended; default: the file's")
    tune.add_argument("--again", action="store_true", help="start over; else an interrupted search goes on")
    tune.set_defaults(plain=commands.tune)


def _prepare_arguments(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument("--check", action="store_true", help="only validate; list the first problems with their lines; write nothing")
    prepare.add_argument("--again", action="store_true", help="prepare even when the folder is up to date")
    prepare.add_argument("--append", nargs="+", metavar="FILE", help="add files to a prepared log that is split by dates: only the shards "
                         "that they touch are made anew; rows older than the item counts' last closed period are kept out")
    prepare.add_argument("--rewrite", action="store_true", help="with --append: prepare old and new files in full, late rows included")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="recllm", description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Run, text: str) -> argparse.ArgumentParser:
        command = kinds.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("config", help="a YAML file, see configs/")
        command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as training.minutes=2")
        command.set_defaults(run=run)
        return command

    text = "propose a configuration for a raw log: what each column is, why, and what is unsure"
    _schema_arguments(kinds.add_parser("schema", help=text, description=text, allow_abbrev=False))
    _prepare_arguments(add("prepare", commands.prepare, "clean, join, order and split a raw log"))
    _user_arguments(add("pseudonym", commands.pseudonym, "what users are called in everything that is written (data.pseudonyms)"))
    forget = add("forget", commands.forget, "remove users from everything that was made of a log, and prove it by a search")
    _user_arguments(forget)
    forget.add_argument("--outputs", type=Path, nargs="+", default=[], metavar="PATH", help=OUTPUTS)
    training = add("train", commands.train, "train the tasks jointly on a prepared log; alone or under accelerate launch")
    training.add_argument("--seed", type=int, help="default: training.seed")
    training.add_argument("--again", action="store_true", help="start over; else an interrupted run goes on, a finished one is kept")
    training.add_argument("--init-from", type=Path, metavar="RELEASE", help="go on from a release, on the train rows since its own")
    text = "search for better settings on validation; killed, call it again; needs recllm[tune]"
    _tune_arguments(kinds.add_parser("tune", help=text, description=text, allow_abbrev=False))
    evaluate = add("evaluate", commands.evaluate, "metrics of trained seeds and baselines on the test split")
    _evaluate_arguments(evaluate)
    _release_arguments(add("release", commands.release, "write a folder for the Hub from a trained seed"))
    predict = add("predict", commands.predict, "predictions for a JSON Lines file of requests")
    predict.add_argument("requests", type=Path)
    predict.add_argument("out", type=Path, help="Parquet file to write")
    recommend = add("recommend", commands.recommend, "lists for users of the prepared log; --FIELD VALUE for any context field or "
                    "--time")
    recommend.add_argument("--user", nargs="+", help="print the lists of these users")
    recommend.add_argument("--all-users", type=Path, metavar="OUT", help="write every user's list as Parquet; killed, call it again")
    recommend.add_argument("--vectors", type=Path, metavar="FOLDER", help="write item and user vectors for other search tools, as Parquet")
    recommend.add_argument("--top-k", type=int, help="default: 5 of --user, 10 of --all-users")
    shop = add("showcase", commands.showcase, "one simulated shopper's lists by hour, place, device and mood, beside the known truth")
    shop.add_argument("--user", default="u0013")
    again = add("replay", commands.replay, "test requests as raw dicts through the release: do they give evaluate's scores?")
    again.add_argument("--requests", type=int, default=1000)
    again.add_argument("--seed", type=int, help="the seed that was released; default: training.seed")
    _daily_arguments(add("update", commands.update, "stale, updated and retrained models, day by day: what fresh data is worth, and costs"))
    for command in (predict, recommend, shop, again):
        command.add_argument("--release", type=Path, help="default: release/ in the run's folder")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Ends with 2 and one line on stderr when the input is at fault, with 143 where SIGTERM stopped a training."""
    from recllm.model.errors_recllm import ReleaseError, RequestError

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading takes less than a second: no bar for it
    parser = _parser()
    args, rest = parser.parse_known_args(arguments)
    args.rest = rest
    if args.rest and args.command != "recommend":
        parser.error(f"unrecognized arguments: {' '.join(args.rest)}")
    try:
        if "plain" in args:
            return int(args.plain(args))
        return int(args.run(load_config(args.config, args.set), args))
    except (RecllmError, RequestError, ReleaseError, OSError, UnicodeDecodeError) as error:
        print(f"recllm: {error}", file=sys.stderr)
        return int(getattr(error, "status", 2))
    except KeyboardInterrupt:
        print("recllm: interrupted", file=sys.stderr)
        return INTERRUPTED
