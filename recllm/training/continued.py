"""A run that goes on from a release on the days that came since (`scripts/train.py CONFIG --init-from RELEASE`).

Everything fitted is the release's, so that its weights keep their meaning; the catalogue, the item counts and the calibration are new.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recllm.config import Config, declared
from recllm.errors import TrainingError
from recllm.feed.fit import Kept, vector_sizes
from recllm.feed.log import Log
from recllm.model.encoders_recllm import shape_of
from recllm.model.files_recllm import whole_file
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processor_recllm import RecllmProcessor
from recllm.training.checkpoint import trainable_state
from recllm.training.setup import TRAIN, Setup, load_pretrained

FILE, WEIGHTS = "fitted.json", "model.safetensors"
IDS = "tokens.ids.weight"
SHAPE = ("layers", "lora_rank", "lora_alpha", "profile_tokens", "text_tokens", "stride", "overlap", "duration_bins", "head_width",
         "cross_rank")  # fmt: skip
SHOWN = 5  # differences named in an error


@dataclass(frozen=True)
class Start:
    """A release that fits a config and its log: what is kept of it, and its model."""

    folder: Path
    kept: Kept
    model: RecllmModel

    @torch.no_grad()
    def take_weights(self, model: RecllmModel) -> None:
        """Put the release's trained weights and calibration into a model of `setup(..., kept)`; ids of new items start at zero.

        Raises TrainingError for a weight of another shape, which no release that passed `start_from` has.
        """
        own, found = model.state_dict(), self.model.state_dict()
        for name in trainable_state(model):
            value, old = own[name], found.get(name)
            if name == IDS and old is not None:
                value.zero_()
                value[: len(old)].copy_(old)
            elif old is None or old.shape != value.shape:
                raise TrainingError(f"{self.folder}: expected {name} of shape {list(value.shape)}, found "
                                    f"{'none' if old is None else list(old.shape)}: train without --init-from")
            else:
                value.copy_(old)

    def summary(self, made: Setup) -> str:
        """From where and on what the run goes on, in one line."""
        scored = (made.log.split == TRAIN) & made.log.frame["scored"].to_numpy(dtype=bool)
        new = scored & (made.log.time() >= self.kept.trained_until)
        ids = made.model.config.item_ids - 1 - len(self.kept.id_items)
        return (f"going on from {self.folder} ({self.kept.release[:12]}), trained until {day(self.kept.trained_until)}: {new.sum():,} of "
                f"{scored.sum():,} train rows are new, and {ids:,} items")


def day(milliseconds: int) -> str:
    """A UTC moment for a reader."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, tz=UTC):%Y-%m-%d %H:%M} UTC"


def start_from(folder: Path, config: Config, log: Log) -> Start:
    """Read a release and check that a run can go on from it. Raises TrainingError naming all that differs (schema, encoder, shape), or
    both dates where the log has no new rows to train on."""
    if not (folder / WEIGHTS).is_file() or not (folder / "processor_spec.json").is_file():
        raise TrainingError(f"--init-from: expected the folder of a release, found none in {folder}: see scripts/release.py")
    rows, model = RecllmProcessor.from_pretrained(folder).rows, RecllmModel.from_pretrained(folder, base_encoder=config.model.encoder)
    if model.config.form == "merged":
        raise TrainingError(f"--init-from: expected the full or adapter form, found the merged one in {folder}: its adapters cannot be "
                            f"trained on")
    # roles that neither declares are no difference: a release of an earlier version does not name them
    found = [*_schema_differences(declared(json.loads(config.columns.model_dump_json())), declared(rows.spec["schema"]), "schema"),
             *_setting_differences(config, log, rows.spec, model), *_encoder_differences(config, model)]
    if found:
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise TrainingError(f"{folder} cannot be gone on from with this config: {'; '.join(found[:SHOWN])}{more}: use the release's own "
                            f"settings, or train without --init-from")
    trained_until, end = int(rows.spec["train_end"]), log.report.cuts[0]
    scored = (log.split == TRAIN) & log.frame["scored"].to_numpy(dtype=bool)
    if not (scored & (log.time() >= trained_until)).any():
        raise TrainingError(f"expected scored train rows after {day(trained_until)}, where the training of {folder} ended, found none: the "
                            f"train split of {config.prepared} ends at {day(end)}: give a longer log, or move data.split")
    ids: list[str | None] = [None] * (model.config.item_ids - 1)
    for item, row in zip(rows.items.ids, rows.items.id_row, strict=True):
        if row > 0:
            ids[int(row) - 1] = item
    weights = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return Start(folder, Kept(weights, trained_until, rows.spec, ids), model)


