"""The simulated world: everything that decides a click, and the exact probabilities of it.

The click logit is additive: what the user likes (mostly explained by declared interests and segment), how good the item is, and
topic effects of daypart, place, device and mood, a few of which differ by segment.
"""

import json
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recllm.data.simulate.effects import BASE, CATALOGUE, DAYPART_OF_HOUR, KINDS, SEGMENTS, TOPICS
from recllm.errors import DataError, did_you_mean

Array = NDArray[Any]
Records = list[dict[str, Any]]
HOUR_MS = 3_600_000


def _sigmoid(logit: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-logit))


def codes(values: ArrayLike, index: pd.Index, what: str) -> Array:
    """Positions in `index` of text values of any shape, in that shape. Raises DataError for an unknown value of this `what`."""
    flat = np.asarray(values, dtype=object)
    found = index.get_indexer(pd.Index(flat.ravel(), dtype=object)).reshape(flat.shape)
    if (found < 0).any():
        unknown = str(flat[found < 0][0])
        raise DataError(f'simulated world: expected a known {what}, found "{unknown}".{did_you_mean(unknown, [str(v) for v in index])}')
    return found


@dataclass(frozen=True, eq=False)
class World:
    """Everything that decides a click. U users, I items, S segments, T topics; probabilities sum to 1 over the last axis."""

    users: Records  # user_id, age, gender, interests, segment
    items: Records  # item_id, title, topic, brand, price, bid, published (ISO, UTC)
    taste: Array  # (U, T) logits, the base rate included
    quality: Array  # (I,) logits
    daypart: Array  # (S, T, 4) logits; so are place, device and mood
    place: Array
    device: Array
    mood: Array
    hour_p: Array  # (S, 24)
    place_p: Array  # (U, 4)
    device_p: Array  # (U, 4 dayparts, 3)
    mood_p: Array  # (U, 4 dayparts, 4)

    @cached_property
    def user_index(self) -> pd.Index:
        return pd.Index([user["user_id"] for user in self.users], dtype=object)

    @cached_property
    def item_index(self) -> pd.Index:
        return pd.Index([item["item_id"] for item in self.items], dtype=object)

    @cached_property
    def segment_of(self) -> Array:
        return codes([user["segment"] for user in self.users], pd.Index(SEGMENTS), "segment")

    @cached_property
    def topic_of(self) -> Array:
        return codes([item["topic"] for item in self.items], pd.Index(TOPICS), "topic")

    @cached_property
    def _context_logit(self) -> Array:
        """(S, T, 192): summed effects over daypart x place x device x mood."""
        d, p, v, m = self.daypart, self.place, self.device, self.mood
        grid = d[..., :, None, None, None] + p[..., None, :, None, None] + v[..., None, None, :, None] + m[..., None, None, None, :]
        return grid.reshape(*grid.shape[:2], -1)

    def _context_p(self, hour_p: Array, daypart: Array, users: Array) -> Array:
        """(U, H, 4, 3, 4): joint probabilities, `hour_p` (U, H) being the first factor and H its slots of the day."""
        device, mood = self.device_p[users][:, daypart], self.mood_p[users][:, daypart]
        place = self.place_p[users][:, None, :, None, None]
        return hour_p[:, :, None, None, None] * place * device[:, :, None, :, None] * mood[:, :, None, None, :]

    @cached_property
    def _daypart_context_p(self) -> Array:
        everyone = np.arange(len(self.users))
        parts = self.hour_p @ np.eye(len(KINDS["daypart"]))[DAYPART_OF_HOUR]
        joint = self._context_p(parts[self.segment_of], np.arange(parts.shape[1]), everyone)
        return joint.reshape(len(everyone), -1)

    def context_distribution(self, user_id: str) -> Array:
        """(24 hours, 4 places, 3 devices, 4 moods): how probable each context is in a request of this user.

        All of it sums to 1. Raises DataError for an unknown user.
        """
        user = codes([user_id], self.user_index, "user_id")
        return self._context_p(self.hour_p[self.segment_of[user]], DAYPART_OF_HOUR, user)[0]

    def probability(
        self,
        user_id: ArrayLike,
        item_id: ArrayLike,
        *,
        time_ms: ArrayLike | None = None,
        hour: ArrayLike | None = None,
        place: ArrayLike,
        device: ArrayLike,
        mood: ArrayLike,
    ) -> Any:
        """Click probability: a float for scalars, else an array of the broadcast shape.

        Give either `time_ms` (milliseconds since 1970, UTC) or `hour` (whole, 0-23, UTC). Raises DataError for an unknown id or
        context value, an hour out of range, and for both or neither of `time_ms` and `hour`.
        """
        if (time_ms is None) == (hour is None):
            raise DataError("simulated world: expected exactly one of time_ms and hour")
        hours = np.asarray(hour if time_ms is None else np.asarray(time_ms, dtype=np.int64) // HOUR_MS % 24)
        if hours.dtype.kind not in "iu" or ((hours < 0) | (hours > 23)).any():
            raise DataError(f"simulated world: expected whole hours from 0 to 23, found {hour!r}")
        user, item = codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id")
        segment, topic = self.segment_of[user], self.topic_of[item]
        logit = self.taste[user, topic] + self.quality[item] + self.daypart[segment, topic, DAYPART_OF_HOUR[hours]]
        for kind, values in (("place", place), ("device", device), ("mood", mood)):
            logit = logit + getattr(self, kind)[segment, topic, codes(values, pd.Index(KINDS[kind]), kind)]
        return _sigmoid(logit)[()]

    def blind(self, user_id: ArrayLike, item_id: ArrayLike) -> Any:
        """Click probability averaged over the contexts of the user's requests: the best that ignores context.

        A float for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item = np.broadcast_arrays(codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id"))
        shape, user, item = user.shape, user.ravel(), item.ravel()
        mean = np.empty(len(user))
        for rows in np.array_split(np.arange(len(user)), len(user) // 8192 + 1):
            u, i = user[rows], item[rows]
            logit = self._context_logit[self.segment_of[u], self.topic_of[i]]
            logit = logit + (self.taste[u, self.topic_of[i]] + self.quality[i])[:, None]
            mean[rows] = np.einsum("nc,nc->n", _sigmoid(logit), self._daypart_context_p[u])
        return mean.reshape(shape)[()]

    def purchase(self, user_id: ArrayLike, item_id: ArrayLike) -> Any:
        """Purchase probability once clicked: up with interest, down with the price within its topic.

        A float for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item = codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id")
        dear = np.log([row["price"] / CATALOGUE[row["topic"]][0] for row in self.items])
        return _sigmoid(-1.2 + 0.8 * (self.taste[user, self.topic_of[item]] - BASE) - 1.2 * dear[item])[()]

    def save(self, path: str | os.PathLike[str], settings: dict[str, int]) -> None:
        """Write plain JSON, the settings it was drawn with among it; floats survive a round trip exactly."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in plain.items()}
        Path(path).write_text(json.dumps({"settings": settings, **plain}), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises DataError where the file is missing or something else."""
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            parts: Any = {f.name: plain[f.name] for f in fields(cls)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected the world.json of a simulation, found none ({error!r}): simulate again") from error
        arrays: Any = {k: v if k in ("users", "items") else np.array(v) for k, v in parts.items()}
        return cls(**arrays)
