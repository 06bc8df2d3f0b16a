"""Struck, and called again: equal to the last bit. `python -m tests.training.survival kills 20 0` strikes more often."""

import pytest

from tests.training.survival import World, bitwise, strike, survived


def test_a_run_that_is_struck_six_times_is_the_undisturbed_one():
    found = bitwise()
    assert found["bitwise_resume"] and found["sha256_resumed"] == found["sha256_uninterrupted"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A world of two processes."""
    return World(tmp_path_factory.mktemp("two"), 2)


@pytest.mark.parametrize(("at", "n", "kind", "rank"), [("step", 8, "launcher", 1), ("evaluation", 3, "term", 0), ("write", 15, "disk", 0)])
def test_two_processes_survive(two, at, n, kind, rank):
    entry = survived(two, kind, strike(two, kind, {"at": at, "n": n, "kind": kind, "rank": rank}))
    assert entry["survived"], entry
