"""What differs between the encoders that the model is built on: one row per architecture, and the reasons why others are refused.

An encoder's shape travels under BERT's names, whatever its own config calls it (DistilBERT's `dim` is `hidden_size` here), so that
nothing else asks which encoder it is. Each row is held to the same contract by tests/model/test_encoders.py.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from .errors_recllm import ReleaseError

SHAPE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
         "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "position_embedding_type")  # fmt: skip


class Parts(NamedTuple):
    """The modules of one layer, or their names below it: of the attention, then of the feed-forward part."""

    query: Any = "attention.self.query"
    key: Any = "attention.self.key"
    value: Any = "attention.self.value"
    out: Any = "attention.output.dense"
    norm1: Any = "attention.output.LayerNorm"
    up: Any = "intermediate.dense"
    down: Any = "output.dense"
    norm2: Any = "output.LayerNorm"


@dataclass(frozen=True)
class Architecture:
    """One row. `own` are the names of its config where they are not BERT's, `more` what it has beside BERT's."""

    after_padding: bool = False  # whether positions start at pad + 1
    lora: tuple[str, ...] = ("query", "key", "value", "dense")  # every linear module of a layer
    layer: str = "encoder.layer.{layer}"  # where its layers are
    parts: Parts = Parts()  # noqa: RUF009  a tuple of names
    project: str = ""  # what may lie between embeddings and layers
    types: bool = True  # whether tokens have a type
    own: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()
    pooler: bool = True  # whether there is one to leave out


ARCHITECTURES = {
    "bert": Architecture(),
    "roberta": Architecture(after_padding=True),
    "xlm-roberta": Architecture(after_padding=True),
    "electra": Architecture(more=("embedding_size",), pooler=False, project="embeddings_project"),
    "albert": Architecture(lora=("query", "key", "value", "dense", "ffn", "ffn_output"),
                           more=("embedding_size", "num_hidden_groups", "inner_group_num"),
                           layer="encoder.albert_layer_groups.{group}.albert_layers.0", project="encoder.embedding_hidden_mapping_in",
                           parts=Parts("attention.query", "attention.key", "attention.value", "attention.dense", "attention.LayerNorm",
                                       "ffn", "ffn_output", "full_layer_layer_norm")),
    "distilbert": Architecture(lora=("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"), pooler=False, types=False,
                               layer="transformer.layer.{layer}",
                               parts=Parts("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
                                           "ffn.lin1", "ffn.lin2", "output_layer_norm"),
                               own={"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
                                    "intermediate_size": "hidden_dim", "hidden_act": "activation", "hidden_dropout_prob": "dropout",
                                    "attention_probs_dropout_prob": "attention_dropout"}),
}  # fmt: skip

OWN_ATTENTION = "its attention is its own code and drops a timeline's mask in silence"
DECODER = "it is a decoder, and a timeline's profile and events are read by an encoder"
REFUSED = {
    "mpnet": OWN_ATTENTION, "deberta": OWN_ATTENTION, "deberta-v2": OWN_ATTENTION,
    "modernbert": "most of its layers see a sliding window only, which a timeline's mask would undo in silence",
    **dict.fromkeys(("gpt2", "gpt_neox", "opt", "llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "phi3", "qwen2", "qwen3",
                     "t5", "bart"), DECODER),
}  # fmt: skip


def architecture(kind: Any, name: str) -> Architecture:
    """The row of a `model_type`. Raises ReleaseError for an encoder (`name` says which) that cannot work, or was never tried."""
    if kind in ARCHITECTURES:
        return ARCHITECTURES[kind]
    reason = REFUSED.get(kind, "nobody has tried it")
    raise ReleaseError(f'encoder "{name}": expected a model_type of {sorted(ARCHITECTURES)}, found "{kind}" ({reason}): '
                       f"choose another encoder in the config's model section")


def shape_of(config: Any, name: str) -> dict[str, Any]:
    """A pretrained encoder's config as plain JSON under BERT's names, without paths of this machine. Raises ReleaseError for an encoder
    that cannot work."""
    kind, plain = config.model_type, config.to_dict()
    row = architecture(kind, name)
    if plain.get("is_decoder"):
        raise ReleaseError(f'encoder "{name}": expected an encoder, found is_decoder: true ({DECODER}): choose another encoder in the '
                           f"config's model section")
    # RoBERTa's old configs say "absolute", others nothing at all; the code that read the relative ones is gone from transformers
    if plain.get("position_embedding_type", "absolute") != "absolute":
        raise ReleaseError(f'encoder "{name}": expected absolute positions, found position_embedding_type: '
                           f"{plain['position_embedding_type']}: choose another encoder in the config's model section")
    found = {key: plain[row.own.get(key, key)] for key in SHAPE if row.own.get(key, key) in plain}
    return {"model_type": kind, **found, **{key: plain[key] for key in row.more}}


def check_layers(shape: dict[str, Any], layers: int, name: str) -> None:
    """Raise ReleaseError where the first `layers` layers are no encoder of this architecture: more than there are, or a part of a group
    that ALBERT's layers share."""
    most = shape["num_hidden_layers"]
    if layers > most:
        raise ReleaseError(f'encoder "{name}": expected at most {most} layers, found {layers}: lower model.layers')
    if shape.get("inner_group_num", 1) != 1:
        raise ReleaseError(f'encoder "{name}": expected one attention a layer, found inner_group_num: {shape["inner_group_num"]}: choose '
                           f"another encoder in the config's model section")
    group = most // shape.get("num_hidden_groups", most)
    if layers > group and layers % group:
        raise ReleaseError(f'encoder "{name}": expected whole groups of {group} layers, which share their weights, or a part of the first, '
                           f"found {layers}: change model.layers")


def build(shape: dict[str, Any], layers: int, dropout: float, attention: str) -> Any:
    """An encoder of the first `layers` layers, with weights yet to be filled in, that calls the attention of this name."""
    row = ARCHITECTURES[shape["model_type"]]
    # attention dropout stays 0: with it sdpa is slow on CPU
    wanted = {**shape, "num_hidden_layers": layers, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    if "num_hidden_groups" in shape:  # a group is as long as it was
        wanted["num_hidden_groups"] = max(1, layers * shape["num_hidden_groups"] // shape["num_hidden_layers"])
    config = AutoConfig.for_model(**{row.own.get(key, key): value for key, value in wanted.items()})
    return AutoModel.from_config(config, attn_implementation=attention, **({"add_pooling_layer": False} if row.pooler else {}))


def layers_of(encoder: PreTrainedModel) -> list[Parts]:
    """The modules of each layer, as they stand (with LoRA or without). Layers that share their weights have the same ones."""
    row, layers = ARCHITECTURES[encoder.config.model_type], encoder.config.num_hidden_layers
    groups = getattr(encoder.config, "num_hidden_groups", layers)
    places = [row.layer.format(layer=layer, group=layer * groups // layers) for layer in range(layers)]
    return [Parts(*(encoder.get_submodule(f"{place}.{name}") for name in row.parts)) for place in places]


def attentions(encoder: PreTrainedModel) -> list[tuple[nn.Module, nn.Module, nn.Module]]:
    """(attention, its key, its value) of each distinct attention, in the order of the layers."""
    row = ARCHITECTURES[encoder.config.model_type]
    key, value = (name.rpartition(".")[2] for name in (row.parts.key, row.parts.value))
    owners = [module for module in encoder.modules() if isinstance(getattr(module, key, None), nn.Module)]
    return [(owner, getattr(owner, key), getattr(owner, value)) for owner in owners]
