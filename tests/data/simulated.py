"""A simulated shop as the tests read it."""

import pandas as pd

from recllm.data.simulate import simulate


def shop_in(folder, **settings):
    """(folder, world, interactions, truth) of a simulation with these settings; ids as text."""
    world = simulate(folder, **settings)
    log = pd.read_csv(folder / "interactions.csv", dtype={"user_id": str, "item_id": str})
    return folder, world, log, pd.read_parquet(folder / "truth.parquet")
