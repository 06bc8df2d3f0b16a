"""Counts of operations, against counts by hand and against torch's own counter."""

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from tests.speed.encoder import plain_of
from tests.speed.matmul import Product, Shape, context_keys
from tests.speed.tiny import SHAPE

SMALL = Shape(layers=2, width=4, intermediate=8)


def test_a_flat_text_is_counted_as_by_hand():
    # given three tokens: query, key, value, output 4 x 4 each, 4 x 8 twice, and three keys of width 4 read twice
    one = 4 * 16 + 2 * 32 + 2 * 3 * 4
    assert SMALL.flat(3) == 2 * 2 * 3 * one


def test_a_candidate_has_no_key_and_no_value_and_sees_what_it_sees():
    assert SMALL.candidates([5]) == 2 * 2 * (2 * 16 + 2 * 32 + 2 * 5 * 4)
    assert SMALL.candidates([5, 5, 7]) == 2 * SMALL.candidates([5]) + SMALL.candidates([7])


def test_a_prefix_needs_keys_and_values_of_the_last_layer_and_no_more():
    first = (2 * 16 + 2 * 32 + 2 * 1 * 4) + (2 * 16 + 2 * 32 + 2 * 2 * 4)
    assert SMALL.prefix([1, 2]) == 2 * (2 * 2 * 2 * 16 + first)


def test_context_tokens_see_the_profile_and_an_event_its_visible_events_and_itself():
    # given two profile tokens, and two events within one second before a third
    assert context_keys(2, [0, 0, 2]) == [2, 2, 3, 3, 5]


def test_torch_counts_the_same_for_a_plain_encoder():
    counter = FlopCounterMode(display=False)
    encoder = AutoModel.from_config(AutoConfig.for_model(**SHAPE), attn_implementation="eager", add_pooling_layer=False).eval()
    with counter, torch.inference_mode():
        encoder(input_ids=torch.ones(3, 40, dtype=torch.long))
    plain = plain_of(encoder)
    shape = Shape(plain["num_hidden_layers"], plain["hidden_size"], plain["intermediate_size"])
    assert counter.get_total_flops() == 3 * shape.flat(40)


def test_a_product_says_how_long_it_took_and_how_much_it_was():
    seconds, flop = Product(torch.device("cpu"), repeats=1)()
    assert seconds > 0
    assert flop == 2 * 4096 * 384 * 1536
