"""Two processes under `accelerate launch` make the update that one process makes."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file

from recllm.data.prepare import prepare
from recllm.training.checkpoint import newest
from recllm.training.run import run_folder, train
from tests.worlds import rich_config

ROOT = Path(__file__).parent.parent.parent
LAUNCH = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def test_two_processes_equal_one(tmp_path, tiny_encoder, monkeypatch):
    # given no dropout, the one thing that differs by rank
    config = rich_config(tmp_path, tiny_encoder, dropout=0.0, item_id_dropout=0.0)
    plain = config.model_dump(mode="json", by_alias=True)
    plain["training"] |= {"epochs": 1, "tokens_per_batch": 400}
    (tmp_path / "rich.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    config = type(config).model_validate(plain)
    prepare(config)
    train(config, say=lambda _: None)
    one = load_file(newest(run_folder(config, 0)) / "trainable.safetensors")
    # when two processes train on the same prepared log
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "two"))
    prepare(config)
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, str(ROOT / "scripts/train.py"), str(tmp_path / "rich.yaml")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "RECLLM_RUNS": str(tmp_path / "two")}
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
    two = load_file(newest(run_folder(config, 0)) / "trainable.safetensors")
    assert set(one) == set(two)
    off = torch.cat([(two[name] - value).abs().flatten() for name, value in one.items()])
    # Adam divides by the root of second moments: where a gradient is almost nothing, rounding of the sum over ranks decides its sign
    assert float((off > 1e-4).float().mean()) < 1e-3 and float(off.max()) < config.training.learning_rate
    assert float(sum(v.abs().sum() for n, v in one.items() if "lora_B" in n)) > 0
