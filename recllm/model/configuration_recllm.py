"""Shape of the model, as it is stored in config.json."""

from typing import Any

from transformers import PretrainedConfig

from .encoders_recllm import architecture, check_layers
from .errors_recllm import ReleaseError, nearest
from .manifest_recllm import AGAIN, check_format

DEFAULTS: dict[str, Any] = {
    "encoder": {}, "encoder_name": "", "layers": 3, "lora_rank": 8, "lora_alpha": 16.0, "profile_tokens": 32, "text_tokens": 48,
    "stride": 100, "overlap": 100, "table_size": 1, "token_numbers": 1, "context_slots": 1, "item_numbers": 0, "item_ids": 1,
    "extra_width": 0, "text_fields": 0,
    "item_id_dropout": 0.1, "binary": [], "given": {}, "duration": None, "duration_bins": 24, "head_width": 128, "dropout": 0.1,
    "cross_rank": 64, "form": "full", "release_format": 1, "encoder_revision": None, "encoder_sha256": "",
}  # fmt: skip


def _typed(name: str, value: Any, default: Any) -> Any:
    """A setting of its default's type, text or nothing where that is None. Raises ReleaseError for another."""
    kinds = {int: (int,), float: (int, float), type(None): (str, type(None))}.get(type(default), (type(default),))
    if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
        raise ReleaseError(f"config.json: expected {name} of type {kinds[0].__name__}, found {type(value).__name__} {str(value)[:40]!r}: "
                           f"{AGAIN}")
    return value


class RecllmConfig(PretrainedConfig):
    """`encoder` is the pretrained encoder's shape (`encoders_recllm.shape_of`); `binary` the binary outcomes, each after what it is
    `given`."""

    model_type = "recllm"

    def __init__(self, **settings: Any) -> None:
        for name, default in DEFAULTS.items():
            setattr(self, name, _typed(name, settings.pop(name, default), default))
        check_format(self.release_format, "config.json")
        settings.setdefault("tie_word_embeddings", True)  # without it the mapping of tied weights is ignored in silence
        super().__init__(**settings)

    @classmethod
    def checked(cls, **settings: Any) -> "RecllmConfig":
        """A config from known settings only. Raises ReleaseError for a misspelt one, or an encoder that is not supported."""
        for name in settings:
            if name not in DEFAULTS:
                raise ReleaseError(f'unknown model setting "{name}".{nearest(name, list(DEFAULTS))}')
        config = cls(**settings)
        config.check()
        return config

    def check(self) -> None:
        """Raise ReleaseError for an encoder that cannot work, or is too short for the timeline or the texts."""
        architecture(self.encoder.get("model_type"), self.encoder_name)
        room = self.encoder["max_position_embeddings"] - self.first_position
        timeline = self.profile_tokens + self.stride + self.overlap + 1
        for need, what in ((timeline, "profile_tokens + stride + overlap + 1"), (self.text_tokens, "text_tokens")):
            if need > room:
                raise ReleaseError(f'encoder "{self.encoder_name}": expected room for {need} positions ({what}), found {room}: lower '
                                   f"what is in brackets in the config's model section")
        check_layers(self.encoder, self.layers, self.encoder_name)

    @property
    def first_position(self) -> int:
        """Id of the first position: those of RoBERTa and XLM-R start at pad + 1."""
        after = architecture(self.encoder["model_type"], self.encoder_name).after_padding
        return int(self.encoder["pad_token_id"]) + 1 if after else 0

    @property
    def token_width(self) -> int:
        """Width of what the encoder reads: that of its word embeddings, which ELECTRA and ALBERT project to that of their states."""
        return int(self.encoder.get("embedding_size", self.encoder["hidden_size"]))

    @property
    def state_width(self) -> int:
        """Width of what the encoder gives: of its states, and so of item vectors."""
        return int(self.encoder["hidden_size"])
