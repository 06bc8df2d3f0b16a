"""Against known probabilities: the truth recovers all, and one changed input is one changed input."""

import numpy as np
import pytest

from recllm.config import load_config
from recllm.data.prepare import prepare
from recllm.evaluation.predictions import label_frame
from recllm.feed.log import load_log
from recllm.training.setup import TEST, setup
from recllm.training.truth import absences, shuffles, truth_facts, truth_rows


@pytest.fixture(scope="module")
def moments(tmp_path_factory, tiny_encoder):
    """A small finer shop: mood as free text, an image-like vector of each item."""
    folder = tmp_path_factory.mktemp("moments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_CACHE", str(folder / "cache"))
        patch.setenv("RECLLM_ENCODER", tiny_encoder)
        config = load_config("configs/moments.yaml", ["data.simulate.users=30", "data.simulate.requests_per_user=6", "model.layers=1",
                                                      "model.stride=20", "model.overlap=20", "data.workers=1", f"root={folder}"])
        prepare(config)
        return config, setup(config, load_log(config))


def test_the_truth_recovers_everything_and_the_blind_nothing(moments):
    config, made = moments
    frame = label_frame(config, made.examples(TEST))
    truth = truth_rows(config, made, frame["item"].to_numpy())
    facts = {column: truth_facts(config, made, [frame.assign(p_click=truth[column].to_numpy())]) for column in ("p_click", "p_click_blind")}
    # then
    assert facts["p_click"]["recovered"] == pytest.approx(1) and facts["p_click"]["mean_error"] == 0
    assert facts["p_click_blind"]["recovered"] == pytest.approx(0)
    # and every ideal predictor and every input has its figures
    assert set(facts["p_click"]["ideal"]) == {"truth", "blind", "no_look"}
    assert set(facts["p_click"]["shuffled"]) == {"place", "device", "weather", "companion", "mood", "time of day and week", "everything"}
    assert set(facts["p_click"]["missing"]) == {"item vectors"}


def test_a_shuffle_changes_its_field_in_test_rows_and_nothing_else(moments):
    _, made = moments
    plain, found = made.examples(TEST).timeline, shuffles(made)
    test = made.log.split == TEST
    slots = [*made.processor.by_group["context"], *made.processor.by_group["time"]]
    columns = {slot.name: k for k, slot in enumerate(slots)}
    for name, column in (("place", columns["place"]), ("weather", columns["weather"])):
        changed = found[name].timeline.cat != plain.cat
        assert changed[test][:, column].any() and not np.delete(changed, column, axis=1).any() and not changed[~test].any()
        assert sorted(found[name].timeline.cat[test, column]) == sorted(plain.cat[test, column])
    assert (found["mood"].timeline.text[test] != plain.text[test]).any() and (found["mood"].timeline.cat == plain.cat).all()
    # the gap to the last event is no column of the moment
    assert (found["everything"].timeline.cat[:, columns["gap"]] == plain.cat[:, columns["gap"]]).all()


def test_without_the_vectors_only_the_vectors_are_gone(moments):
    _, made = moments
    before = made.processor.items.vector.copy()
    without = absences(made)["item vectors"].processor.items.vector
    width = before.shape[1] - 16
    assert (without[:, :width] == before[:, :width]).all() and (without[:, width:] == 0).all() and (before[:, width:] != 0).any()
    assert (made.processor.items.vector == before).all()  # the model's own are as they were
