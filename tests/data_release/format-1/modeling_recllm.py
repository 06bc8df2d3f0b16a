"""The model: a frozen text tower, a body with LoRA that reads timelines, and heads on the candidate's state (DESIGN 5)."""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, PreTrainedModel

from .attention_recllm import NAME, KeyValues, Layout, timeline_mask
from .configuration_recllm import RecllmConfig
from .errors_recllm import ReleaseError
from .heads_recllm import Heads
from .tokens_recllm import TokenEncoder

try:
    from peft import LoraConfig, inject_adapter_in_model
except ImportError:  # merged releases load without it; the others say what is missing
    inject_adapter_in_model = None  # type: ignore[assignment]


def _encoder(plain: dict[str, Any], layers: int, dropout: float) -> Any:
    # attention dropout stays 0: with it sdpa is slow on CPU
    settings = {"num_hidden_layers": layers, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    config = AutoConfig.for_model(**{**plain, **settings})
    return AutoModel.from_config(config, attn_implementation=NAME, add_pooling_layer=False)


class RecllmModel(PreTrainedModel):
    """Timelines in, a state per candidate out. Takes tensors only; the processor knows ids and texts."""

    config_class = RecllmConfig
    base_model_prefix = "recllm"
    _tied_weights_keys = {"body.embeddings.word_embeddings.weight": "tower.embeddings.word_embeddings.weight"}
    _supports_sdpa = True

    def __init__(self, config: RecllmConfig) -> None:
        super().__init__(config)
        self.tower = _encoder(config.encoder, config.encoder["num_hidden_layers"], 0.0)
        self.body = _encoder(config.encoder, config.layers, config.dropout)
        width = config.encoder["hidden_size"]
        self.tokens = TokenEncoder(config, width, width)
        self.query = nn.Linear(width, width)
        self.query_scale = nn.Parameter(torch.tensor(2.0))  # log of the scale of the cosine in retrieval
        self.heads = Heads(config, width)
        self.post_init()
        if config.lora_rank:  # after post_init, which would draw lora_B at random
            if inject_adapter_in_model is None:
                raise ReleaseError("this release holds LoRA adapters and peft is not installed: pip install peft, or load a merged release")
            lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=["query", "key", "value", "dense"])
            inject_adapter_in_model(lora, self.body)
        for name, parameter in self.named_parameters():
            pretrained = name.startswith(("tower.", "body."))
            parameter.requires_grad = not pretrained or "lora_" in name

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.tower.embeddings.word_embeddings

    @torch.no_grad()
    def load_encoder(self, encoder: nn.Module) -> None:
        """Copy a pretrained encoder's weights into tower and body (its first layers). LoRA starts as the identity."""
        weights = encoder.state_dict()
        for part in (self.tower, self.body):
            own = part.state_dict()
            for name, value in own.items():
                source = name.replace(".base_layer", "")
                if "lora_" not in name:
                    value.copy_(weights[source])

    def train(self, mode: bool = True) -> "RecllmModel":
        """The tower is frozen and always in evaluation mode: its vectors are cached."""
        super().train(mode)
        self.tower.eval()
        return self

    # ---- text

    @torch.no_grad()
    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids (n, t) -> vectors (n, W) of length one: mean pooling of the tower's last states (Reimers and Gurevych 2019)."""
        states = self.tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        return normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)

    # ---- timelines

    def _run(self, embeddings: torch.Tensor, positions: torch.Tensor, layout: Layout) -> torch.Tensor:
        """One call of the body under a layout: (B, T, W) -> (B, T, W)."""
        types = torch.zeros_like(positions)
        out = self.body(inputs_embeds=embeddings, position_ids=positions, token_type_ids=types, layout=layout)
        layout.check(self.config.layers)
        return out.last_hidden_state

    def _positions(self, profile: int, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Positions (B, P + T): events after the profile's budget, candidates where the next event would stand."""
        events = int(batch["events"])
        n = batch["n"]
        index = torch.arange(n.shape[1], device=n.device).expand_as(n)
        tokens = self.config.profile_tokens + torch.where(index < events, index, n)
        first = torch.arange(profile, device=n.device).expand(len(n), -1)
        return torch.cat([first, tokens], dim=1) + self.config.first_position

    def states(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(profile states (B, P, W), token states (B, T, W), item contents (U, W)) of one packed batch, in one encoder call."""
        events, profile = int(batch["events"]), batch["profile"]
        content = self.tokens.content(batch["item_vector"], batch["item_id"])
        tokens = self.tokens(content, batch)
        own = torch.arange(tokens.shape[1], device=tokens.device)
        own = torch.where(own < events, own, -1)
        mask = timeline_mask(batch["profile_mask"], batch["n"], events, own)
        words = self.get_input_embeddings()(profile).to(tokens.dtype)
        layout = Layout(mask, profile.shape[1] + events)
        out = self._run(torch.cat([words, tokens], dim=1), self._positions(profile.shape[1], batch), layout)
        return out[:, : profile.shape[1]], out[:, profile.shape[1] :], content

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Raw logits (B, C) of each binary outcome, `duration_logits` (B, C, K), `query` (B, C, W) and `content` (U, W).

        C are the candidate-stream tokens, those after the first `events`. The inputs are what `RowProcessor.collate` makes.
        """
        _, states, content = self.states(batch)
        states = states[:, int(batch["events"]) :]
        return self.heads(states) | {"query": self.query(states), "content": content}

    # ---- a cached prefix

    def prefix(self, batch: dict[str, torch.Tensor]) -> KeyValues:
        """Each layer's keys and values (1, H, P + E, d) of one timeline: `batch` holds profile and events only."""
        events, profile = int(batch["events"]), batch["profile"]
        tokens = self.tokens(self.tokens.content(batch["item_vector"], batch["item_id"]), batch)
        mask = timeline_mask(batch["profile_mask"], batch["n"], events, torch.arange(events, device=tokens.device))
        layout = Layout(mask, profile.shape[1] + events, keep=True)
        words = self.get_input_embeddings()(profile).to(tokens.dtype)
        self._run(torch.cat([words, tokens], dim=1), self._positions(profile.shape[1], batch), layout)
        return layout.kept

    def after(self, past: KeyValues, batch: dict[str, torch.Tensor], start: int = 0) -> tuple[torch.Tensor, KeyValues]:
        """States (B, T, W) of tokens after a cached prefix, and the keys and values with the batch's events appended.

        The batch's first `events` tokens are new events whose place in the timeline is `start` on; the rest are candidates.
        """
        new, n = int(batch["events"]), batch["n"]
        known = past[0][0].shape[2] - start  # profile tokens
        tokens = self.tokens(self.tokens.content(batch["item_vector"], batch["item_id"]), batch)
        own = torch.arange(tokens.shape[1], device=n.device)
        own = torch.where(own < new, own + start, -1)
        index = torch.arange(start + new, device=n.device)
        on_events = (index < n[..., None]) | (index == own[:, None])
        mask = torch.cat([batch["profile_mask"][:, None].expand(-1, n.shape[1], -1)[..., :known], on_events], dim=2)
        place = torch.where(own >= 0, own, n)
        positions = self.config.profile_tokens + place + self.config.first_position
        layout = Layout(mask, new, past=past, keep=True)
        return self._run(tokens, positions, layout), layout.kept
