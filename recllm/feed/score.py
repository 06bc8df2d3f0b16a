"""Raw outputs of a model for every candidate of a split, in the order of its examples."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recllm.feed.batches import load, plan
from recllm.feed.examples import Examples
from recllm.model.modeling_recllm import RecllmModel


@dataclass
class Scores:
    """n candidates. `raw` holds the logits as tensors on the CPU: outcome -> (n,), `duration_logits` -> (n, K)."""

    raw: dict[str, torch.Tensor]
    labels: torch.Tensor  # (n, o) NaN unknown
    weight: torch.Tensor  # (n,)
    user: np.ndarray  # (n,) user code
    request: np.ndarray  # (n,) request code
    item: np.ndarray  # (n,) item code
    row: np.ndarray  # (n,) log row; that of the event that it stands beside for a sampled candidate
    sampled: np.ndarray  # (n,) bool


def score(model: RecllmModel, examples: Examples, budget: int, device: torch.device, rank: int = 0, ranks: int = 1,
          progress: bool = True) -> Scores:
    """Run the model over this process's share of a split's examples (every `ranks`-th one), without gradients."""
    was_training = model.training
    fast = model.eval().for_inference()
    mine = np.arange(len(examples))[rank::ranks]
    parts: dict[int, dict[str, torch.Tensor]] = {}
    batches = plan(examples.sizes[mine], budget, None) if len(mine) else []
    with torch.inference_mode():
        for batch in tqdm(batches, desc="scoring", delay=2, leave=False, disable=not progress or rank > 0):
            loaded = load(examples, mine[batch]).to(device)
            out = fast(**loaded.inputs)
            raw = {n: v.float().cpu() for n, v in out.items() if n not in ("query", "content")}
            begins = np.cumsum(examples.sizes[mine[batch], 2]) - examples.sizes[mine[batch], 2]
            for begin, index in zip(begins.tolist(), mine[batch].tolist(), strict=True):
                parts[index] = {n: v[begin : begin + len(examples.groups[index].row)] for n, v in raw.items()}
    model.train(was_training)
    groups = [examples.groups[int(i)] for i in mine]
    targets = [examples.targets(int(i)) for i in mine]
    names = list(next(iter(parts.values()))) if parts else []
    return Scores(raw={n: torch.cat([parts[int(i)][n] for i in mine]) for n in names},
                  labels=torch.from_numpy(np.concatenate([t[0] for t in targets])).float(),
                  weight=torch.from_numpy(np.concatenate([t[1] for t in targets])).float(),
                  user=np.concatenate([np.full(len(g.row), g.user) for g in groups]),
                  request=np.concatenate([t[2] for t in targets]), item=np.concatenate([g.item for g in groups]),
                  row=np.concatenate([g.row for g in groups]), sampled=np.concatenate([g.sampled for g in groups]))
