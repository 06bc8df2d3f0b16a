"""Adapters added into the weights that they adapt."""

from typing import TypeVar

from transformers import PreTrainedModel

from .attention_recllm import skip_unread

Encoder = TypeVar("Encoder", bound=PreTrainedModel)


def merged(encoder: Encoder) -> Encoder:
    """Add every LoRA adapter of an encoder into its layer and leave plain layers behind, in place. Needs no peft."""
    adapted = [(name, module) for name, module in encoder.named_modules() if hasattr(module, "get_base_layer")]
    for name, module in adapted:
        module.merge()
        encoder.set_submodule(name, module.get_base_layer())
    skip_unread(encoder)
    return encoder
