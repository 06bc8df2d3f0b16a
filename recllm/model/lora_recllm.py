"""Adapters added into the weights that they adapt. Needs no peft."""

from typing import TypeVar

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
    skip_unread(merge_layers(encoder))
    return encoder
