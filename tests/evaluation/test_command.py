"""What is kept of a command that is written down: no value that could be a secret or a path, in whatever form it was given."""

import json
import shlex
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from recllm.commands.common import typed
from recllm.evaluation.command import kept_command

ROOT = Path(__file__).parent.parent.parent
EVALUATE = "scripts/evaluate.py"
SECRETS = ("hunter2", "alice", "home", "s3cr3t", "123456", "Users", "example.org", "projects")
LEAKS = [  # words as a shell gives them
    ["--set", "data.storage.secret=hunter2"],
    ["--set=data.storage.secret=hunter2"],
    ["--set", "data.storage={key: alice, secret: hunter2}"],
    ["--set", "data.storage.secret=123456"],
    ["--set", "data.executor_options.spark.hadoop.fs.s3a.secret.key=hunter2"],
    ["--set", "data.interactions=[/home/alice/log.csv]"],
    ["--set", "data.interactions=[/home/alice/log.csv, /home/alice/more.csv]"],
    ["--set", "data.interactions=file:///home/alice/log.csv"],
    ["--set", "data.interactions=./../../home/alice/log.csv"],
    ["--set", "data.interactions=alice/log.csv"],
    ["--set", "data.interactions=postgresql://alice:hunter2@db.example.org/shop"],
    ["--set", "data.interactions=sqlite:////home/alice/shop.db?password=hunter2"],
    ["--set", "data.out=s3://alice:hunter2@bucket/prepared"],
    ["--set", "data.pseudonyms.key_file=/home/alice/key"],
    ["--set", "data.split={test: 2026-01-01, where: /home/alice}"],
    ["--set", "data.split.test=/home/alice"],
    ["--set", "model.encoder=/home/alice/encoder"],
    ["--set", "model.encoder=alice"],
    ["--set", "model={encoder: /home/alice/encoder}"],
    ["--set", "model.layers=/home/alice"],
    ["--set", "training.trackers=C:/Users/alice"],
    ["--set", "evaluation.baselines=[/home/alice]"],
    ["--set", "name=~/alice"],
    ["--set", "note=for alice"],
    ["--set", "note=call name=alice training.seed=hunter2"],
    ["--set", "root=~alice"],
    ["--set", r"root=C:\Users\alice\runs"],
    ["--set", "/home/alice=1"],
    ["--set", "hunter2"],
    ["--out", "/home/alice/results.json"],
    ["--out", "home/alice.json"],
    ["--out=../alice/results.json"],
    ["--out", "C:/Users/alice/results.json"],
    ["--out", r"\\server\alice\results.json"],
    ["--out", "/home/alice smith/my projects/results.json"],
    ["--out=/home/alice smith/my --projects/results.json"],
    ["--also", "alone=/home/alice/results.json", "hunter2=$HOME/alice/x.json"],
    ["--export-features", "hunter2"],
    ["--report", '"/home/alice/it\'s.html"'],
    ["--check-baseline", "file:/home/alice/results.json"],
    ["--seed", "hunter2"],
    ["--seeds", "0", "/home/alice"],
    ["--days", "2026-01-01", "alice"],
    ["--hunter2-of-/home/alice"],
    ["-phunter2"],
    ["--token", "s3cr3t"],
    ["--token=s3cr3t"],
]


@pytest.mark.parametrize("words", LEAKS, ids=" ".join)
@pytest.mark.parametrize("join", [shlex.join, " ".join], ids=["quoted", "unquoted"])
def test_no_secret_and_no_path_is_kept(words, join):
    for command in (join([EVALUATE, "rich.yaml", *words]), join([EVALUATE, "rich.yaml", "--seeds", "0", *words, "--strategies"])):
        kept = kept_command(command)
        assert kept.startswith(f"{EVALUATE} rich.yaml ") and "..." in kept, kept
        assert [secret for secret in SECRETS if secret in kept] == [], kept


