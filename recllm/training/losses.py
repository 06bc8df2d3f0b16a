"""Losses as pure functions of raw outputs and labels. Each is a sum over known labels, divided by the global number of labels."""

import torch
from torch.nn.functional import cross_entropy, normalize

from recllm.feed.batches import Batch
from recllm.model.heads_recllm import Heads
from recllm.model.processing_recllm import CANDIDATE, QUERY


def binary_loss(heads: Heads, raw: dict[str, torch.Tensor], name: str, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum of -y log p - (1 - y) log(1 - p) over known labels; p is over all impressions, so `given` trains both of its factors.

    Labels and weights (C,); NaN is unknown. The head of an outcome without labels still gets a zero gradient, as DDP demands.
    """
    known = ~labels.isnan()
    log_p, log_not = heads.log_probability(raw, name, calibrated=False)
    y = labels.nan_to_num(0.0)
    each = -(y * log_p + (1 - y) * log_not)
    return torch.where(known, each * weight, 0.0).sum() + 0.0 * raw[name].sum()


def duration_loss(heads: Heads, raw: dict[str, torch.Tensor], seconds: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Sum of cross-entropies over the duration's bins (C, K) where it is known."""
    known = ~seconds.isnan()
    logits, target = raw["duration_logits"], heads.bin_of(seconds)
    each = cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view_as(target)
    return torch.where(known, each * weight, 0.0).sum() + 0.0 * logits.sum()


def retrieval_loss(out: dict[str, torch.Tensor], batch: Batch, scale: torch.Tensor, click: torch.Tensor, log_q: torch.Tensor,
                   published: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Sampled softmax of each request's query against the global batch's scored items: (sum over targets, number of targets).

    Targets are the request's clicked candidates; its other clicked items are no negatives, items published after its time are
    masked. `log_q` (U,) is the log share of train clicks of each item, subtracted from its score in training only
    (Yi et al. 2019, "Sampling-bias-corrected neural modeling"). `click` (C,) labels.
    """
    kind, item = batch.inputs["kind"][-len(click) :], batch.inputs["item"][-len(click) :]
    where = (kind == QUERY).nonzero()[:, 0]
    clicked = ((kind == CANDIDATE) & (click == 1)).nonzero()[:, 0]
    if len(where) == 0 or len(clicked) == 0:
        return 0.0 * (out["query"].sum() + out["content"].sum() + scale), 0
    content = out["content"]
    # the direction of a zero vector (an item of which nothing is known, before training) has a slope of 1e12: one such item once took
    # all of the clipped gradient
    content = torch.where((content == 0).all(-1, keepdim=True), content.detach(), content)
    queries, contents = normalize(out["query"][where], dim=-1), normalize(content, dim=-1)
    scores = queries @ contents.T * scale.exp() - log_q
    later = published[None, :] > batch.time[where][:, None]
    later |= ~batch.scored  # items that only stand in histories, and row 0, which is no item
    # a request whose rows lie in two windows has a query in each: a target belongs to the one beside it
    same = batch.request[where][:, None] == batch.request[clicked][None, :]
    query_of, target = (same & (batch.example[where][:, None] == batch.example[clicked][None, :])).int().argmax(0), item[clicked]
    positive = torch.zeros_like(scores, dtype=torch.bool)
    pairs = same.nonzero(as_tuple=True)
    positive[pairs[0], target[pairs[1]]] = True
    negatives = scores.masked_fill(later | positive, float("-inf"))
    rows = negatives[query_of]
    own = scores[query_of, target]
    total = torch.logaddexp(torch.logsumexp(rows, dim=-1), own)
    return (total - own).sum(), len(target)
