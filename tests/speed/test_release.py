"""The benchmark's figures of a release exist, and say what they should of a small one."""

from recllm.recommend.build import recommender_of
from tests.speed.release import forms


def test_every_form_is_weighed_and_loaded(made, tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("RECLLM_ENCODER", tiny_encoder)
    monkeypatch.setattr("tests.speed.release.ROUNDS", 1)

    found = forms(recommender_of(made).save_pretrained(tmp_path / "release"))

    assert list(found) == ["full", "adapter", "merged"] and all(f["load_s"] > 0 for f in found.values())
    assert found["adapter"]["release_mb"] < found["full"]["release_mb"] < 1
