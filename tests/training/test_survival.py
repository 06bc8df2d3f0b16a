"""Struck, and called again: equal to the last bit. `python -m tests.training.survival kills 20 0` strikes more often."""

import json

import pytest

from tests.training.survival import World, bitwise, strike, survived


def test_a_run_that_is_struck_six_times_is_the_undisturbed_one():
    found = bitwise()
    assert found["bitwise_resume"] and found["sha256_resumed"] == found["sha256_uninterrupted"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A world of two processes."""
    return World(tmp_path_factory.mktemp("two"), 2)


@pytest.mark.parametrize(("at", "n", "kind", "rank"), [("step", 8, "launcher", 1), ("write", 15, "disk", 0)])
def test_two_processes_survive(two, at, n, kind, rank):
    entry = survived(two, kind, strike(two, kind, {"at": at, "n": n, "kind": kind, "rank": rank}))
    assert entry["survived"], entry


def test_who_is_left_by_a_process_that_crashed_says_so_and_of_no_checkpoint(two):
    entry = strike(two, "left", {"at": "step", "n": 5, "kind": "rank", "rank": 1})
    said = (two.folder / "left" / "said").read_text()
    assert "recllm: another process of this launch ended (see its output)" in said
    assert "goes on from the last checkpoint, if there is one" in said and "checkpoint is written" not in said
    entry = survived(two, "left", entry)
    assert entry["survived"], entry


def test_a_signal_in_the_last_step_of_an_epoch_changes_nothing(tmp_path):
    """Once the run that went on from there trained on the epoch's batches again."""
    world = World(tmp_path, 1)
    epochs = [record["epoch"] for record in map(json.loads, (world.run_folder("whole") / "log.jsonl").read_text().splitlines())
              if record["kind"] == "evaluation" and record["step"] == 3]
    assert epochs == [1.0]  # three steps an epoch
    entry = survived(world, "last", strike(world, "last", {"at": "step", "n": 3, "kind": "term", "rank": 0}))
    assert entry["survived"], entry
