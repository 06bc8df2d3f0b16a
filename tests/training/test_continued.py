"""A run that goes on from a release: what stays as it was, what is new, what it trains on, and which releases it refuses."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from recllm.data.prepare import prepare
from recllm.errors import TrainingError
from recllm.feed.examples import Examples
from recllm.feed.log import load_log
from recllm.feed.score import score
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processor_recllm import RecllmProcessor
from recllm.recommend.build import recommender_of
from recllm.release import release
from recllm.training import checkpoint
from recllm.training.continued import start_from
from recllm.training.results import results
from recllm.training.run import load_trained, run_folder, train
from recllm.training.setup import TEST, TRAIN, Setup, setup
from tests.conftest import stir
from tests.training.kills import killed_at_its_second_evaluation
from tests.training.test_training import changed, quiet
from tests.worlds import rich_config

CPU = torch.device("cpu")
EARLY, LATE = {"validation": 0.2, "test": 0.5}, {"validation": 0.15, "test": 0.3}


@pytest.fixture(scope="module")
def world(tiny_encoder, tmp_path_factory):
    """(early setup, its release folder, its config): a model without a zero in it, trained until 30% of the log."""
    folder = tmp_path_factory.mktemp("early")
    config = rich_config(folder, tiny_encoder)
    plain = config.model_dump(mode="json", by_alias=True)
    plain["data"] |= {"split": EARLY}
    plain["root"] = str(folder / "runs")
    config = type(config).model_validate(plain)
    prepare(config)
    made = setup(config, load_log(config))
    stir(made.model)
    return made, recommender_of(made).save_pretrained(folder / "release", "# card\n", {}), config


def later_of(config, **sections):
    """The same log with later split dates, under another name and in the test's own runs."""
    plain = config.model_dump(mode="json", by_alias=True) | {"name": "later", "root": None}
    plain["data"] |= {"split": LATE}
    later = changed(type(config).model_validate(plain), **sections)
    prepare(later)
    return later


def gone_on(config, folder) -> Setup:
    """The setup of a run that goes on, before its first step."""
    log = load_log(config)
    start = start_from(folder, config, log)
    made = setup(config, log, 0, start.kept)
    start.take_weights(made.model)
    return made


def test_without_a_step_the_scores_are_the_releases_on_the_same_log(world):
    early, folder, config = world
    # given the same log with later dates
    made = gone_on(later_of(config), folder)
    afresh = setup(made.config, made.log).processor.spec
    assert all(afresh[part] != made.processor.spec[part] for part in ("mean", "item_mean", "counters"))
    # then everything fitted is the release's
    assert {**made.processor.spec, "train_end": 0} == {**early.processor.spec, "train_end": 0}
    assert made.processor.spec["train_end"] == made.log.report.cuts[0] > early.log.report.cuts[0]
    for name, value in early.model.state_dict().items():
        own = made.model.state_dict()[name]
        assert torch.equal(own[: len(value)] if name == "tokens.ids.weight" else own, value), name
    # and so are the scores of the same rows, calibration included, of items that the release knew
    rows = np.flatnonzero(made.log.split == TEST)
    assert made.log.items == early.log.items and made.log.frame["time"].equals(early.log.frame["time"])
    found, expected = (score(m.model.eval(), Examples(m.log, m.processor, m.tokenizer, rows), 4_000, CPU) for m in (made, early))
    with torch.inference_mode():
        own, released = (m.model.heads.predictions(s.raw, "duration") for m, s in ((made, found), (early, expected)))
    for name, value in released.items():
        torch.testing.assert_close(own[name], value, atol=1e-6, rtol=1e-6)


