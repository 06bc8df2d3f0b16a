"""The commands as a user types them, from a raw log to lists, on one small log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from recllm.cli import main
from recllm.evaluation.baselines import NAMES
from tests.conftest import HEADER
from tests.worlds import rich_config

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shop_folder(tiny_encoder, tmp_path_factory):
    """(config file, folder) of a log that is prepared, trained, evaluated and released by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    plain = rich_config(folder, tiny_encoder).model_dump(mode="json", by_alias=True)
    plain["training"] |= {"epochs": 1}
    plain["evaluation"] |= {"slices": ["device", "items", "users", "age"], "min_slice": 5, "bootstrap": 20}
    plain["recommend"] |= {"title": "title", "exclude_seen": False}
    path = folder / "rich.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        for command in (["prepare"], ["train"], ["evaluate", "--export-features", str(folder / "features")], ["release"]):
            assert main([command[0], str(path), *command[1:]]) == 0, command
    return path, folder


@pytest.fixture(autouse=True)
def _same_runs(shop_folder, monkeypatch):
    monkeypatch.setenv("RECLLM_RUNS", str(shop_folder[1] / "runs"))


def test_results_have_rows_for_every_model_and_binary_outcome_on_equal_rows(shop_folder):
    found = json.loads((shop_folder[1] / "runs/rich/results.json").read_text())
    assert {"command", "commit", "rows"} <= set(found)
    rows = pd.DataFrame(found["rows"])
    assert list(rows) == ["model", "task", "metric", "slice", "counters", "mean", "low", "high", "seeds", "n"]
    whole = rows[(rows["slice"] == "all") & (rows["metric"] == "logloss")]
    for task in ("click", "purchase"):
        one = whole[whole["task"] == task]
        assert set(one["model"]) == {"recllm", *NAMES}
        assert one["n"].nunique() == 1
    assert set(rows[rows["model"] == "mlp-seed"]["counters"]) == {"fresh"}
    assert set(rows[rows["model"] == "recllm"]["counters"]) == {"fresh", "frozen"}
    assert {"device=tv", "items=known"} <= set(rows["slice"])
    assert {"mae", "mse", "xauc", "coverage"} <= set(rows[(rows["model"] == "recllm") & (rows["task"] == "duration")]["metric"])


