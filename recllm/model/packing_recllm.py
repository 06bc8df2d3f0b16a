"""Examples side by side: global batches within a budget of tokens, and what goes together inside of the attention. numpy only."""

from dataclasses import dataclass

import numpy as np

# What one more attention call costs, in pairs of a query and a key: 50 us to 47 ns a pair on two CPU cores, forward and backward, 12 heads
# of 32. On a GPU calls are dear and pairs are cheap.
CALL = {"cpu": 1_000, "cuda": 1_000_000}


def plan(sizes: np.ndarray, budget: int, key: list[int] | None) -> list[np.ndarray]:
    """Example indices of each global batch: `sizes` (n, k) tokens of each example by kind, `budget` tokens a batch, none of it padding.

    An example above the budget is a batch of its own. With `key` (seed, epoch) examples come in random order, so that a batch has long and
    short ones and can be split evenly over processes; without, by length, so that attention pads little. Nothing depends on the number of
    processes.
    """
    total = sizes.sum(1)
    order = np.random.default_rng(key).permutation(len(sizes)) if key is not None else np.argsort(total, kind="stable")
    batches, first, filled = [], 0, 0
    for place, size in enumerate(total[order].tolist()):
        if filled and filled + size > budget:
            batches.append(order[first:place])
            first, filled = place, 0
        filled += size
    return [*batches, order[first:]] if len(order) else batches


@dataclass
class Part:
    """Some examples of a batch in one attention call, padded to the widest: `query` (b * Q,) and `key` (b * K,) are places among the
    batch's tokens, 0 for padding."""

    query: np.ndarray
    key: np.ndarray
    own: np.ndarray  # (b, Q) place of a query's own key among the events, -1 for what has none
    profile: np.ndarray  # (b,) profile tokens
    widths: tuple[int, int]  # places for a profile and for events among the keys

    @property
    def rows(self) -> int:
        return len(self.profile)


def parts_of(sizes: np.ndarray, device: str = "cpu") -> tuple[list[Part], np.ndarray]:
    """(parts, place (N,) of each token among the parts' queries one behind another) of a batch's examples.

    `sizes` (B, 3): tokens of profile, events, candidates. The batch's tokens are all profiles, then all events, then all candidates.
    """
    flat = sizes.T.ravel()
    starts = (np.cumsum(flat) - flat).reshape(3, -1).T  # where each example's profile, events, candidates begin
    parts, back, offset = [], np.empty(int(flat.sum()), dtype=np.int64), 0
    for rows in _together(sizes, CALL.get(device, CALL["cuda"])):
        size, start, widths = sizes[rows], starts[rows], sizes[rows].max(0)
        places, real = [], []
        for kind in range(3):
            index = np.arange(widths[kind])
            real.append(index < size[:, kind, None])
            places.append(np.where(real[-1], start[:, kind, None] + index, 0))
        query, is_real = np.concatenate(places, axis=1), np.concatenate(real, axis=1)
        own = np.full(query.shape, -1, dtype=np.int64)
        own[:, widths[0] : widths[0] + widths[1]] = np.where(real[1], np.arange(widths[1]), -1)
        back[query[is_real]] = offset + np.flatnonzero(is_real)
        offset += query.size
        parts.append(Part(query.ravel(), np.concatenate(places[:2], axis=1).ravel(), own, size[:, 0], (int(widths[0]), int(widths[1]))))
    return parts, back


def _together(sizes: np.ndarray, call: int) -> list[np.ndarray]:
    """Examples by part: neighbours in size share a call as long as padding costs less than another call would."""
    order = np.lexsort((sizes.sum(1), sizes[:, :2].sum(1)))
    found, first, cost, wide = [], 0, 0, (0, 0, 0)
    for place, (p, e, c) in enumerate(sizes[order].tolist()):
        own = (p + e + c) * (p + e)
        wider = (max(wide[0], p), max(wide[1], e), max(wide[2], c))  # each kind is padded by itself
        joint = (place - first + 1) * sum(wider) * (wider[0] + wider[1])
        if place > first and joint > cost + own + call:
            found.append(order[first:place])
            first, wider, joint = place, (p, e, c), own
        cost, wide = joint, wider
    return [*found, order[first:]] if len(order) else found


def padded(sizes: np.ndarray, device: str = "cpu") -> float:
    """Pairs of query and key that the attention of a batch computes, over those of its examples alone."""
    parts, _ = parts_of(sizes, device)
    return sum(len(p.query) * len(p.key) / p.rows for p in parts) / float((sizes.sum(1) * sizes[:, :2].sum(1)).sum())
