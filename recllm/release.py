"""`scripts/release.py`: a trained run as one folder with its model card (DESIGN 7). The writing itself is the recommender's."""

from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.sources.places import shown
from recllm.evaluation.report import card
from recllm.recommend.build import recommender_of
from recllm.training.run import load_trained


def release(config: Config, *, seed: int | None = None, folder: Path | None = None, results: Path | None = None) -> Path:
    """Write the release of a finished run and return its folder. Raises TrainingError where there is no such run."""
    plain = portable(config)
    text = card(config.name, config.note, plain, results or config.folder / "results.json")
    return recommender_of(load_trained(config, seed)).save_pretrained(folder or config.release, text, plain)


def portable(config: Config) -> dict[str, Any]:
    """The training configuration without paths of this machine, addresses and keys."""
    plain = config.model_dump(mode="json", by_alias=True, exclude={"root": True, "data": {"storage", "out", "executor_options"}})
    for key in ("interactions", "users", "items", "relations"):
        plain["data"][key] = [Path(shown(p)).name for p in plain["data"][key]]
    if plain["model"]["encoder"].startswith(("/", ".")):
        plain["model"]["encoder"] = Path(plain["model"]["encoder"]).name
    return plain