def _schema_differences(own: Any, released: Any, where: str) -> list[str]:
    """`schema.context.device: ...` for every leaf in which two schemas differ."""
    if isinstance(own, dict) and isinstance(released, dict):
        return [line for key in {**own, **released} for line in _schema_differences(own.get(key), released.get(key), f"{where}.{key}")]
    return [] if own == released else [_difference(where, own, released)]


def _difference(name: str, own: Any, released: Any) -> str:
    return f"{name} is {json.dumps(own)[:60]} here and {json.dumps(released)[:60]} in the release"


def _setting_differences(config: Config, log: Log, spec: dict[str, Any], model: RecllmModel) -> list[str]:
    """Settings of the model section that decide shapes or what the weights mean, and lengths of precomputed vectors."""
    pairs = [(f"model.{name}", getattr(config.model, name), getattr(model.config, name)) for name in SHAPE]
    pairs += [("model.item_id", config.model.item_id, model.config.item_ids > 1), ("model.counters", config.model.counters,
                                                                                  spec["use_counters"]),
              ("model.recent_days", config.model.recent_days, spec.get("recent_days", []))]
    pairs += [("lengths of schema.item_vector", vector_sizes(log), spec["item_vectors"])]
    return [_difference(name, own, released) for name, own, released in pairs if own != released]


def _encoder_differences(config: Config, model: RecllmModel) -> list[str]:
    """The encoder must be the release's to the last weight: names of folders say little. A body that is not the encoder's first layers
    was trained from random weights (`model.pretrained: false`)."""
    encoder, _ = load_pretrained(config.model.encoder)
    own, released = shape_of(encoder.config, config.model.encoder), model.config.encoder
    found = [_difference(f"model.encoder's {key}", own.get(key), released.get(key)) for key in {**own, **released}
             if own.get(key) != released.get(key)]  # fmt: skip
    if found:
        return [f'model.encoder is "{config.model.encoder}" here and "{model.config.encoder_name}" in the release', *found]
    weights = encoder.state_dict()

    def same(part: torch.nn.Module) -> bool:
        return all(torch.equal(v, weights[n.replace(".base_layer", "")]) for n, v in part.state_dict().items() if "lora_" not in n)

    if not same(model.tower):
        return [f'the weights of model.encoder "{config.model.encoder}" are not those of the release\'s "{model.config.encoder_name}"']
    pretrained = same(model.body)
    return [] if pretrained == config.model.pretrained else [_difference("model.pretrained", config.model.pretrained, pretrained)]


# ---- what the run folder holds of it


def text(kept: Kept | None) -> str:
    """JSON of what is kept, the same for equal releases; nothing for a run that goes on from none."""
    return "" if kept is None else json.dumps(asdict(kept), ensure_ascii=False, sort_keys=True)


def write(kept: Kept, folder: Path) -> None:
    with whole_file(folder / FILE) as part:
        part.write_text(text(kept) + "\n", encoding="utf-8")


def read(folder: Path) -> Kept | None:
    """What a run folder's run keeps of a release, None for one that was trained from the start."""
    path = folder / FILE
    return Kept(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
