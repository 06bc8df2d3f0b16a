"""The model: a frozen text tower, a body with LoRA that reads timelines, and heads on the candidate's state (DESIGN 5)."""

import copy
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from .attention_recllm import NAME, After, Done, Growing, Layout, Packed, see, skip_unread
from .configuration_recllm import RecllmConfig
from .encoders_recllm import ARCHITECTURES, build
from .errors_recllm import ReleaseError
from .forms_recllm import load_form
from .fused_recllm import FusedBody
from .heads_recllm import Heads
from .prefix_recllm import Prefix
from .tokens_recllm import TokenEncoder

try:
    from peft import LoraConfig, inject_adapter_in_model
except ImportError:  # merged releases load without it; the others say what is missing
    inject_adapter_in_model = None  # type: ignore[assignment]


class RecllmModel(PreTrainedModel):
    """Timelines in, a state per candidate out. Takes tensors only; the processor knows ids and texts."""

    config_class = RecllmConfig
    base_model_prefix = "recllm"
    _tied_weights_keys = {"body.embeddings.word_embeddings.weight": "tower.embeddings.word_embeddings.weight"}
    _supports_sdpa = True

    def __init__(self, config: RecllmConfig) -> None:
        super().__init__(config)
        self.tower = build(config.encoder, config.encoder["num_hidden_layers"], 0.0, NAME)
        self.body = build(config.encoder, config.layers, config.dropout, NAME)
        self.tokens = TokenEncoder(config, config.token_width, config.state_width)
        self.query = nn.Linear(config.state_width, config.token_width)  # retrieval compares with contents, which are parts of tokens
        self.query_scale = nn.Parameter(torch.tensor(2.0))  # log of the scale of the cosine in retrieval
        self.heads = Heads(config, config.state_width)
        self.post_init()
        if config.lora_rank:  # after post_init, which would draw lora_B at random
            if inject_adapter_in_model is None:
                raise ReleaseError("this release holds LoRA adapters and peft is not installed: pip install peft, or load a merged release")
            targets = list(ARCHITECTURES[config.encoder["model_type"]].lora)
            lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=targets)
            inject_adapter_in_model(lora, self.body)
        skip_unread(self.body)
        for name, parameter in self.named_parameters():
            pretrained = name.startswith(("tower.", "body."))
            parameter.requires_grad = not pretrained or "lora_" in name

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """A release of any form, from a folder or the Hub: see `forms_recllm.load_form`."""
        return load_form(super().from_pretrained, pretrained_model_name_or_path, *args, **kwargs)

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

    # ---- for inference

    def version(self) -> tuple[Any, ...]:
        """What changes whenever a weight is changed in place or replaced, by a step of training or by loading, or the model moves.

        A write past autograd into a weight's memory (`weight.data.add_`) goes unseen: `torch.autograd.graph.increment_version` tells of it.
        """
        weights = [weight for table in self._weight_tables for weight in table.values() if weight is not None]
        changes = sum(0 if weight.is_inference() else weight._version for weight in weights)
        return changes, hash(tuple(weight.data_ptr() for weight in weights)), str(self.device), str(self.dtype)

    @cached_property
    def _weight_tables(self) -> list[Any]:
        """Where modules keep their weights, whichever they are: `version` is asked for several times a request, and walking over all
        modules takes most of its time."""
        return [module._parameters for module in self.modules() if module._parameters]

    def for_inference(self) -> "RecllmModel":
        """This model with its body fused, its adapters added into copies of the weights as they are now; put it in evaluation mode first.
        Everything else is shared. It computes in its weights' precision, whatever Accelerate has made of this one's forward."""
        fast = copy.copy(self)
        fast.__dict__.pop("forward", None)  # bound to the other body by `prepare_model`
        fast._modules = {**self._modules, "body": FusedBody(self.body)}
        return fast

    # ---- text

    @torch.no_grad()
    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token ids (n, t) -> vectors (n, W) of length one: mean pooling of the tower's last states (Reimers and Gurevych 2019)."""
        states = self.tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        return normalize((states * mask).sum(1) / mask.sum(1).clamp(min=1), dim=-1)

    # ---- timelines

    def _run(self, embeddings: torch.Tensor, positions: torch.Tensor, layout: Layout) -> torch.Tensor:
        """One call of the body under a layout: tokens (N, W) and positions (N,) -> states (N - skip, W), those that the layout skips left
        out."""
        positions = positions[None] + self.config.first_position
        types = torch.zeros_like(positions)
        out = self.body(inputs_embeds=embeddings[None], position_ids=positions, token_type_ids=types, layout=layout)
        layout.check(self.config.layers)
        states = out.last_hidden_state[0]
        return states[len(states) + layout.skip - len(embeddings) :]

    def _tokens(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(event and candidate tokens (E + C, W), contents (U, W) of the batch's items)."""
        content = self.tokens.content(batch["item_vector"], batch["item_id"])
        return self.tokens(content, batch), content

    def _words(self, batch: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        """[profile words, event and candidate tokens] (P + E + C, W)."""
        return torch.cat([self.get_input_embeddings()(batch["profile"]).to(tokens.dtype), tokens])

    def states(self, batch: dict[str, torch.Tensor], skip: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """(states (P + E + C - skip, W), item contents (U, W)) of one packed batch, in one encoder call: those of all profiles, all events,
        all candidates, without the first `skip`."""
        tokens, content = self._tokens(batch)
        layout = Packed(batch["sizes"], batch["n"], skip)
        return self._run(self._words(batch, tokens), batch["position"], layout), content

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        """Raw logits (C,) of each binary outcome, `duration_logits` (C, K), `query` (C, W) and `content` (U, W).

        C are the candidates and queries of all examples, one example behind the other. The inputs are what `RowProcessor.collate` makes.
        """
        states, content = self.states(batch, skip=int(batch["sizes"][:, :2].sum()))
        return self.heads(states) | {"query": self.query(states), "content": content}

    # ---- a kept prefix

    def prefix(self, batch: dict[str, torch.Tensor]) -> Prefix:
        """Keys and values of one timeline: `batch` holds one example's profile and events."""
        made, layout, tokens = self._opening(batch)
        self._keep(tokens, batch["position"], layout)
        return made

    def open(self, batch: dict[str, torch.Tensor]) -> tuple[Prefix, torch.Tensor]:
        """(keys and values of one timeline, states (C, W) of candidates that see all of it) in one call of the encoder, which costs a fifth
        less than two for 30 candidates, a thirtieth for 1,000: `batch` holds one example's profile, events and candidates."""
        made, layout, tokens = self._opening(batch)
        return made, self._run(tokens, batch["position"], layout)

    def _opening(self, batch: dict[str, torch.Tensor]) -> tuple[Prefix, Growing, torch.Tensor]:
        profile, events, _ = batch["sizes"][0].tolist()
        config, n = self.body.config, batch["n"][:events]
        tokens = self._words(batch, self._tokens(batch)[0])
        size = config.hidden_size // config.num_attention_heads
        made = Prefix.empty(self.config.layers, config.num_attention_heads, size, profile, events, tokens)
        seen = torch.cat([n.new_zeros(profile), n])
        place = torch.cat([n.new_full((profile,), -1), torch.arange(events, device=n.device)])
        mask = see(seen, n.new_full((1,), profile), profile, events, place, tokens.dtype)
        return made, Growing(made, profile + events, mask), tokens

    def extend(self, prefix: Prefix, batch: dict[str, torch.Tensor]) -> Prefix:
        """A prefix with the events of a batch of one example appended, whose `n` counts from the timeline's first event. The old one stays
        as it is."""
        events, n = int(batch["sizes"][0, 1]), batch["n"]
        start, longer = prefix.events, prefix.grown(events)
        place = torch.arange(start, start + events, device=n.device)
        tokens, mask = self._tokens(batch)[0], None
        if events > 1 or int(n[0]) < start:
            mask = see(n, n.new_full((1,), prefix.profile), prefix.profile, longer.events, place, tokens.dtype)
        self._keep(tokens, place + self.config.profile_tokens, Growing(longer, events, mask))
        return longer

    def _keep(self, tokens: torch.Tensor, positions: torch.Tensor, layout: Growing) -> None:
        try:
            self._run(tokens, positions, layout)
        except Done:
            layout.check(self.config.layers)

    def after(self, prefix: Prefix, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """States (C, W) of the candidates of a batch of one example, after a prefix of which each sees the first `n` events."""
        n = batch["n"]
        mask = None
        if int(n.min()) < prefix.events:
            nothing = torch.full_like(n, -1)
            mask = see(n, n.new_full((1,), prefix.profile), prefix.profile, prefix.events, nothing, prefix.buffer.made.dtype)
        return self._run(self._tokens(batch)[0], batch["position"][-len(n) :], After(prefix, mask))
