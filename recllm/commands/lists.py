"""Commands that use a release: one function a command, from a validated configuration and parsed arguments to an exit status."""

import argparse

from recllm.commands.common import recommender_of
from recllm.config import Config
from recllm.errors import ConfigError, did_you_mean


def predict(config: Config, args: argparse.Namespace) -> int:
    from recllm.recommend.batch import predict_file

    rows = predict_file(recommender_of(config, args.release), args.requests, args.out)
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

    recommender = recommender_of(config, args.release)
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
    everyone = Everyone(config, load_log(config), recommender_of(config, args.release), args.release or config.release, context)
    if args.vectors is not None:
        items, users = write_vectors(everyone, args.vectors)
        print(f"{args.vectors}: vectors of {items:,} items and {users:,} users; their dot product is the retrieval cosine")
    if args.all_users is not None:
        found = recommend_all(everyone, args.all_users, 10 if args.top_k is None else args.top_k)
        print(f"{args.all_users}: {found.text()}")
    return 0


def showcase(config: Config, args: argparse.Namespace) -> int:
    from recllm.feed.log import load_log
    from recllm.recommend.showcase import showcase

    print(showcase(config, load_log(config), recommender_of(config, args.release), args.user))
    return 0
