"""What the networks over item ids share: seeding, stopping, ids."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from recllm.evaluation.features import Sequences

EPOCHS, PATIENCE = 40, 3
WITHOUT_VALIDATION = 5  # epochs


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's draws inside depend on the seed alone; the caller's random state stays as it was.

    On one thread: gradients of embeddings are added up in whatever order threads come, and so no two runs would be the same. Networks
    this small are hardly slower by it.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def train(network: nn.Module, epoch: Callable[[], None], validation: Callable[[], float] | None) -> None:
    """Run epochs until the validation loss has not been lower for PATIENCE of them; the network ends with its best weights, in `eval`.

    Without a validation loss (no known label) it runs WITHOUT_VALIDATION epochs.
    """
    best, best_state, since = math.inf, copy.deepcopy(network.state_dict()), 0
    for _ in range(EPOCHS if validation is not None else WITHOUT_VALIDATION):
        network.train()
        epoch()
        network.eval()
        if validation is None:
            continue
        loss = validation()
        since = 0 if loss < best else since + 1
        if since == 0:
            best, best_state = loss, copy.deepcopy(network.state_dict())
        if since == PATIENCE:
            break
    if validation is not None:
        network.load_state_dict(best_state)


def ids(sequences: Sequences, item: np.ndarray) -> np.ndarray:
    """Rows of an embedding of 1 + sequences.items rows, same shape as `item`; 0, the zero vector, for items that train never saw."""
    return np.where(sequences.in_train[item], item + 1, 0)
