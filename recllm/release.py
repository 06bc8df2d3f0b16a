"""A release: one folder that `AutoModel`, the processor and the pipeline load in a process without recllm (DESIGN 7)."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from recllm.config import Config
from recllm.model.recommender_recllm import Recommender

CODE = Path(__file__).parent / "model"
AUTO_MAP = {"AutoConfig": "configuration_recllm.RecllmConfig", "AutoModel": "modeling_recllm.RecllmModel"}
PIPELINE = {"recommendation": {"impl": "pipeline_recllm.RecommendationPipeline", "pt": ["AutoModel"], "type": "multimodal"}}


def write_release(recommender: Recommender, folder: Path, card: str, training: dict[str, Any] | None = None) -> Path:
    """Write the full form: weights with adapters, config, processor, code and card; all of it or nothing."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        model = recommender.model
        model.config.auto_map, model.config.custom_pipelines = AUTO_MAP, PIPELINE
        model.config.architectures = ["RecllmModel"]
        torch.nn.Module.to(model, "cpu")
        model.save_pretrained(part)
        recommender.processor.save_pretrained(part)
        for path in sorted(CODE.glob("*_recllm.py")):
            shutil.copy(path, part / path.name)
        (part / "README.md").write_text(card, encoding="utf-8")
        if training is not None:
            (part / "training_config.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return folder


def portable(config: Config) -> dict[str, Any]:
    """The training configuration without paths of this machine."""
    plain = config.model_dump(mode="json", by_alias=True)
    for key in ("interactions", "users", "items"):
        plain["data"][key] = [Path(p).name for p in plain["data"][key]]
    if plain["model"]["encoder"].startswith(("/", ".")):
        plain["model"]["encoder"] = Path(plain["model"]["encoder"]).name
    return plain
