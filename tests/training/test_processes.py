"""N processes under `accelerate launch` make the update that one process makes, and train every row exactly once."""

from tests.training.processes import distance, first_gradients, losses_apart, once, run, world


def test_two_processes_and_two_nodes_equal_one():
    # given no dropout, the one thing that differs by rank; batches of few examples, of which some leave a process without one
    with world() as (folder, path):
        one = {dtype: run(folder, path, dtype, 1) for dtype in ("float64", "float32")}
        two = {dtype: run(folder, path, dtype, 2) for dtype in ("float64", "float32")}
        nodes = run(folder, path, "float64", 2, nodes=2)
    # then
    for found in (two["float64"], nodes):
        assert distance(one["float64"], found) <= 1e-6
    assert first_gradients(one["float32"], two["float32"]) <= 1e-5
    assert losses_apart(one["float32"], two["float32"]) <= 1e-4
    assert all(once(found) for found in (*one.values(), *two.values(), nodes))
