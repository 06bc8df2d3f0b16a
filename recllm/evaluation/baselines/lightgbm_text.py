"""lightgbm-counters with one thing more: what came of the visible events whose text is like the candidate's."""

import numpy as np
import pandas as pd

from recllm.evaluation.baselines.lightgbm_counters import LightGBMCounters
from recllm.evaluation.features import FeatureTable, Sequences
from recllm.schema import Outcome

POWER = 4  # of the cosine; on MovieLens's validation days 1, 4, 8 and 16 give .5995, .5974, .5986 and .6014 click log loss
STEPS = 2048  # parts of 1: see `_stepped`
MOST_PAIRS = 1_000_000  # candidates x events in memory at a time


class LightGBMText(LightGBMCounters):
    """The columns of lightgbm-counters and those of `text_columns`."""

    name = "lightgbm-text"

    def columns(self, table: FeatureTable) -> pd.DataFrame:
        frame = super().columns(table)
        return frame if table.sequences is None else frame.assign(**text_columns(table.sequences, self.outcomes))


def text_columns(sequences: Sequences, outcomes: dict[str, Outcome]) -> dict[str, np.ndarray]:
    """Of each row, over its visible events, with weights max(cosine, 0) ** POWER of the texts: for every measured outcome
    `text_<outcome>_n` (weights where it is known), `_sum` (weighted outcome, seconds clipped) and `_mean` (sum / n, NaN without any);
    `text_max`, the highest weight, and for a binary outcome `text_<outcome>_max`, that of a positive; 0 without any. All (n,) float64."""
    values = {name: y if outcomes[name].kind == "binary" else np.minimum(y, outcomes[name].clip)
              for name, y in sequences.event_outcomes.items() if name in outcomes}
    names = [f"text_{name}_{part}" for name in values for part in ("n", "sum", "max")]
    columns = np.zeros((len(names) + 1, len(sequences.item)))
    vectors = _stepped(sequences.vectors)
    for rows in _blocks(sequences):
        first, stop = int(sequences.start[rows[0]]), int(sequences.stop[rows].max())
        n = sequences.stop[rows] - first
        cosine = vectors[sequences.item[rows]] @ vectors[sequences.event_item[first:stop]].T
        weight = np.maximum(cosine, 0).astype(np.float64) ** POWER
        made = []
        for y in (y[first:stop] for y in values.values()):
            made += [_total(weight * ~np.isnan(y), n), _total(weight * np.nan_to_num(y), n), _highest(weight * (y == 1), n)]
        columns[:, rows] = [*made, _highest(weight, n)]
    found = dict(zip([*names, "text_max"], columns, strict=True))
    for name in values:
        n = found[f"text_{name}_n"]
        found[f"text_{name}_mean"] = np.divide(found[f"text_{name}_sum"], n, out=np.full(len(n), np.nan), where=n > 0)
        if outcomes[name].kind == "duration":
            del found[f"text_{name}_max"]  # seconds have no positives
    return found


def _stepped(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one with components in whole steps of 1 / 2048. Their products and every partial sum then fit float32 without
    rounding, so a cosine is the same whichever rows share the matrix product; it is off by about 2e-4."""
    return (np.round(vectors.astype(np.float64) * STEPS) / STEPS).astype(np.float32)


def _blocks(sequences: Sequences) -> list[np.ndarray]:
    """Rows that share their window, those without a visible event left out; no block has more than MOST_PAIRS pairs."""
    rows = np.flatnonzero(sequences.stop > sequences.start)
    rows = rows[np.argsort(sequences.start[rows], kind="stable")]
    blocks = []
    for shared in np.split(rows, np.flatnonzero(np.diff(sequences.start[rows])) + 1) if len(rows) else []:
        events = int((sequences.stop[shared] - sequences.start[shared]).max())
        size = max(MOST_PAIRS // events, 1)
        blocks += [shared[low : low + size] for low in range(0, len(shared), size)]
    return blocks


def _total(values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """(c, e) -> (c,) sum of the first n[c] > 0 values, added one by one: the same whatever stands behind them."""
    return np.cumsum(values, axis=1)[np.arange(len(n)), n - 1]


def _highest(values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """(c, e) -> (c,) maximum of the first n[c] > 0 values."""
    return np.maximum.accumulate(values, axis=1)[np.arange(len(n)), n - 1]
