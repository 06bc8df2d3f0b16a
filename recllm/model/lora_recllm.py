"""Adapters added into the weights that they adapt. Needs no peft."""

from typing import Any, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from .attention_recllm import skip_unread

Module = TypeVar("Module", bound=nn.Module)
Encoder = TypeVar("Encoder", bound=PreTrainedModel)


def merge_layers(module: Module) -> Module:
    """Add every LoRA adapter of a module into its layer and leave plain layers behind, in place."""
    adapted = [(name, layer) for name, layer in module.named_modules() if hasattr(layer, "get_base_layer")]
    for name, layer in adapted:
        layer.merge()
        module.set_submodule(name, layer.get_base_layer())
    return module


def merged(encoder: Encoder) -> Encoder:
    """`merge_layers` of an encoder that reads timelines: the plain layers project what is read and no more, as the adapted ones did."""
    if any(hasattr(layer, "get_base_layer") for layer in encoder.modules()):
        skip_unread(merge_layers(encoder))
    return encoder


def merged_weight(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight (out, in) with a linear layer's adapters added, bias (out,)); the layer stays as it is."""
    plain = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    if plain is layer:
        return plain.weight, plain.bias
    return plain.weight + sum(layer.get_delta_weight(name) for name in layer.active_adapters), plain.bias