def test_strategies_are_tried_on_the_trained_run_and_written_by_config(shop_folder, capsys):
    out = shop_folder[1] / "strategies.json"
    assert main(["evaluate", str(shop_folder[0]), "--strategies", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "weighted" in shown and "next item: not measured" in shown  # this log has relations
    found = json.loads(out.read_text())["rich"]
    assert list(found) == ["command", "commit", "config", "seeds", "rows", "winner", "next_item"] and found["seeds"] == [0]
    assert found["next_item"] == []


def test_figures_of_a_variant_stand_beside_as_a_column_of_their_own(shop_folder, capsys):
    # given a results file of the same test rows
    path, folder = shop_folder
    alone, both = folder / "alone.json", folder / "both.json"
    few = ["--set", "evaluation.baselines=[item-rate]"]
    assert main(["evaluate", str(path), *few, "--out", str(alone)]) == 0
    # when it is added under a name of its own
    assert main(["evaluate", str(path), *few, "--out", str(both), "--also", f"variant={alone}"]) == 0
    # then it is a column, with where it came from, and no baseline
    found = json.loads(both.read_text())
    assert {row["model"] for row in found["rows"]} == {"recllm", "item-rate", "variant"} and found["also"]["variant"]["seeds"] == [0]
    assert "variant" in capsys.readouterr().out
    # and a file of other rows, a name that is taken and one without a file are refused
    other = json.loads(alone.read_text())
    alone.write_text(json.dumps({**other, "rows": [{**row, "n": row["n"] + 1} for row in other["rows"]]}))
    for given, expected in ((f"variant={alone}", "expected figures of the same test rows"), (f"item-rate={alone}", "names of their own"),
                            ("variant", "names of their own")):
        assert main(["evaluate", str(path), *few, "--out", str(folder / "none.json"), "--also", given]) == 2
        assert expected in capsys.readouterr().err and not (folder / "none.json").exists()


def test_options_that_exclude_each_other_are_refused(shop_folder, capsys):
    for options, expected in ((["--strategies", "--check-baseline", "x.json"], "call it without --check-baseline"),
                              (["--results", "x.json", "--also", "a=b"], "leave out --seeds, --out, --also")):
        assert main(["evaluate", str(shop_folder[0]), *options]) == 2
        assert expected in capsys.readouterr().err


def test_exported_features_are_what_a_baseline_was_fitted_on(shop_folder):
    train = pd.read_parquet(shop_folder[1] / "features/train.parquet")
    assert {"user_events", "item_click_n", "user_category_click_sum", "context_device", "profile_age", "y_click"} <= set(train)
    assert len(pd.read_parquet(shop_folder[1] / "features/test.parquet")) > 100


def test_recommend_prints_titles_and_refuses_an_undeclared_field_by_name(shop_folder, capsys):
    path, _ = shop_folder
    assert main(["recommend", str(path), "--user", "u1", "u7", "--device", "tv", "--top-k", "3"]) == 0
    out = capsys.readouterr().out
    assert out.count("Film ") + out.count("User ") >= 4 and "user u1:" in out and "click" in out
    assert main(["recommend", str(path), "--user", "u1", "--devise", "tv"]) == 2
    assert '"--devise": expected --field value' in capsys.readouterr().err
    assert main(["recommend", str(path), "--user", "nobody"]) == 2
    assert 'user "nobody" is not in the prepared log' in capsys.readouterr().err


def test_predict_writes_every_candidate_or_nothing(shop_folder, capsys):
    path, folder = shop_folder
    good = {"id": "a", "context": {"time": 1700090000}, "candidates": ["i1", "i2"]}
    requests, out = folder / "requests.jsonl", folder / "out.parquet"
    requests.write_text(json.dumps(good) + "\n" + json.dumps({**good, "id": "b", "candidates": ["i3"]}) + "\n")
    assert main(["predict", str(path), str(requests), str(out)]) == 0
    table = pd.read_parquet(out)
    assert table["request"].tolist() == ["a", "a", "b"] and table["click"].between(0, 1).all()
    out.unlink()
    requests.write_text(json.dumps(good) + "\n{broken\n")
    assert main(["predict", str(path), str(requests), str(out)]) == 2
    assert "requests.jsonl:2: expected a request as one line of JSON" in capsys.readouterr().err
    assert not out.exists()


def test_replay_holds_for_what_was_released(shop_folder, capsys):
    assert main(["replay", str(shop_folder[0]), "--requests", "60"]) == 0
    assert capsys.readouterr().out.startswith("60 test requests: logits differ by at most")


def test_check_lists_the_first_problems_with_their_lines(tmp_path, capsys):
    rows = [f"u{i},i1,{'never' if i % 2 else 1_700_000_000},,tv,Oslo,1,1,0,5" for i in range(60)]
    (tmp_path / "log.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    plain = {"name": "shop", "data": {"interactions": str(tmp_path / "log.csv"), "workers": 1},
             "schema": {"user": "user_id", "item": "item_id", "time": "ts", "outcomes": {"click": {"kind": "binary"}}}}  # fmt: skip
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    assert main(["prepare", str(tmp_path / "shop.yaml"), "--check"]) == 1
    out = capsys.readouterr().out
    assert out.count("bad_time: {") == 20 and "log.csv:3: bad_time" in out and "30  bad_time: time is empty or unreadable" in out


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "predict", "recommend", "release"])
def test_every_script_is_a_command(name):
    found = subprocess.run([sys.executable, str(ROOT / "scripts" / f"{name}.py"), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and "config" in found.stdout
    assert os.access(ROOT / "scripts" / f"{name}.py", os.X_OK)


def test_an_error_is_one_line(tmp_path, capsys):
    assert main(["prepare", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
