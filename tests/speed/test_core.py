"""The whole measurement at a tiny size; what it may import; and that a void run leaves no file."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scripts import benchmark
from tests.speed import core, encoder, ours
from tests.speed.tiny import SHAPE, write_log

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
MEASURED = ("core", "encoder", "fitted", "flat", "matmul", "movielens", "ours", "ours_loss", "rounds")
ELSEWHERE = {"pandas", "duckdb", "datasets", "sklearn", "pyarrow", "pydantic"}
BROUGHT = {"accelerate", "yaml"}  # by peft and by transformers themselves


def test_what_is_measured_runs_where_only_torch_transformers_and_peft_are():
    # when the core's measurement is imported in a fresh process
    code = ("import sys, torch, transformers, peft; before = set(sys.modules); import tests.speed.core; "
            "print(*sorted(sys.modules)); print(*sorted(set(sys.modules) - before))")
    everything, new = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout.splitlines()
    # then nothing else has come along
    assert not ELSEWHERE & {name.split(".")[0] for name in everything.split()}
    assert not BROUGHT & {name.split(".")[0] for name in new.split()}
    assert {name for name in new.split() if name.startswith("recllm.")} >= {"recllm.model", "recllm.model.modeling_recllm"}
    assert all(name.startswith("recllm.model") for name in new.split() if name.startswith("recllm."))


def test_no_function_of_it_imports_more_later():
    allowed = {"torch", "transformers", "peft", "numpy", "safetensors", *sys.stdlib_module_names}
    for name in MEASURED:
        for node in ast.walk(ast.parse((ROOT / "tests" / "speed" / f"{name}.py").read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) else [])
            for module in modules:
                if not module.startswith(("recllm.model.", "tests.speed.")):
                    assert module.split(".")[0] in allowed, f"{name}: {module}"
                assert not module.startswith("tests.speed.") or module.split(".")[2] in MEASURED, f"{name}: {module}"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The same steps over a thin encoder, few candidates and few repeats."""
    for name, value in {"REQUESTS": {3: 2}, "BUDGETS": (512, 2_048), "TEXTS": 2, "TOKENS": 24, "SCORING_SIZES": (1, 2),
                        "TRAINING_SIZES": (1, 2), "LONGEST": 500, "HISTORIES": (50, 500)}.items():  # fmt: skip
        monkeypatch.setattr(core, name, value)
    monkeypatch.setitem(ours.BLOCK, "cpu", 256)
    torch.manual_seed(0)
    thin = encoder.bare(SHAPE).eval()
    monkeypatch.setattr(core, "load_encoder", lambda: (thin, None))
    return write_log(tmp_path / "ml-100k")


def test_a_run_gives_every_figure(small):
    found = core.core(small, CPU, 1, lambda text: None)
    named = ("score_ratio_100", "score_ratio_1000", "train_ratio", "train_ratio_6_layers", "append_ratio", "extension_400_over_50",
             "matmul_fraction", "flat_matmul_fraction", "collate_events_per_s")  # fmt: skip
    assert all(found[name] > 0 for name in named)
    assert found["padding"]["tokens"] == 0 and 0 <= found["padding"]["pairs"] < 0.5
    assert set(found["layers"]) == {"3", "6"}
    for depth in found["layers"].values():
        assert {"cold", "cached"} == set(depth["seconds_of_a_request"]["3"])
        assert depth["by_history"]["50"]["events_in_window"] == 50
        assert depth["by_history"]["500"]["events_in_window"] == 100
        assert depth["bytes_per_cached_prefix"]["199"] > depth["bytes_per_cached_prefix"]["100"]
    assert found["layers"]["6"]["ratio_to_flat"]["score_100"] == found["score_ratio_100"]
    assert found["layers"]["3"]["ratio_to_flat"]["train"] == found["train_ratio"]
    json.dumps(found)


def test_a_prefix_that_is_extended_scores_as_one_that_was_computed(small):
    """What is timed is the same work on both sides."""
    data = core.Movielens(small, core.load_encoder()[0], None)
    side = core.Ours(data, core.load_encoder()[0], 3, CPU, data.longest(200), windows=2)
    with torch.inference_mode():
        whole = side.served.prefix(side.ask(1, 51).context)
        grown = side.served.extend(side.prefix(50), side.events(50, 51))
    for layer in range(whole.layers):
        for part, value in zip(grown.read(layer, torch.float32), whole.read(layer, torch.float32), strict=True):
            torch.testing.assert_close(part, value, atol=1e-5, rtol=1e-5)


def test_without_the_package_the_encoder_has_its_shape(monkeypatch):
    monkeypatch.setattr(encoder, "PACKAGE", "no_package_of_this_name")
    model, tokenizer = encoder.load_encoder()
    assert tokenizer is None
    assert encoder.plain_of(model) == encoder.MINILM
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 22.6  # MiniLM without its pooler


def test_the_precision_of_cuda_reaches_every_path(small, monkeypatch):
    """bfloat16 on CPU is slow and the same code."""
    monkeypatch.setattr(ours, "precision", lambda device: torch.bfloat16)
    side = core.Ours(core.Movielens(small, core.load_encoder()[0], None), core.load_encoder()[0], 3, CPU, 0, windows=2)
    done = side.train_round(2_048), side.score(3, False), side.request(3, True), side.extend(50, 1), side.recompute(50, 1)
    assert all(seconds > 0 for seconds, _ in done)
    assert side.prefix(100).buffer.made.dtype == torch.bfloat16


def test_a_training_round_moves_what_is_trained_and_lowers_the_loss(small):
    data = core.Movielens(small, core.load_encoder()[0], None)
    side = core.Ours(data, core.load_encoder()[0], 3, CPU, 0, windows=3)
    side.optimizer.param_groups[0]["lr"] = 1e-2
    built = data.training_examples(3)
    before = {name: value.clone() for name, value in side.trained.state_dict().items()}

    def loss():
        side.trained.eval()
        batch = side._batch([x.example for x in built])
        value = float(ours.loss_of(side.trained, side.trained(**batch), batch, built).detach())
        side.trained.train()
        return value

    first = loss()
    for _ in range(3):
        seconds, impressions = side.train_round(2_048)
    assert seconds > 0 and impressions == sum(len(x.labels) for x in built)
    assert loss() < first
    moved = {name for name, value in side.trained.state_dict().items() if not torch.equal(value, before[name])}
    assert any("lora_B" in name for name in moved) and not any(name.startswith("tower.") for name in moved)


@pytest.mark.parametrize(("share", "rounds", "status", "written"), [(0.44, 5, 1, False), (0.45, 5, 0, True), (0.6, 1, 0, False)])
def test_a_void_run_and_a_look_leave_no_file(share, rounds, status, written, tmp_path, capsys):
    args = benchmark.parser().parse_args(["core", "--rounds", str(rounds), "--out", str(tmp_path / "speed.json")])
    assert args.keep(args, {"device": "cpu", "flat_matmul_fraction": share}) == status
    assert (tmp_path / "speed.json").is_file() == written
    if status:
        assert "void: expected the flat encoder at 0.45 of matrix speed" in capsys.readouterr().err


def test_the_command_says_how_to_get_a_log_that_is_missing(tmp_path):
    args = benchmark.parser().parse_args(["core", "--log", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="pip download --no-deps recbole"):
        args.measure(args)
