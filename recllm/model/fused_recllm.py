"""The body for inference: an encoder's arithmetic in fewer calls, its adapters in the weights.

A layer of every encoder in `encoders_recllm` is (norms behind sums, as in Vaswani et al. 2017; small letters are biases)

    h = norm1(x + O attend(Q x + q, K x + k, V x + v) + o)        y = norm2(h + D act(U h + u) + d)

A sum needs no call of its own where a product is written onto what it is added to. That leaves o and d, which the norm before them can add:
x comes as x + o and h as h + d, and whatever else reads them is told so (q - Q o instead of q, and so on). Then a layer is five products,
one activation, one attention and two norms, and nothing is copied: a quarter of 100 candidates' time less, a tenth of 1,000's.
"""

from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import layer_norm
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput

from .encoders_recllm import ARCHITECTURES, Parts, layers_of
from .lora_recllm import merged_weight


class Linear(NamedTuple):
    """`weight` (in, out) as a product reads it fastest, `bias` (out,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, states, self.weight)

    def of(self, added: torch.Tensor) -> "Linear":
        """What gives the same of `states + added`."""
        return self.more(-(added @ self.weight))

    def more(self, added: torch.Tensor) -> "Linear":
        return Linear(self.weight, self.bias + added)


class Norm(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class Layer(NamedTuple):
    query: Linear
    key_value: Linear  # both in one product
    out: torch.Tensor
    norm1: Norm
    up: Linear
    down: torch.Tensor
    norm2: Norm


class FusedBody(nn.Module):
    """What `encoder(inputs_embeds=..., position_ids=..., layout=...)` gives, for one row, without gradients and in the weights' precision.
    Layers hold copies of the encoder's weights as they were, which are no parameters: make it anew where the encoder moves or changes."""

    @torch.no_grad()
    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.config, embeddings = encoder.config, cast(Any, encoder.embeddings)
        row, layers = ARCHITECTURES[encoder.config.model_type], layers_of(encoder)
        self.heads: int = encoder.config.num_attention_heads
        self.act = ACT2FN[getattr(encoder.config, row.own.get("hidden_act", "hidden_act"))]
        self.positions: nn.Embedding = embeddings.position_embeddings
        self.kind: torch.Tensor | None = embeddings.token_type_embeddings.weight[0].clone() if row.types else None
        into = [parts.out.bias for parts in layers]  # what is added on the way into each layer
        projection = dict(encoder.named_modules()).get(row.project) if row.project else None
        self.norm = _norm(embeddings.LayerNorm, into[0] if projection is None else 0.0)
        self.project = None if projection is None else _linear(projection).more(into[0])
        fold = cache(_layer)  # layers that share their weights share what is made of them
        self.layers = [fold(parts)._replace(norm2=_norm(parts.norm2, after)) for parts, after in zip(layers, [*into[1:], 0.0], strict=True)]
        self.eval()

    @torch.no_grad()
    def forward(self, inputs_embeds: torch.Tensor, position_ids: torch.Tensor, layout: Any, **_: Any) -> BaseModelOutput:
        """`inputs_embeds` (1, N, W), `position_ids` (1, N) -> `last_hidden_state` (1, N - skip, W), without the states that the layout
        skips."""
        with torch.autocast(inputs_embeds.device.type, enabled=False):  # what is written in place keeps its precision
            states = self.positions(position_ids[0]).add_(inputs_embeds[0])
            states = self.norm(states if self.kind is None else states.add_(self.kind))
            if self.project is not None:
                states = self.project(states)
            for layer in self.layers:
                mixed = self._attend(layer, states, layout)
                if layer is self.layers[-1]:
                    states, mixed = states[layout.skip :], mixed[layout.skip :]
                inner = layer.norm1(states.addmm_(mixed, layer.out))
                states = layer.norm2(inner.addmm_(self.act(layer.up(inner)), layer.down))
            return BaseModelOutput(last_hidden_state=states[None])

    def _attend(self, layer: Layer, states: torch.Tensor, layout: Any) -> torch.Tensor:
        """(N, W) mixed values; keys and values are those of the tokens that the layout reads."""
        read = states[: layout.own]
        both = layer.key_value(read) if len(read) else states.new_empty(0, 2 * states.shape[1])
        query, key, value = (x.unflatten(1, (self.heads, -1)).transpose(0, 1)[None] for x in (layer.query(states), *both.chunk(2, dim=1)))
        return layout.attend(self, query, key, value)[0].reshape(states.shape)


def _layer(parts: Parts) -> Layer:
    """One layer, whose states come with `out`'s bias added."""
    query, key, value, up = (_linear(module) for module in (parts.query, parts.key, parts.value, parts.up))
    out, down = _linear(parts.out), _linear(parts.down)
    both = Linear(torch.cat([key.weight, value.weight], dim=1), torch.cat([key.bias, value.bias]))
    return Layer(query.of(out.bias), both.of(out.bias), out.weight, _norm(parts.norm1, down.bias), up.of(down.bias), down.weight,
                 _norm(parts.norm2, 0.0))


def _linear(module: nn.Module) -> Linear:
    weight, bias = merged_weight(module)
    return Linear(weight.t().contiguous(), bias)


def _norm(module: Any, added: Any) -> Norm:
    return Norm(module.weight.clone(), module.bias + added, module.eps)
