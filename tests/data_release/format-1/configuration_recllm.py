"""Shape of the model, as it is stored in config.json."""

from typing import Any

from transformers import PretrainedConfig

from .errors_recllm import ReleaseError, nearest

SUPPORTED = {"bert": 0, "roberta": 1}  # encoder type -> positions start at 0, or at pad + 1
DEFAULTS: dict[str, Any] = {
    "encoder": {}, "encoder_name": "", "layers": 3, "lora_rank": 8, "lora_alpha": 16.0, "profile_tokens": 32, "text_tokens": 48,
    "stride": 100, "overlap": 100, "table_size": 1, "token_numbers": 1, "context_slots": 1, "item_numbers": 0, "item_ids": 1,
    "extra_width": 0, "text_fields": 0,
    "item_id_dropout": 0.1, "binary": [], "given": {}, "duration": None, "duration_bins": 24, "head_width": 128, "dropout": 0.1,
    "cross_rank": 64,
}  # fmt: skip


class RecllmConfig(PretrainedConfig):
    """`encoder` is the plain config of the pretrained encoder; `binary` the binary outcomes, each after what it is `given`."""

    model_type = "recllm"

    def __init__(self, **settings: Any) -> None:
        for name, default in DEFAULTS.items():
            setattr(self, name, settings.pop(name, default))
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
        """Raise ReleaseError for an encoder that is untested or too short for the timeline."""
        kind = self.encoder.get("model_type")
        if kind not in SUPPORTED:
            raise ReleaseError(f'encoder "{self.encoder_name}": expected a model_type of {sorted(SUPPORTED)}, found "{kind}": '
                               f"choose another encoder in the config's model section")
        room = self.encoder["max_position_embeddings"] - self.first_position
        need = self.profile_tokens + self.stride + self.overlap + 1
        if need > room:
            raise ReleaseError(f'encoder "{self.encoder_name}": expected room for {need} positions (profile_tokens + stride + overlap '
                               f"+ 1), found {room}: lower them in the config's model section")
        most = self.encoder["num_hidden_layers"]
        if self.layers > most:
            raise ReleaseError(f'encoder "{self.encoder_name}": expected at most {most} layers, found {self.layers}: lower model.layers')

    @property
    def first_position(self) -> int:
        """Id of the first position: RoBERTa's start at pad + 1."""
        return int(self.encoder["pad_token_id"]) + 1 if SUPPORTED[self.encoder["model_type"]] else 0
