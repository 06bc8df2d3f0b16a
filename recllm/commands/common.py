"""What several commands need."""

import argparse
import shlex
import sys
from pathlib import Path

from recllm.config import Config
from recllm.errors import ConfigError


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def typed(args: argparse.Namespace, name: str) -> str:
    """The command of a results file: as given with --command, else as typed, quoted, the config first. What writes it down leaves out
    what is not for others (recllm/evaluation/command.py)."""
    given = sys.argv[1:]
    given = given[1:] if given[:1] == [name] else given
    if args.config in given:
        at = given.index(args.config)
        given = [args.config, *given[:at], *given[at + 1 :]]
    return args.command_name or shlex.join([f"scripts/{name}.py", *given])


def recommender_of(config: Config, release: Path | None):
    """The released recommender of a config."""
    from recllm.model.recommender_recllm import Recommender

    folder = release or config.release
    if not (folder / "config.json").is_file():
        raise ConfigError(f"expected a release in {folder}, found none: run scripts/release.py with this config first")
    return Recommender.from_pretrained(folder, base_encoder=config.model.encoder)
