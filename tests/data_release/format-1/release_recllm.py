"""The folder of a release: weights with adapters, config, processor, code and card, all of it or nothing (DESIGN 7)."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from transformers.utils.hub import hf_api

from .errors_recllm import ReleaseError
from .files_recllm import whole_folder
from .modeling_recllm import RecllmModel
from .processor_recllm import RecllmProcessor

AUTO_MAP = {"AutoConfig": "configuration_recllm.RecllmConfig", "AutoModel": "modeling_recllm.RecllmModel"}
PIPELINE = {"recommendation": {"impl": "pipeline_recllm.RecommendationPipeline", "pt": ["AutoModel"], "type": "multimodal"}}


def write_release(model: RecllmModel, processor: RecllmProcessor, folder: Path, card: str = "",
                  training: dict[str, Any] | None = None) -> Path:
    """Write the full form (weights with adapters, config, processor, code, `card` as README.md, `training` settings): all of it, or
    nothing. `AutoModel`, the processor and the pipeline load it without recllm. An earlier release is replaced; raises ReleaseError
    for a folder that holds anything else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "processor_spec.json").is_file():
        raise ReleaseError(f"{folder}: expected no folder, an empty one or an earlier release, found other files: choose another")
    with whole_folder(folder) as part:
        config = model.config
        config.auto_map, config.custom_pipelines, config.architectures = AUTO_MAP, PIPELINE, ["RecllmModel"]
        model.save_pretrained(part)
        processor.save_pretrained(part)
        for path in sorted(Path(__file__).parent.glob("*_recllm.py")):
            shutil.copy(path, part / path.name)
        (part / "README.md").write_text(card, encoding="utf-8")
        if training is not None:
            (part / "training_config.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    return folder


def upload_release(model: RecllmModel, processor: RecllmProcessor, repo_id: str, card: str, private: bool, token: str | None) -> str:
    """Write a release aside and upload it to the Hub. Returns the address of the commit."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_release(model, processor, Path(place) / "release", card)
        hf_api().create_repo(repo_id, private=private, token=token, exist_ok=True)
        return str(hf_api().upload_folder(repo_id=repo_id, folder_path=folder, token=token, commit_message="Release of recllm"))