def test_new_items_get_rows_of_zeros_and_new_values_are_unseen(world, tmp_path):
    early, folder, config = world
    # given a log with an item and a device that the release never saw
    lines = [json.loads(line) for line in open(config.data.interactions[0], encoding="utf-8")]
    lines = [{**r, **({"item_id": "a-new-one", "device": "fridge"} if k % 5 == 0 else {})} for k, r in enumerate(lines)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    made = gone_on(later_of(config, data={"interactions": [str(tmp_path / "log.jsonl")]}), folder)
    # then
    rows = dict(zip(made.log.items, made.processor.items.id_row, strict=True))
    before = dict(zip(early.log.items, early.processor.items.id_row, strict=True))
    assert all(rows[item] == row for item, row in before.items() if row > 0)
    kept, fresh = early.model.config.item_ids, sorted(r for i, r in rows.items() if before.get(i, 0) == 0 and r > 0)
    assert rows["a-new-one"] in fresh and fresh == list(range(kept, kept + len(fresh))) and made.model.config.item_ids == kept + len(fresh)
    assert not made.model.tokens.ids.weight[kept:].any() and made.model.tokens.ids.weight[1:kept].any()
    slot = next(s for s in made.processor.slots if s.name == "device")
    assert "fridge" not in slot.values and slot.encode(["fridge"])[0][0, 0] == slot.offset + 1
    # and the item counts are the new log's
    item = made.log.items.index("a-new-one")
    assert made.processor.counts.read(np.array([item]), made.log.time().max(keepdims=True))[0, 0] > 50


def test_only_rows_after_the_releases_training_are_trained_on(world):
    early, folder, config = world
    later = later_of(config, training={"epochs": 1})
    lines: list[str] = []
    made = train(later, init_from=folder, say=lines.append)
    # then the rows are those of train from the release's end on
    row = np.concatenate([g.row for g in made.trained().groups])
    scored = (made.log.split == TRAIN) & made.log.frame["scored"].to_numpy(dtype=bool)
    expected = np.flatnonzero(scored & (made.log.time() >= early.log.report.cuts[0]))
    assert sorted(row) == expected.tolist() and 0 < len(expected) < scored.sum()
    # and an outcome with too few validation labels to fit a calibration on keeps the release's
    assert torch.equal(made.model.heads.scale, early.model.heads.scale) and not (made.model.heads.scale == 1).any()
    # and the log, the record and what is said tell so
    records = [json.loads(line) for line in (run_folder(later, 0) / "log.jsonl").read_text().splitlines()]
    position = checkpoint.position(run_folder(later, 0) / "best")
    for record in (records[0], position):
        assert record["rows"] == len(expected) and record["trained_until"] == early.log.report.cuts[0]
    assert records[0]["kind"] == "continued" and len(records[0]["release"]) == 64
    assert f"{len(expected):,} of {scored.sum():,} train rows are new" in lines[0] and "trained until 2023-11-1" in lines[0]


def test_a_killed_run_goes_on_and_ends_as_an_uninterrupted_one(world, monkeypatch, tmp_path):
    _, folder, config = world
    sections = {"training": {"epochs": 3, "patience": 9}}
    whole = train(later_of(config, **sections), init_from=folder, say=quiet)
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "other"))
    later = later_of(config, **sections)
    with killed_at_its_second_evaluation(monkeypatch):
        train(later, init_from=folder, say=quiet)
    resumed = train(later, init_from=folder, say=quiet)
    expected = checkpoint.trainable_state(whole.model)
    for name, value in checkpoint.trainable_state(resumed.model).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)


def test_a_run_stands_without_its_release_and_can_be_released_and_gone_on_from(world, tmp_path):
    early, folder, config = world
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    later = later_of(config, training={"epochs": 1}, evaluation={"baselines": ["item-rate"], "bootstrap": 10})
    made = train(later, init_from=copy, say=quiet)
    shutil.rmtree(copy)
    # when it is loaded, evaluated and released without what it started from
    loaded = load_trained(later)
    for name, value in made.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name]), name
    assert loaded.processor.spec == made.processor.spec
    rows = pd.DataFrame(results(later, [0], "test", say=quiet)["rows"])
    assert set(rows["model"]) == {"recllm", "item-rate"}
    written = release(later)
    served = RecllmModel.from_pretrained(written).eval()
    for name, value in served.state_dict().items():
        assert torch.equal(value, made.model.state_dict()[name]), name
    # then it says how far it was trained itself, and the same end is refused with both dates
    assert RecllmProcessor.from_pretrained(written).rows.spec["train_end"] == made.log.report.cuts[0]
    with pytest.raises(TrainingError, match=r"train rows after 2023-11-1\d .* ended, found none: the train split of .* ends"):
        train(later, init_from=written, again=True, say=quiet)
    # and without the release the finished run is kept, as one of other settings
    with pytest.raises(TrainingError, match="other data or settings: .*--init-from"):
        train(later, say=quiet)


def test_a_release_that_does_not_fit_is_refused_by_what_differs(world, tiny_encoder, tmp_path):
    _, folder, config = world
    later = later_of(config)
    log = load_log(later)

    def refused(pattern, release=folder, **sections):
        with pytest.raises(TrainingError, match=pattern) as error:
            start_from(release, changed(later, **sections), log)
        assert "\n" not in str(error.value)

    refused(r"expected the folder of a release, found none", release=tmp_path)
    refused(r"schema.outcome_delay is 5.0 here and 20.0 in the release", schema={"outcome_delay": 5})
    refused(r"model.layers is 1 here and 2 in the release; model.stride is 9 here and 8", model={"layers": 1, "stride": 9})
    refused(r"model.counters is false here and true", model={"counters": False})
    refused(r"model.item_id is false here and true", model={"item_id": False})
    refused(r"model.pretrained is false here and true", model={"pretrained": False})
    other = tmp_path / "encoder"
    shutil.copytree(tiny_encoder, other)
    weights = load_file(other / "model.safetensors")
    save_file({n: v + 0.01 if n.endswith("0.output.dense.bias") else v for n, v in weights.items()}, other / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    refused(r"the weights of model.encoder .* are not those of the release", model={"encoder": str(other)})
    config = AutoConfig.from_pretrained(other)
    config.intermediate_size = 48
    AutoModel.from_config(config).save_pretrained(other)
    refused(r"model.encoder is .* in the release; model.encoder's intermediate_size is 48 here and 64", model={"encoder": str(other)})
