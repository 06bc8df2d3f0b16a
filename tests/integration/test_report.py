"""The report of a small run: everything in one page, everything escaped, nobody's id in it, and nothing of it in a release."""

import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from recllm.cli import main
from recllm.config import load_config
from recllm.recommend.story import chosen_row, story
from recllm.training.results import read
from recllm.training.run import load_trained
from tests.worlds import rich_config

SECTIONS = ["What was dropped, and why", "Labels over time", "Learning curves", "Figures on the test split", "Reliability",
            "Where it works: AUC of click by slice", "Ways to rank, compared", "One timeline"]  # fmt: skip


class Page(HTMLParser):
    """Headings, tags and every address that a browser would fetch."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.headings, self._in = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href", "srcset", "data") and not v.startswith("#")]
        self._in = tag

    def handle_data(self, data):
        if self._in == "h2" and data.strip():
            self.headings.append(data.strip())
        self._in = None if self._in == "h2" else self._in


@pytest.fixture(scope="module")
def run(tiny_encoder, tmp_path_factory):
    """(config file, folder) of a run with two seeds whose users are `person-N` and whose titles and places hold markup."""
    folder = tmp_path_factory.mktemp("report")
    plain = rich_config(folder, tiny_encoder).model_dump(mode="json", by_alias=True)
    for name in ("log.jsonl", "users.jsonl", "items.jsonl"):
        text = (folder / name).read_text().replace('"user_id": "u', '"user_id": "person-')
        (folder / name).write_text(text.replace('"Film', '"<script>alert(1)</script> Film').replace('"Rome"', '"<i>Rome & Ostia"'))
    plain["training"] |= {"epochs": 2}
    plain["evaluation"] |= {"baselines": ["item-rate"], "min_slice": 5, "bootstrap": 20}
    plain["recommend"] |= {"title": "title", "exclude_seen": False}
    path = folder / "rich.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        patch.chdir(folder)
        evaluate = ["evaluate", "--seeds", "0", "1", "--command", "scripts/evaluate.py rich.yaml", "--report", str(folder / "report.html")]
        for command in (["prepare"], ["train", "--seed", "0"], ["train", "--seed", "1"], evaluate, ["release"]):
            assert main([command[0], str(path), *command[1:]]) == 0, command
    return path, folder


@pytest.fixture(autouse=True)
def _same_runs(run, monkeypatch):
    monkeypatch.setenv("RECLLM_RUNS", str(run[1] / "runs"))
    monkeypatch.chdir(run[1])


def test_the_page_has_all_sections_in_order_and_needs_nothing_else(run):
    text = (run[1] / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.headings == SECTIONS
    assert page.addresses == [] and not {"script", "link", "iframe", "img"} & set(page.tags)
    assert "url(http" not in text and "@import" not in text and len(text) < 1_500_000
    assert page.tags.count("svg") > 3 + 4 + 4  # label rates, learning curves with retrieval, reliability with coverage; then slices
    assert "scripts/evaluate.py rich.yaml" in text and "mean over 2 seeds" in text and "Loss per known label, 2 seeds" in text
    assert "prefers-color-scheme" in text and "width=device-width" in text
    for table in re.findall(r"(.{20})<table", text):
        assert '<div class="box">' in table  # a wide table scrolls inside of its box


def test_every_text_of_the_log_is_escaped_and_no_user_or_path_is_named(run):
    text = (run[1] / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt; Film" in text and "<script" not in text
    assert "&lt;i&gt;Rome &amp; Ostia" in text and "<i>" not in text
    assert "person-" not in text and "user A" in text
    assert str(run[1]) not in text


def test_a_release_holds_neither_report_nor_timeline_nor_user(run):
    # given a release that was made after the report, of the same run
    files = [p for p in (run[1] / "runs/rich/release").rglob("*") if p.is_file()]
    assert files and not [p.name for p in files if p.suffix in (".html", ".svg") or "report" in p.name]
    assert sorted(p.name for p in files if p.suffix == ".png") == [f"calibration-{k}.png" for k in range(3)]  # of the model card
    for path in files:
        content = path.read_bytes()
        for secret in (b"person-", b"user A", b"One timeline"):
            assert secret not in content, path.name


def test_the_list_is_of_the_request_and_sees_what_the_request_sees(run):
    # given the chosen user's first test request
    config = load_config(run[0])
    made = load_trained(config, 0)
    log, row = made.log, chosen_row(made.log)
    told = story(made)
    mine = np.flatnonzero((log.user == log.user[row]) & (log.split == 2) & log.frame["scored"].to_numpy(dtype=bool))
    assert row == mine[0] and len(told["recommended"]) == 10 and told["shown"]
    assert len(told["before"]) + told["left_out"] == log.frame["n_before"].iloc[row]
    # when every outcome that is not visible to it changes
    first = log.first[log.user[row]]
    hidden = np.arange(first + log.frame["n_before"].iloc[row], log.first[log.user[row] + 1])
    log.frame.loc[hidden, ["click", "purchase"]] = 1.0
    again = story(made)
    # then titles and predictions are the same, and only what came of them differs
    for name in ("recommended", "shown"):
        assert [(e["title"], e["predicted"]) for e in told[name]] == [(e["title"], e["predicted"]) for e in again[name]]
    assert all(e["afterwards"] in ("click", "not shown") for e in again["recommended"])
    assert again["before"] == told["before"]


def test_a_report_of_standing_results_says_what_is_missing(run, tmp_path, monkeypatch, capsys):
    # given results of an older version, without seeds and reliability, and no trained run
    found = read(run[1] / "runs/rich/results.json")
    del found["reliability"], found["seeds"]
    found["command"] = "scripts/evaluate.py /home/alice/rich.yaml --set data.storage.secret=hunter2 --out=/home/alice/old.json"
    old, moved = tmp_path / "old.json", tmp_path / "runs"
    old.write_text(json.dumps(found))
    shutil.copytree(run[1] / "runs/rich/prepared", moved / "rich/prepared")
    monkeypatch.setenv("RECLLM_RUNS", str(moved))
    assert main(["evaluate", str(run[0]), "--results", str(old), "--report", str(tmp_path / "page/report.html")]) == 0
    text = (tmp_path / "page/report.html").read_text(encoding="utf-8")
    assert Page(text).headings == SECTIONS
    for sentence in ("so there are no curves", "no reliability data", "No comparison of ranking strategies", "no timeline can be shown"):
        assert sentence in text
    assert "scripts/evaluate.py rich.yaml --set data.storage.secret=... --out=..." in text and "alice" not in text
    assert "scoring the test split" not in capsys.readouterr().err


def test_results_of_another_log_make_no_page(run, tmp_path, capsys):
    found = read(run[1] / "runs/rich/results.json")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**found, "rows": [{**r, "n": r["n"] + 1} for r in found["rows"]]}))
    assert main(["evaluate", str(run[0]), "--results", str(other), "--report", str(tmp_path / "report.html")]) == 2
    assert "prepare the log of these results" in capsys.readouterr().err and not (tmp_path / "report.html").exists()


def test_check_baseline_ends_with_1_on_a_drop_and_2_on_another_file(run, tmp_path, capsys):
    results = run[1] / "runs/rich/results.json"
    arguments = ["evaluate", str(run[0]), "--results", str(results), "--check-baseline"]
    found = read(results)
    for row in found["rows"]:
        row["low"], row["high"] = (row["mean"] - 0.1, row["mean"] + 0.1)
    good, bad, other = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "other.json"
    good.write_text(json.dumps(found))
    capsys.readouterr()
    assert main([*arguments, str(good)]) == 0 and "drop:" not in capsys.readouterr().out
    auc = next(r for r in found["rows"] if (r["model"], r["metric"], r["slice"], r["counters"]) == ("recllm", "auc", "all", "frozen"))
    auc |= {"mean": 2.0, "low": 1.9, "high": 2.1}
    bad.write_text(json.dumps(found))
    assert main([*arguments, str(bad)]) == 1
    assert capsys.readouterr().out.count("drop: click auc, counters frozen: committed 2.0000 [1.9000, 2.1000], now") == 1
    other.write_text(json.dumps({"rows": [{**auc, "task": "like"}]}))
    assert main([*arguments, str(other)]) == 2 and "like auc, counters frozen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--results", "none.json"], "expected a results file at none.json"),
        (["--results", "rich.yaml"], "found no JSON"),
        (["--results", "users.json", "--seeds", "0"], "--results takes figures that stand already"),
        (["--check-baseline", "none.json"], "expected a results file at none.json"),
    ],
)
def test_wrong_options_are_named_before_anything_is_scored(run, arguments, message, capsys):
    assert main(["evaluate", str(run[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "scoring" not in error
