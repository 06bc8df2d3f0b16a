"""A large encoder's step, tried with a small one: the figures are there, and layers computed again are among them."""

from tests.speed.large import large


def test_one_step_reports_its_memory():
    small = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 200,
             "max_position_embeddings": 300}  # fmt: skip
    found = large(small)
    assert found["tokens"] > 500 and 0 < found["trained_parameters"] < found["parameters"]
    assert 0.1 < found["peak_gb"] < 4 and found["step_s"] > 0
