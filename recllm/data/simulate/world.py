"""The simulated shop's world: everything that decides a click, and the exact probabilities of it.

The click logit is additive: what the user likes (mostly explained by declared interests and segment), how good the item is, and
topic effects of daypart, place, device and mood, a few of which differ by segment. A finer world adds weather, companion and the item's
hidden style, which segments and moods like differently.
"""

import json
import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recllm.data.simulate.common import Array, Named, Records, codes, hours_of, sigmoid
from recllm.data.simulate.effects import BASE, CATALOGUE, DAYPART_OF_HOUR, FINER_KINDS, KINDS, SEGMENTS, STYLE_P, TOPICS
from recllm.errors import DataError

GRID_CELLS = 8192 * 192  # of one block of `blind`, to bound the memory


@dataclass(frozen=True, eq=False)
class World(Named):
    """Everything that decides a click. U users, I items, S segments, T topics; probabilities sum to 1 over the last axis."""

    KIND: ClassVar = "shop"
    users: Records  # user_id, age, gender, interests, segment
    items: Records  # item_id, title, topic, brand, price, bid, published (ISO, UTC); of a finer world also look
    taste: Array  # (U, T) logits, the base rate included
    quality: Array  # (I,) logits
    daypart: Array  # (S, T, 4) logits; so are place, device, mood, weather and companion
    place: Array
    device: Array
    mood: Array
    hour_p: Array  # (S, 24)
    place_p: Array  # (U, 4)
    device_p: Array  # (U, 4 dayparts, 3)
    mood_p: Array  # (U, 4 dayparts, 4)
    # of a finer world only, else None
    weather: Array | None = None
    companion: Array | None = None
    weather_p: Array | None = None  # (4 places, 3)
    companion_p: Array | None = None  # (U, 4 dayparts, 3)
    style: Array | None = None  # (I,) places in effects.STYLES
    style_taste: Array | None = None  # (S, 4 moods, 3 styles) logits

    @property
    def finer(self) -> bool:
        """Whether there are weather, companion and style."""
        return self.style is not None

    @property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Context fields and their values, the daypart first; the axes of every grid of contexts."""
        return KINDS | FINER_KINDS if self.finer else KINDS

    @cached_property
    def segment_of(self) -> Array:
        return codes([user["segment"] for user in self.users], pd.Index(SEGMENTS), "segment")

    @cached_property
    def topic_of(self) -> Array:
        return codes([item["topic"] for item in self.items], pd.Index(TOPICS), "topic")

    def _along(self, values: Array, kind: str) -> Array:
        """(A, B, n) values of one context field as (A, B, 1, .., n, .., 1): ready to be summed with those of other fields."""
        return values.reshape(*values.shape[:2], *(-1 if name == kind else 1 for name in self.kinds))

    @cached_property
    def _context_logit(self) -> Array:
        """(S, T, C): summed effects over all C contexts (daypart x place x device x mood, and x weather x companion)."""
        grid = sum(self._along(getattr(self, kind), kind) for kind in self.kinds)
        return np.asarray(grid).reshape(len(SEGMENTS), len(TOPICS), -1)

    @cached_property
    def _style_logit(self) -> Array:
        """(S, styles, C): what the style adds, over all contexts."""
        assert self.style_taste is not None
        grid = self._along(self.style_taste.transpose(0, 2, 1), "mood")
        shape = (*grid.shape[:2], *(len(values) for values in self.kinds.values()))
        return np.broadcast_to(grid, shape).reshape(*grid.shape[:2], -1)

    def _context_p(self, hour_p: Array, daypart: Array, users: Array) -> Array:
        """(U, H, 4, 3, 4), finer: (U, H, 4, 3, 4, 3, 3): joint probabilities, `hour_p` (U, H) the first factor, H slots of the day."""
        device, mood = self.device_p[users][:, daypart], self.mood_p[users][:, daypart]
        place = self.place_p[users][:, None, :, None, None]
        joint = hour_p[:, :, None, None, None] * place * device[:, :, None, :, None] * mood[:, :, None, None, :]
        if self.weather_p is None or self.companion_p is None:
            return joint
        weather, companion = self.weather_p[:, None, None, :, None], self.companion_p[users][:, daypart]
        return joint[..., None, None] * weather * companion[:, :, None, None, None, None, :]

    @cached_property
    def _daypart_context_p(self) -> Array:
        everyone = np.arange(len(self.users))
        parts = self.hour_p @ np.eye(len(KINDS["daypart"]))[DAYPART_OF_HOUR]
        joint = self._context_p(parts[self.segment_of], np.arange(parts.shape[1]), everyone)
        return joint.reshape(len(everyone), -1)

    def context_distribution(self, user_id: str) -> Array:
        """(24 hours, 4 places, 3 devices, 4 moods; finer: 3 weathers, 3 companions): how probable each is in a request of this user.

        All of it sums to 1. Raises DataError for an unknown user.
        """
        user = codes([user_id], self.user_index, "user_id")
        return self._context_p(self.hour_p[self.segment_of[user]], DAYPART_OF_HOUR, user)[0]

    def _row_logit(self, user: Array, item: Array, hours: Array, context: dict[str, ArrayLike | None]) -> Any:
        """Click logit but for the style."""
        segment, topic = self.segment_of[user], self.topic_of[item]
        logit = self.taste[user, topic] + self.quality[item] + self.daypart[segment, topic, DAYPART_OF_HOUR[hours]]
        for kind, values in context.items():
            if (values is not None) != (kind in self.kinds):
                raise DataError(f"simulated world: expected the context fields {', '.join([*self.kinds][1:])}, "
                                f"found {kind} {'missing' if values is None else 'too'}")
            if values is not None:
                logit = logit + getattr(self, kind)[segment, topic, codes(values, pd.Index(self.kinds[kind]), kind)]
        return logit

    def probability(self, user_id: ArrayLike, item_id: ArrayLike, *, time_ms: ArrayLike | None = None, hour: ArrayLike | None = None,
                    place: ArrayLike, device: ArrayLike, mood: ArrayLike, weather: ArrayLike | None = None,
                    companion: ArrayLike | None = None, look: bool = True) -> Any:
        """Click probability: a float for scalars, else an array of the broadcast shape.

        Give either `time_ms` (milliseconds since 1970, UTC) or `hour` (whole, 0-23, UTC), and in a finer world weather and companion.
        `look=False` averages over the distribution of styles: the best that does not know the item's. Raises DataError for an unknown
        id or context value, an hour out of range, both or neither of `time_ms` and `hour`, and a context field missing or too many.
        """
        hours = hours_of(time_ms, hour)
        user, item = codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id")
        logit = self._row_logit(user, item, hours, dict(place=place, device=device, mood=mood, weather=weather, companion=companion))
        if self.style is None or self.style_taste is None:
            return sigmoid(logit)[()]
        segment, feeling = self.segment_of[user], codes(mood, pd.Index(KINDS["mood"]), "mood")
        if look:
            return sigmoid(logit + self.style_taste[segment, feeling, self.style[item]])[()]
        return np.asarray(sum(p * sigmoid(logit + self.style_taste[segment, feeling, style]) for style, p in enumerate(STYLE_P)))[()]

    def blind(self, user_id: ArrayLike, item_id: ArrayLike) -> Any:
        """Click probability averaged over the contexts of the user's requests: the best that ignores context (but knows the style).

        A float for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item = np.broadcast_arrays(codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id"))
        shape, user, item = user.shape, user.ravel(), item.ravel()
        mean = np.empty(len(user))
        rows_a_block = GRID_CELLS // self._context_logit.shape[-1]
        for rows in np.array_split(np.arange(len(user)), len(user) // rows_a_block + 1):
            u, i = user[rows], item[rows]
            logit = self._context_logit[self.segment_of[u], self.topic_of[i]]
            logit = logit + (self.taste[u, self.topic_of[i]] + self.quality[i])[:, None]
            if self.style is not None:
                logit += self._style_logit[self.segment_of[u], self.style[i]]
            mean[rows] = np.einsum("nc,nc->n", sigmoid(logit), self._daypart_context_p[u])
        return mean.reshape(shape)[()]

    def purchase(self, user_id: ArrayLike, item_id: ArrayLike) -> Any:
        """Purchase probability once clicked: up with interest, down with the price within its topic.

        A float for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item = codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id")
        dear = np.log([row["price"] / CATALOGUE[row["topic"]][0] for row in self.items])
        return sigmoid(-1.2 + 0.8 * (self.taste[user, self.topic_of[item]] - BASE) - 1.2 * dear[item])[()]

    def save(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Write plain JSON, the settings it was drawn with among it; floats survive a round trip exactly."""
        save_world(self, path, settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises DataError where the file is missing or something else."""
        return cls(**stored_parts(cls, path))


def save_world(world: Any, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
    """Write a world's fields and the settings it was drawn with as plain JSON."""
    plain = {f.name: getattr(world, f.name) for f in fields(world)}
    plain = {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in plain.items()}
    Path(path).write_text(json.dumps({"settings": settings, **plain}), encoding="utf-8")


def read_world(path: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """(shop or social, everything in the file). Raises DataError where the file is missing or something else."""
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
        return str(plain["settings"]["world"]), plain
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: expected the world.json of a simulation, found none ({error!r}): simulate again") from error


def stored_parts(cls: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Fields of a world of this class from its file, records as they are, numbers as arrays. Raises DataError for anything else."""
    kind, plain = read_world(path)
    if kind != cls.KIND:
        raise DataError(f"{path}: expected a simulated {cls.KIND} (data.simulate.world), found a simulated {kind}")
    try:
        parts: Any = {f.name: plain[f.name] for f in fields(cls)}
    except KeyError as error:
        raise DataError(f"{path}: expected the world.json of a simulation, found none with {error}: simulate again") from error
    return {k: v if v is None or k in ("users", "items", "relations") else np.array(v) for k, v in parts.items()}
