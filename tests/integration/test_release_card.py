"""The model card of a trained run: the Hub can read it, every figure in it is the results file's, nothing of the machine is."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from recllm.cli import main
from recllm.config import load_config
from recllm.errors import DataError
from recllm.release import release
from recllm.release.card import plots
from tests.hub_server import TOKEN, hub
from tests.worlds import rich_config

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def run(tiny_encoder, tmp_path_factory):
    """(config file, runs) of a trained and evaluated run."""
    folder = tmp_path_factory.mktemp("card")
    plain = rich_config(folder, tiny_encoder).model_dump(mode="json", by_alias=True)
    plain["training"] |= {"epochs": 1}
    plain["evaluation"] |= {"baselines": ["item-rate"], "min_slice": 5, "bootstrap": 20}
    plain |= {"note": "Made up.", "release": {"license": "cc-by-sa-4.0", "data": "Drawn by a test, free to use."}}
    path = folder / "rich.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        command = f"scripts/evaluate.py {path} --out=/srv/machine/results.json"
        for arguments in (["prepare"], ["train"], ["evaluate", "--command", command]):
            assert main([arguments[0], str(path), *arguments[1:]]) == 0, arguments
    return path, folder / "runs"


@pytest.fixture(autouse=True)
def _same_runs(run, monkeypatch):
    monkeypatch.setenv("RECLLM_RUNS", str(run[1]))


def test_the_metadata_is_the_hubs_and_comes_back_as_it_was(run, tmp_path):
    # given
    assert main(["release", str(run[0]), "--out", str(tmp_path / "r")]) == 0
    # when it is read as the Hub reads it
    data = metadata_load(tmp_path / "r/README.md")
    name, results = model_index_to_eval_results(data["model-index"])
    # then
    assert name == "rich" and data["license"] == "cc-by-sa-4.0" and data["library_name"] == "transformers"
    assert "base_model" not in data  # a folder of this machine is no address
    found = json.loads((run[1] / "rich/results.json").read_text())
    own = [r for r in found["rows"] if (r["model"], r["slice"], r["counters"]) == ("recllm", "all", "fresh")]
    means = {f"{r['task']} {r['metric']}": r for r in own}
    assert {r.metric_name for r in results} >= {"click auc", "purchase logloss", "duration mae"}
    for result in results:
        row = means[result.metric_name]
        assert (result.metric_value, result.metric_args["low"], result.metric_args["high"]) == (row["mean"], row["low"], row["high"])
        assert result.dataset_split == "test"
    again = ModelCard.load(tmp_path / "r/README.md")
    assert [vars(r) for r in again.data.eval_results] == [vars(r) for r in results]


def test_the_card_says_what_it_is_for_what_was_measured_and_what_it_cost(run, tmp_path):
    assert main(["release", str(run[0]), "--out", str(tmp_path / "r"), "--form", "adapter"]) == 0

    text = (tmp_path / "r/README.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings == ["Use", "Data and licences", "Measured", "By slice", "Calibration", "Limits", "Training cost"]
    assert "Drawn by a test, free to use." in text and "This is the adapter form" in text and "| item-rate |" in text
    assert re.search(r"\| click \| auc \(higher is better\) \| 0\.\d{4} \| 0\.\d{4} to 0\.\d{4} \| [\d,]+ \|", text)
    assert re.search(r"\| optimiser steps \| \d+ \|", text) and re.search(r"\| wall clock \| [\d.]+ minutes \|", text)
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 3 and all((tmp_path / "r" / p).read_bytes().startswith(b"\x89PNG") for p in pictures)
    assert "/srv/machine" not in text and str(run[0].parent) not in text and "`scripts/evaluate.py rich.yaml --out=...`" in text


def test_without_matplotlib_calibration_is_a_table_and_without_results_the_card_says_so(run, tmp_path, monkeypatch):
    config, said = load_config(run[0]), []
    found = json.loads((run[1] / "rich/results.json").read_text())
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        patch.setitem(sys.modules, "matplotlib.figure", None)
        assert plots(found, said.append) == {} and "pip install 'recllm[report]'" in said[0]
        text = (release(config, folder=tmp_path / "a", say=said.append) / "README.md").read_text()
    assert "| task | predicted | observed |" in text and "![" not in text
    assert plots(found, said.append) == plots(found, said.append)  # equal bytes for equal bins
    # and without a results file
    (run[1] / "rich/results.json").rename(tmp_path / "kept.json")
    try:
        folder = release(config, folder=tmp_path / "b")
        assert "Not evaluated" in (folder / "README.md").read_text() and "model-index" not in metadata_load(folder / "README.md")
    finally:
        (tmp_path / "kept.json").rename(run[1] / "rich/results.json")
    with pytest.raises(DataError, match="expected a results file"):
        release(config, results=tmp_path / "missing.json")


def test_figures_of_other_weights_are_not_taken_for_this_models(run, tmp_path, monkeypatch, capsys):
    # given a copy of the run, measured, and trained again with another setting
    shutil.copytree(run[1], tmp_path / "runs")
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "runs"))
    path, setting = str(run[0]), ["--set", "training.learning_rate=0.0001"]

    def released(*options):
        capsys.readouterr()
        assert main(["release", path, "--out", str(tmp_path / "r"), *options]) == 0
        said = [line for line in capsys.readouterr().err.splitlines() if "Not evaluated" in line]
        written = tmp_path / "r/README.md"
        return "Not evaluated" not in written.read_text() and "model-index" in metadata_load(written), said

    assert released() == (True, [])
    assert main(["train", path, *setting, "--again"]) == 0
    # when it is released without an evaluation, with the old figures where they lie or given by name
    old = tmp_path / "runs/rich/results.json"
    for given in ([], ["--results", str(old)]):
        measured, said = released(*setting, *given)
        # then the card has no figures, and one line says why and what to do
        assert not measured and not list((tmp_path / "r").glob("*.png"))
        assert len(said) == 1
        assert f"expected figures of the weights that are released in {old}, found others (other weights of seed 0 were measured" in said[0]
        assert "run scripts/evaluate.py with this config and --seeds 0, then scripts/release.py again" in said[0]
    # and measured again they are taken, but not those of another seed, nor of a file that does not say which weights
    assert main(["evaluate", path, *setting]) == 0 and released(*setting) == (True, [])
    found = json.loads(old.read_text())
    for weights, why in (({"1": found["weights"]["0"]}, "seed 0 was not measured"), (None, "do not say which weights were measured")):
        (tmp_path / "other.json").write_text(json.dumps({**found, "weights": weights}))
        measured, said = released(*setting, "--results", str(tmp_path / "other.json"))
        assert not measured and why in said[0]


def test_commands_find_the_encoder_of_an_adapter_release_by_the_config(run, tmp_path):
    import pandas as pd

    request = {"context": {"time": 1700090000}, "candidates": ["i1", "i2", "i3"]}
    (tmp_path / "requests.jsonl").write_text(json.dumps(request) + "\n", encoding="utf-8")
    for form in ("full", "adapter"):
        assert main(["release", str(run[0]), "--form", form, "--out", str(tmp_path / form)]) == 0
        files = [str(tmp_path / "requests.jsonl"), str(tmp_path / f"{form}.parquet")]
        assert main(["predict", str(run[0]), *files, "--release", str(tmp_path / form)]) == 0
    assert pd.read_parquet(tmp_path / "full.parquet").equals(pd.read_parquet(tmp_path / "adapter.parquet"))


def test_options_that_need_push_say_so(run, capsys):
    assert main(["release", str(run[0]), "--revision", "v1"]) == 2
    assert "expected --push NAME beside them" in capsys.readouterr().err


def test_the_script_pushes_to_the_hub(run, tmp_path):
    with hub() as server:
        server.faults.append(["POST", "/api/models/me/films/commit", 503, 1])
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RECLLM_RUNS": str(run[1]), "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0",
                       "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, str(ROOT / "scripts/release.py"), str(run[0]), "--out", str(tmp_path / "r"), "--form", "merged",
                   "--push", "me/films", "--private", "--revision", "v1"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    assert found.returncode == 0, found.stderr
    repository = server.repositories["me/films"]
    assert repository.private and repository.tags["v1"] == repository.branches["main"]
    assert set(repository.commits[repository.tags["v1"]]) - {".gitattributes"} == {
        p.relative_to(tmp_path / "r").as_posix() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    assert "me/films: upload: " in found.stderr and f"{server.url}/me/films/commit/" in found.stdout


def test_a_dry_run_lists_files_and_bytes(run, tmp_path, capsys):
    options = ["--push", "me/films", "--revision", "v1", "--private", "--dry-run"]
    assert main(["release", str(run[0]), "--out", str(tmp_path / "r"), *options]) == 0

    out = capsys.readouterr().out
    files = {p.relative_to(tmp_path / "r").as_posix(): p.stat().st_size for p in (tmp_path / "r").rglob("*") if p.is_file()}
    listed = dict(reversed(line.split()) for line in out.splitlines() if re.match(r"^ +[\d,]+  \S+$", line))
    assert listed == {name: f"{size:,}" for name, size in files.items()}
    assert f"{sum(files.values()):,}  bytes in {len(files)} files would go to me/films (private), tag v1; nothing was uploaded" in out
    assert 'model="me/films"' in (tmp_path / "r/README.md").read_text()
