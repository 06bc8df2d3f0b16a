"""Every encoder by the contract, and those that are refused."""

import pytest
from transformers import (
    AlbertConfig,
    AutoConfig,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from recllm.model.configuration_recllm import RecllmConfig
from recllm.model.encoders_recllm import ARCHITECTURES, DECODER, OWN_ATTENTION, attentions, build, check_layers, shape_of
from recllm.model.errors_recllm import ReleaseError
from recllm.training.setup import load_pretrained
from tests.model.encoders import SHAPE, EncoderContract, prepared_rich

BERTS = {"query", "key", "value", "dense"}


@pytest.fixture(scope="module")
def rich_world(tmp_path_factory, tiny_encoder):
    return prepared_rich(tmp_path_factory.mktemp("rich-world"), tiny_encoder)


class TestBert(EncoderContract):
    config = BertConfig(**SHAPE)
    lora = BERTS


class TestRoberta(EncoderContract):
    config = RobertaConfig(**SHAPE, type_vocab_size=1)
    lora = BERTS
    first_position = 1


class TestXLMRoberta(EncoderContract):
    config = XLMRobertaConfig(**{**SHAPE, "pad_token_id": 3}, type_vocab_size=1)
    lora = BERTS
    first_position = 4


class TestElectra(EncoderContract):
    config = ElectraConfig(**SHAPE, embedding_size=16)
    lora = BERTS


class TestElectraWithoutAProjection(EncoderContract):
    config = ElectraConfig(**SHAPE, embedding_size=32)
    lora = BERTS


class TestAlbert(EncoderContract):
    config = AlbertConfig(**SHAPE, embedding_size=16)
    lora = BERTS | {"ffn", "ffn_output"}
    shared = 2


class TestDistilBert(EncoderContract):
    config = DistilBertConfig(vocab_size=90, dim=32, n_layers=3, n_heads=4, hidden_dim=64, max_position_embeddings=60, pad_token_id=0,
                              activation="relu")
    lora = {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}


def test_every_row_of_the_table_is_held_to_the_contract():
    assert {c.config.model_type for c in EncoderContract.__subclasses__()} == set(ARCHITECTURES)


def test_alberts_groups_stay_as_long_as_they_were():
    # given six layers in three groups of two
    shape = shape_of(AlbertConfig(**{**SHAPE, "num_hidden_layers": 6}, embedding_size=16, num_hidden_groups=3), "some/albert")
    for layers, groups in ((1, 1), (2, 1), (4, 2), (6, 3)):
        check_layers(shape, layers, "some/albert")
        assert len(attentions(build(shape, layers, 0.0, "sdpa"))) == groups
    # then a body that ends inside of a group would not be the encoder's first layers
    with pytest.raises(ReleaseError, match="whole groups of 2 layers.* found 3"):
        check_layers(shape, 3, "some/albert")
    with pytest.raises(ReleaseError, match="inner_group_num: 2"):
        check_layers({**shape, "inner_group_num": 2}, 2, "some/albert")


@pytest.mark.parametrize(("kind", "reason"), [("mpnet", OWN_ATTENTION), ("deberta", OWN_ATTENTION), ("deberta-v2", OWN_ATTENTION),
                                              ("modernbert", ".*sliding window"), ("gpt2", DECODER), ("llama", DECODER),
                                              ("funnel", "nobody has tried it")])
def test_what_cannot_work_is_refused_by_name_before_its_weights_are_read(kind, reason, tmp_path):
    # given an encoder's folder with its config and nothing else
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(ReleaseError, match=f'found "{kind}" \\({reason}') as error:
        load_pretrained(str(tmp_path))
    assert "choose another encoder" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ReleaseError, match=f'found "{kind}"'):
        RecllmConfig.checked(encoder={"model_type": kind}, encoder_name="some/encoder")


def test_a_bert_that_decodes_or_has_relative_positions_is_refused():
    with pytest.raises(ReleaseError, match="found is_decoder: true"):
        shape_of(BertConfig(**SHAPE, is_decoder=True), "some/bert")
    relative = BertConfig(**SHAPE)
    relative.position_embedding_type = "relative_key"
    with pytest.raises(ReleaseError, match="found position_embedding_type: relative_key"):
        shape_of(relative, "some/bert")


def test_shapes_travel_under_berts_names():
    shape = shape_of(TestDistilBert.config, "some/distilbert")
    assert {name: shape[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")} \
        == {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64, "hidden_act": "relu"}
    body = build(shape, 2, 0.3, "sdpa")
    assert body.config.n_layers == 2 and body.config.dropout == 0.3 and body.config.attention_dropout == 0.0
