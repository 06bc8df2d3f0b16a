"""Scores and labels as the frames that the evaluator reads, with the slices of the configuration."""

import numpy as np
import pandas as pd
import torch

from recllm.config import Config
from recllm.evaluation.slices import slice_columns
from recllm.feed.examples import Examples
from recllm.feed.score import Scores
from recllm.model.heads_recllm import Heads


def label_frame(config: Config, examples: Examples) -> pd.DataFrame:
    """One row per candidate, in the order of the examples: user, request, item, `y_<outcome>`, `slice_<name>`."""
    log = examples.log
    row = np.concatenate([g.row for g in examples.groups])
    item = np.concatenate([g.item for g in examples.groups])
    targets = [examples.targets(i) for i in range(len(examples))]
    labels = np.concatenate([t[0] for t in targets])
    columns = {"user": log.user[row], "request": np.concatenate([t[2] for t in targets]), "item": item}
    columns |= {f"y_{name}": labels[:, k] for k, name in enumerate(examples.names)}
    columns |= slice_columns(config, log, row, item)
    return pd.DataFrame(columns)


def with_model(frame: pd.DataFrame, heads: Heads, scores: Scores, duration: str | None) -> pd.DataFrame:
    """The frame with `p_<outcome>`, and `low_`/`high_<duration>`; scores are in the frame's order."""
    with torch.inference_mode():
        raw = {n: v.to(heads.scale.device) for n, v in scores.raw.items()}
        made = {n: v.double().cpu().numpy() for n, v in heads.predictions(raw, duration).items()}
    columns = {f"p_{name}": made[name] for name in heads.binary}
    if duration:
        columns[f"p_{duration}"] = made[duration]
        columns |= {f"{end}_{duration}": made[f"{duration}_{end}"] for end in ("low", "high")}
    return frame.assign(**columns)


def with_baseline(frame: pd.DataFrame, predicted: dict[str, np.ndarray]) -> pd.DataFrame:
    return frame.assign(**{f"p_{name}": values for name, values in predicted.items()})
