"""No user id, no password, no path of the machine, no value of a training row: planted, then searched for in every byte of every form."""

import gzip
import json
import struct

import pytest
import yaml

from recllm.cli import main
from recllm.model.forms_recllm import FORMS
from tests.worlds import START, rich_config

USER, REQUEST, PERSON = "ünik:ρerson/", "rεquest|7741", "lighthouse-keeper-9931"
PASSWORD = "hunter2-of-the-bucket"
WORDS = "the heron that ate my ninth sandwich"
NUMBERS = {"temperature": 17.171717, "duration": 123.456789, "age": 61.737373}
TIME = START + 77_777


@pytest.fixture(scope="module")
def releases(tiny_encoder, tmp_path_factory):
    """(form -> folder, what must not be in any): a run below odd paths, trained on a log with odd ids and values."""
    folder = tmp_path_factory.mktemp("planted") / "maschine-köln 4711"
    folder.mkdir()
    plain = rich_config(folder, tiny_encoder).model_dump(mode="json", by_alias=True)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for k, row in enumerate(rows):
        row["user_id"] = USER + row["user_id"]
        row["visit"] = row["visit"] and f"{REQUEST}{k // 3}"
    # given a row of the train split with a value of its own in every column, on an item that others saw before
    first = next(k for k, r in enumerate(rows) if k > 60 and r["item_id"] == "i3" and r["click"] is not None)
    rows[first] |= {"ts": TIME, "query": WORDS, "temperature": NUMBERS["temperature"], "duration": NUMBERS["duration"], "kept": 1}
    for k in range(1, 6):  # a bin's mean of one duration would be that duration
        rows[first + k]["duration"] = NUMBERS["duration"] + k
    rows.sort(key=lambda r: (r["user_id"], str(r["ts"])))
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    users = [json.loads(line) for line in (folder / "users.jsonl").read_text().splitlines()]
    users = [u | {"user_id": USER + u["user_id"]} for u in users]
    users[2] |= {"age": NUMBERS["age"], "interests": [PERSON]}
    (folder / "users.jsonl").write_text("".join(json.dumps(u) + "\n" for u in users), encoding="utf-8")
    relations = (folder / "relations.jsonl").read_text().replace('"user": "', f'"user": "{USER}')
    (folder / "relations.jsonl").write_text(relations, encoding="utf-8")
    plain["training"] |= {"epochs": 1}
    plain["evaluation"] |= {"baselines": ["item-rate"], "bootstrap": 10, "min_slice": 20}
    (folder / "rich.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    made, path = {}, str(folder / "rich.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        patch.setenv("RECLLM_ENCODER", tiny_encoder)
        assert main(["prepare", path]) == 0 and main(["train", path]) == 0
        # as it is typed, with a password, an address and paths in other forms
        options = ["--set", f"data.storage={{secret: {PASSWORD}}}", "--out", str(folder / "x.json"), f"--report=file://{folder}/x.html"]
        patch.setattr("sys.argv", ["recllm", "evaluate", path, *options])
        assert main(["evaluate", path]) == 0
        results = folder / "runs/rich/results.json"
        for form in FORMS:
            made[form] = folder / "runs" / form
            assert main(["release", path, "--form", form, "--out", str(made[form])]) == 0
        # and of a results file of an earlier version, whose command is as it was typed, without quotes
        old = {**json.loads(results.read_text()), "command": f"scripts/evaluate.py {path} {' '.join(options)} --set "
               f"data.interactions=[{folder}/log.jsonl, postgresql://me:{PASSWORD}@db/x] --also alone=./..{folder}/x.json"}
        (folder / "old.json").write_text(json.dumps(old))
        made["old"] = folder / "runs/old"
        assert main(["release", path, "--results", str(folder / "old.json"), "--out", str(made["old"])]) == 0
    texts = (PASSWORD, folder.name, str(folder.parent), tiny_encoder, USER, REQUEST, PERSON, WORDS)
    planted = [form for text in texts for form in spellings(text)]
    return made, [*planted, *(b for value in NUMBERS.values() for b in bytes_of(value)), *moments(TIME)]


def spellings(text):
    """A text as a file may hold it."""
    escaped = json.dumps(text)[1:-1]
    return [form.encode(code) for form in {text, escaped, text.replace("/", "\\/")} for code in ("utf-8", "utf-16-le")]


def bytes_of(value):
    return [repr(value).encode(), struct.pack("<d", value), struct.pack("<f", value)]


def moments(seconds):
    return [str(seconds).encode(), struct.pack("<q", seconds * 1000), struct.pack("<q", seconds), struct.pack("<d", seconds * 1000.0)]


def everything(folder):
    """Name -> content of every file, its name with it; what is packed is unpacked."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        packed = content[:2] == b"\x1f\x8b"
        yield path.name, path.name.encode() + b"\n" + content + (gzip.decompress(content) if packed else b"")


@pytest.mark.parametrize("form", [*FORMS, "old"])
def test_nothing_that_was_planted_is_in_a_release(form, releases):
    made, secrets = releases
    found = [(name, secret) for name, content in everything(made[form]) for secret in secrets if secret in content]
    assert found == []


def test_of_a_command_options_and_the_configs_name_are_left(releases):
    made, secrets = releases
    kept = "scripts/evaluate.py rich.yaml --set data.storage=... --out ... --report=..."
    card, old = ((made[form] / "README.md").read_text(encoding="utf-8") for form in ("full", "old"))
    assert f"From `{kept}`, commit" in card and f"From `{kept} --set data.interactions=... --also ...`, commit" in old
    results = (made["full"].parent / "rich/results.json").read_bytes()
    assert json.loads(results)["command"] == kept and [secret for secret in secrets if secret in results] == []


def test_what_was_planted_is_found_where_it_belongs(releases):
    """The search itself: the run beside the releases holds ids, words and paths."""
    made, _ = releases
    prepared = made["full"].parent / "rich" / "prepared"
    held = b"".join(p.read_bytes() for p in prepared.rglob("*") if p.is_file())
    assert any(secret in held for secret in spellings(PERSON)[:1]) and len(held) > 10_000
    log = (made["full"].parent.parent / "log.jsonl").read_bytes()
    for text in (USER, REQUEST, WORDS):
        assert any(secret in log for secret in spellings(text)), text
    for value in NUMBERS.values():
        assert any(secret in log + (made["full"].parent.parent / "users.jsonl").read_bytes() for secret in bytes_of(value))