@pytest.mark.parametrize("path", [
    "/home/alice/rich.yaml", "./../../home/alice/rich.yaml", "C:/Users/alice/rich.yaml", r"C:\Users\alice\rich.yaml",
    r"..\alice\rich.yaml", r"~\alice\rich.yaml", "~alice/rich.yaml", "file:///home/alice/rich.yaml", "configs/rich.yaml",
    "/home/alice smith/my projects/rich.yaml", "'/home/alice/rich.yaml'", "/home/alice's/rich.yaml"])  # fmt: skip
def test_of_a_config_and_a_script_the_files_name_is_kept(path):
    assert kept_command(f"{EVALUATE} {path} --seeds 0 1") == f"{EVALUATE} rich.yaml --seeds 0 1"
    assert kept_command(shlex.join([EVALUATE, path.strip("'")])) == f"{EVALUATE} rich.yaml"
    assert kept_command(f"/home/alice/scripts/evaluate.py {path}") == "evaluate.py rich.yaml"


@pytest.mark.parametrize(("command", "kept"), [
    ("HF_TOKEN=hunter2 scripts/evaluate.py x.yaml", "..."),
    ("/home/alice/bin/python x", "... x"),
    ("/home/al ice/scripts/evaluate.py x.yaml", "... ..."),
    ("scripts/evaluate.py https://example.org/hook/s3cr3t", "scripts/evaluate.py ..."),
    ("scripts/evaluate.py https://alice:hunter2@example.org/x.yaml?token=s3cr3t", "scripts/evaluate.py ..."),
    ("", ""), ("  ", "")])  # fmt: skip
def test_other_words_are_left_out(command, kept):
    assert kept_command(command).removesuffix(" ...") == kept.removesuffix(" ...")


@pytest.mark.parametrize("command", [
    "test", "scripts/results movielens", "scripts/evaluate.py rich.yaml --strategies --seeds 0 1",
    "scripts/evaluate.py rich.yaml --set model.layers=1 --set training.learning_rate=2e-3 --set name=social-alone",
    "scripts/evaluate.py rich.yaml --set data.split.test=0.2 --set data.split.test=2026-03-03 --set training.precision=bf16",
    "scripts/evaluate.py rich.yaml --set 'evaluation.baselines=[item-rate, din]' --set model.item_id=false",
    "scripts/evaluate.py rich.yaml --set 'evaluation.baselines=[]'",
    "scripts/update.py kuairand.yaml --days 2022-04-28 2022-04-29 --seeds 0 1 --update-epochs 2 --rate 0.25 --again",
    "scripts/benchmark.py core --rounds 5 --threads 2", "scripts/benchmark.py prepare --only cost kills --events 20_000_000"])  # fmt: skip
def test_what_tells_how_to_measure_again_stays_as_it_is(command):
    assert kept_command(command) == command


def test_what_was_kept_is_kept_again():
    for words in LEAKS:
        once = kept_command(shlex.join([EVALUATE, "/home/alice/rich.yaml", *words]))
        assert kept_command(once) == once


def test_committed_results_hold_only_what_may_be_published():
    def commands(value):
        if isinstance(value, dict):
            yield from ([value["command"]] if isinstance(value.get("command"), str) else [])
            for part in value.values():
                yield from commands(part)

    found = [c for path in sorted((ROOT / "results").glob("*.json")) for c in commands(json.loads(path.read_text(encoding="utf-8")))]
    assert len(found) >= 10
    assert [c for c in found if kept_command(c) != c and not c.startswith("scripts/benchmark.py ")] == []


def test_a_typed_command_has_its_config_first_and_its_words_apart(monkeypatch):
    given = ["--set", "evaluation.baselines=[item-rate, din]", "/home/al ice/rich.yaml", "--out", "/home/al ice/x.json"]
    monkeypatch.setattr(sys, "argv", ["recllm", "evaluate", *given])

    command = typed(Namespace(command_name=None, config="/home/al ice/rich.yaml"), "evaluate")

    assert shlex.split(command) == [EVALUATE, given[2], *given[:2], *given[3:]]
    assert kept_command(command) == f"{EVALUATE} rich.yaml --set 'evaluation.baselines=[item-rate, din]' --out ..."
    assert typed(Namespace(command_name="scripts/results shop", config="x"), "evaluate") == "scripts/results shop"
