"""The tasks together: one loss out of a batch, with fixed or learned weights, comparable over any number of processes."""

import numpy as np
import torch
from torch import nn

from recllm.feed.batches import Batch
from recllm.feed.log import Log
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processing_recllm import RowProcessor
from recllm.schema import Schema
from recllm.training.losses import binary_loss, duration_loss, retrieval_loss
from recllm.training.positions import PositionBias


class Tasks(nn.Module):
    """The model and its losses under one forward, so that DDP sees one call a step.

    With `uncertainty` the weights are learned as in Kendall et al. 2018, "Multi-task learning using uncertainty": each loss is
    exp(-s) * loss + s / 2.
    """

    log_q: torch.Tensor
    published: torch.Tensor

    def __init__(self, model: RecllmModel, schema: Schema, processor: RowProcessor, log: Log, uncertainty: bool, retrieval: float) -> None:
        super().__init__()
        self.model, self.names, self.retrieval = model, list(schema.outcomes), retrieval
        self.shares = 1  # into how many a global batch is split: what is no sum over its labels is divided by it
        self.kinds = {n: o.kind for n, o in schema.outcomes.items()}
        self.click = self.names.index(schema.binary[0])
        self.register_buffer("fixed", torch.tensor([o.loss_weight for o in schema.outcomes.values()]), persistent=False)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)), requires_grad=uncertainty)
        self.position = PositionBias() if "position" in schema.extra else None
        train = log.split == 0
        clicks = np.bincount(log.item[train], weights=np.nan_to_num(log.labels([schema.binary[0]])[train, 0]), minlength=len(log.items))
        share = (clicks + 1) / (clicks.sum() + len(clicks))
        self.register_buffer("log_q", torch.from_numpy(np.append(np.log(share), 0.0)).float(), persistent=False)  # the last is no item
        self.register_buffer("published", torch.from_numpy(np.append(log.published, -1)), persistent=False)

    def loss_of(self, name: str, raw: dict[str, torch.Tensor], labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Summed loss of one outcome over its known labels."""
        if self.kinds[name] == "binary":
            return binary_loss(self.model.heads, raw, name, labels, weight)
        return duration_loss(self.model.heads, raw, labels, weight)

    def own_state(self) -> dict[str, torch.Tensor]:
        """What training changes beside the model: of use to a run that goes on, of none to whoever serves the model."""
        return {n: v.detach().cpu() for n, v in self.named_parameters() if not n.startswith("model.")}

    def load_own(self, state: dict[str, torch.Tensor]) -> None:
        """Put in what `own_state` gave."""
        with torch.no_grad():
            for name, value in self.named_parameters():
                if not name.startswith("model."):
                    value.copy_(state[name])

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss to minimise on this process's share, sums (o + 1,) of each task's loss per label for the record)."""
        out = self.model(**batch.inputs)
        if self.position is not None:
            click = self.names[self.click]
            out = {**out, click: out[click] + self.position(batch.position)}
        losses = []
        for index, name in enumerate(self.names):
            labels = batch.labels[..., index]
            losses.append(self.loss_of(name, out, labels, batch.weight) / batch.total[index].clamp(min=1))
        each = torch.stack(losses)
        weight = self.get_buffer("fixed") * torch.exp(-self.log_variance)
        total = (weight * each).sum() + self.log_variance.sum() / (2 * self.shares)
        retrieval = out["query"].new_zeros(())
        if self.retrieval:
            rows = batch.inputs["item_row"]
            summed, _ = retrieval_loss(out, batch, self.model.query_scale, batch.labels[..., self.click], self.log_q[rows],
                                       self.published[rows])
            # targets are the clicks of the global batch; their number bounds the sum as the labels' number bounds the others
            retrieval = summed / batch.clicks.clamp(min=1)
            total = total + self.retrieval * retrieval
        else:
            total = total + 0.0 * (out["query"].sum() + self.model.query_scale)
        return total, torch.cat([each.detach(), retrieval.detach()[None]])
