"""What recllm trains on, without pandas: the losses of recllm/training/losses.py over a batch of `Scored` examples, with fixed weights."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, normalize

from recllm.model.modeling_recllm import RecllmModel
from tests.speed.fitted import BINARY
from tests.speed.movielens import Scored

RETRIEVAL = 0.1  # weight of the sampled softmax, as shipped


@dataclass
class Places:
    """Where the candidates (N) and queries (Q) of a batch stand among the model's outputs, and which query asks for which candidate."""

    candidates: np.ndarray
    queries: np.ndarray
    query_of: np.ndarray  # (N,) int64

    @classmethod
    def of(cls, scored: list[Scored]) -> "Places":
        sizes = np.array([len(x.labels) for x in scored])
        asked = np.array([len(x.request) for x in scored]) - sizes
        is_query = np.repeat(np.tile([False, True], len(scored)), np.stack([sizes, asked], axis=1).ravel())
        before = np.cumsum(asked) - asked
        return cls(np.flatnonzero(~is_query), np.flatnonzero(is_query),
                   np.concatenate([x.request[:c] + b for x, c, b in zip(scored, sizes, before, strict=True)]))


def loss_of(model: RecllmModel, out: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], scored: list[Scored]) -> torch.Tensor:
    """The loss () to minimise: click and purchase in the entire space, bins of the duration, the query against the batch's items."""
    places, heads, query = Places.of(scored), model.heads, out["query"]
    raw = {name: value[places.candidates] for name, value in out.items() if name not in ("query", "content")}
    y = torch.from_numpy(np.concatenate([x.labels for x in scored])).to(query.device, query.dtype)
    total = query.new_zeros(())
    for column, name in enumerate(BINARY):
        log_p, log_not = heads.log_probability(raw, name, calibrated=False)
        total = total - (y[:, column] * log_p + (1 - y[:, column]) * log_not).mean()
    known = ~y[:, 2].isnan()
    bins = heads.bin_of(y[:, 2])
    each = cross_entropy(raw["duration_logits"], bins, reduction="none")
    total = total + torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
    scores = normalize(query[places.queries], dim=-1) @ normalize(out["content"], dim=-1).T * model.query_scale.exp()
    item = batch["item"][-len(query) :][places.candidates]
    retrieval = cross_entropy(scores[torch.from_numpy(places.query_of).to(query.device)], item, reduction="none")
    clicked = y[:, 0] == 1
    return total + RETRIEVAL * torch.where(clicked, retrieval, 0.0).sum() / clicked.sum().clamp(min=1)
