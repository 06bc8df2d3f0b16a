"""The simulated social network's world: everything that decides whether a suggested person or group is opened, and how probable it is.

The click logit is additive: shared interests (a group: its topic), the same city, the logarithm of one plus the mutual friends (a group:
the friends in it) at that moment, and effects of daypart, device and surface by kind of item.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from recllm.data.simulate.common import Array, Named, Records, codes, hours_of, normalise, sigmoid
from recllm.data.simulate.effects import DAYPART_OF_HOUR
from recllm.data.simulate.world import save_world, stored_parts

KINDS: dict[str, tuple[str, ...]] = {
    "daypart": ("night", "morning", "midday", "evening"),
    "device": ("mobile", "desktop", "tablet"),
    "surface": ("feed", "search", "profile_page"),
}
ITEM_KINDS = ("person", "group")
DAYPART_P = np.array([0.1, 0.25, 0.3, 0.35])
DEVICE_P = np.array([[0.6, 0.1, 0.3], [0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.45, 0.2, 0.35]])  # (daypart, device)
SURFACE_P = np.array([[0.7, 0.1, 0.2], [0.55, 0.3, 0.15], [0.45, 0.35, 0.2], [0.6, 0.15, 0.25]])  # (daypart, surface)
BASE = np.array([-4.0, -3.9])  # logits by kind of item; so are all below
SHARED, CITY = np.array([0.3, 0.8]), np.array([0.4, 0.4])  # of each shared interest; of the same city
RELATED = np.array([1.9, 1.9])  # of log1p(mutual friends), of log1p(friends in the group)
EFFECTS = {
    "daypart": np.array([[0.0, -0.9, -0.3, 0.7], [-0.6, 0.9, 0.2, -0.6]]),
    "device": np.array([[0.5, -0.6, 0.1], [-0.6, 0.7, 0.0]]),
    "surface": np.array([[-0.3, 0.2, 0.9], [0.2, 0.6, -1.1]]),
}
PURCHASE_BASE, PURCHASE_TASTE, PURCHASE_RELATED = -2.3, 0.5, 0.6


@dataclass(frozen=True, eq=False)
class SocialWorld(Named):
    """Everything that decides a click. U users, who are the first U of the I items; groups follow."""

    KIND: ClassVar = "social"
    users: Records  # user_id, age, city, interests
    items: Records  # item_id, kind, about, city, topics, published (ISO, UTC)
    relations: list[list[int]]  # (user code, other's item code, since in UTC ms), friendships once, with user < other
    device_p: Array  # (U, 4 dayparts, 3), sums to 1 over the last axis; so does surface_p
    surface_p: Array

    @cached_property
    def kind_of(self) -> Array:
        return codes([item["kind"] for item in self.items], pd.Index(ITEM_KINDS), "kind")

    @cached_property
    def people_of(self) -> list[dict[int, int]]:
        """For every item: the people it is related to (a person's friends, a group's members), and since when (UTC ms)."""
        found: list[dict[int, int]] = [{} for _ in self.items]
        for user, other, since in self.relations:
            found[other][user] = since
            if other < len(self.users):
                found[user][other] = since
        return found

    @cached_property
    def _features(self) -> tuple[Array, Array, Array]:
        """Interests of users (U, topics), topics of items (I, topics), and whether they share the city (U, I)."""
        topics = sorted({topic for item in self.items for topic in item["topics"]})
        of_user, of_item = (np.array([[t in row[key] for t in topics] for row in rows], dtype=np.int64)
                            for rows, key in ((self.users, "interests"), (self.items, "topics")))  # fmt: skip
        cities = np.array([user["city"] for user in self.users]), np.array([item["city"] for item in self.items])
        return of_user, of_item, cities[0][:, None] == cities[1]

    def _codes(self, user_id: ArrayLike, item_id: ArrayLike) -> tuple[Array, Array]:
        return codes(user_id, self.user_index, "user_id"), codes(item_id, self.item_index, "item_id")

    def likeness(self, user: Array, item: Array) -> tuple[Array, Array]:
        """(how many interests they share, whether they share the city), of codes."""
        of_user, of_item, same_city = self._features
        return (of_user[user] * of_item[item]).sum(-1), same_city[user, item]

    def mutual(self, user_id: ArrayLike, item_id: ArrayLike, time_ms: ArrayLike) -> Any:
        """How many friends of the user are friends with the person, or members of the group: both relations older than the moment.

        An int for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item, time = np.broadcast_arrays(*self._codes(user_id, item_id), np.asarray(time_ms, dtype=np.int64))
        count = [self._mutual(u, i, t) for u, i, t in zip(user.ravel().tolist(), item.ravel().tolist(), time.ravel().tolist(), strict=True)]
        return np.array(count, dtype=np.int64).reshape(user.shape)[()]

    def _mutual(self, user: int, item: int, time_ms: int) -> int:
        few, many = sorted((self.people_of[user], self.people_of[item]), key=len)
        return sum(since < time_ms and many.get(person, time_ms) < time_ms for person, since in few.items())

    def logit(self, user: Array, item: Array, mutual: Array) -> Any:
        """Click logit but for the context, of codes and numbers of mutual friends."""
        kind, (shared, same_city) = self.kind_of[item], self.likeness(user, item)
        return BASE[kind] + SHARED[kind] * shared + CITY[kind] * same_city + RELATED[kind] * np.log1p(mutual)

    def moment(self, item: Array, daypart: Array, device: Array, surface: Array) -> Any:
        """What the context adds, of codes."""
        kind = self.kind_of[item]
        return EFFECTS["daypart"][kind, daypart] + EFFECTS["device"][kind, device] + EFFECTS["surface"][kind, surface]

    def buying(self, user: Array, item: Array, mutual: Array) -> Any:
        """Probability of connecting or joining once clicked, of codes and numbers of mutual friends."""
        kind, (shared, same_city) = self.kind_of[item], self.likeness(user, item)
        taste = SHARED[kind] * shared + CITY[kind] * same_city
        return sigmoid(PURCHASE_BASE + PURCHASE_TASTE * taste + PURCHASE_RELATED * np.log1p(mutual))

    def probability(self, user_id: ArrayLike, item_id: ArrayLike, *, time_ms: ArrayLike, device: ArrayLike, surface: ArrayLike,
                    mutual: ArrayLike | None = None) -> Any:
        """Click probability at a moment (UTC ms): a float for scalars, else an array of the broadcast shape.

        `mutual` replaces the number of mutual friends of that moment. Raises DataError for an unknown id or context value.
        """
        user, item = self._codes(user_id, item_id)
        count = np.asarray(self.mutual(user_id, item_id, time_ms) if mutual is None else mutual)
        named = (codes(values, pd.Index(KINDS[name]), name) for name, values in (("device", device), ("surface", surface)))
        return sigmoid(self.logit(user, item, count) + self.moment(item, DAYPART_OF_HOUR[hours_of(time_ms, None)], *named))[()]

    def context_distribution(self, user_id: str) -> Array:
        """(24 hours, 3 devices, 3 surfaces): how probable each context is in a request of this user; all of it sums to 1.

        Raises DataError for an unknown user.
        """
        user = codes([user_id], self.user_index, "user_id")
        hour_p = (DAYPART_P / np.bincount(DAYPART_OF_HOUR))[DAYPART_OF_HOUR]
        device, surface = self.device_p[user][0][DAYPART_OF_HOUR], self.surface_p[user][0][DAYPART_OF_HOUR]
        return hour_p[:, None, None] * device[:, :, None] * surface[:, None, :]

    def blind(self, user_id: ArrayLike, item_id: ArrayLike, mutual: ArrayLike) -> Any:
        """Click probability averaged over the contexts of the user's requests: the best that ignores context but knows the relations.

        A float for scalars, else an array of the broadcast shape. Raises DataError for an unknown id.
        """
        user, item = self._codes(user_id, item_id)
        logit, mean = self.logit(user, item, np.asarray(mutual)), np.zeros(())
        for part, device, surface in np.ndindex(*(len(values) for values in KINDS.values())):
            chance = DAYPART_P[part] * self.device_p[user, part, device] * self.surface_p[user, part, surface]
            effect = self.moment(item, *(np.asarray(code) for code in (part, device, surface)))
            mean = mean + chance * sigmoid(logit + effect)
        return mean[()]

    def purchase(self, user_id: ArrayLike, item_id: ArrayLike, mutual: ArrayLike) -> Any:
        """Probability of connecting or joining once clicked, with so many mutual friends. Raises DataError for an unknown id."""
        return self.buying(*self._codes(user_id, item_id), np.asarray(mutual))[()]

    def save(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Write plain JSON, the settings it was drawn with among it; floats survive a round trip exactly."""
        save_world(self, path, settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises DataError where the file is missing or something else."""
        return cls(**stored_parts(cls, path))


def habits(rng: np.random.Generator, users: int) -> dict[str, Array]:
    """device_p and surface_p of so many users, each with a tilt of their own."""
    return {"device_p": normalise(DEVICE_P * rng.gamma(4, size=(users, 1, 3))),
            "surface_p": normalise(SURFACE_P * rng.gamma(4, size=(users, 1, 3)))}
