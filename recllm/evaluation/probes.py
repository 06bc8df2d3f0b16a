"""Do sampled negatives betray themselves? AUC of single facts that no model should be able to use (DESIGN 10)."""

import numpy as np

from recllm.config import Config
from recllm.evaluation.metrics import auc
from recllm.feed.fit import counter_spec, load_counts
from recllm.feed.log import Log
from recllm.model.timeline_recllm import DAY


def probes(config: Config, log: Log, days: float | None = None) -> dict[str, float]:
    """Click AUC over all scored rows and their sampled candidates of: the user had an event of the item before; the item's count is 0;
    no other user had an event of it in the last `days` (default: the draw's window). Far from .5 the draw has left a mark.
    """
    negatives = config.data.negatives
    window = int((days or (negatives.window if negatives else None) or 14) * DAY)
    rows = np.flatnonzero(log.frame["scored"].to_numpy(dtype=bool))
    row = np.concatenate([rows, log.candidates["row"].to_numpy()])
    item = np.concatenate([log.item[rows], log.candidates["item"].to_numpy()])
    y = np.repeat([1.0, 0.0], [len(rows), len(log.candidates)])
    time = log.time()[row]
    counts = load_counts(config, log, counter_spec(config, log)).read(item, time)[:, 0]
    own, others = _last_events(log, log.user[row], item, time)
    return {"seen_before": auc(y, (own >= 0).astype(float)), "item_count_is_0": auc(y, (counts == 0).astype(float)),
            "not_within_window": auc(y, (others < time - window).astype(float))}


def _last_events(log: Log, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) ms of the last earlier event of each item by the row's user, and by anybody else; -1 for none."""
    moments = log.time()
    order = np.argsort(moments, kind="stable")
    by_item = {int(code): order[log.item[order] == code] for code in np.unique(item)}
    own, others = np.full(len(item), -1, dtype=np.int64), np.full(len(item), -1, dtype=np.int64)
    for k in range(len(item)):
        rows = by_item[int(item[k])]
        rows = rows[: np.searchsorted(moments[rows], time[k], side="left")]
        mine = log.user[rows] == user[k]
        own[k] = moments[rows[mine][-1]] if mine.any() else -1
        others[k] = moments[rows[~mine][-1]] if (~mine).any() else -1
    return own, others
