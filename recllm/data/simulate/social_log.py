"""Drawing a social network and its log, request by request: every accepted suggestion is a relation of what comes after."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recllm.data.simulate.common import Array, draw_moments, iso, pick, sigmoid
from recllm.data.simulate.community import Pairs, make_friendships, make_groups, make_memberships, make_people
from recllm.data.simulate.effects import DAYPART_OF_HOUR, DURATION_STD, ZERO_DURATION
from recllm.data.simulate.files import Tables
from recllm.data.simulate.social import DAYPART_P, KINDS, SocialWorld, habits
from recllm.errors import DataError

FILES = ("interactions.csv", "relations.csv", "users.jsonl", "items.jsonl", "truth.parquet", "world.json")
GROUP_SHARE, NEAR_SHARE = 0.3, 0.5  # of the candidates: groups; drawn among friends of friends and friends' groups
TRIES = 200  # draws of a candidate that is new to the user, before the settings are at fault


class Network:
    """The relations as they stand while the log is drawn. Codes: people first, then groups."""

    def __init__(self, people: int, opened: Array, coming: Pairs) -> None:
        self.people, self.opened = people, opened
        self.related: list[set[int]] = [set() for _ in range(people)]  # friends and groups of each person
        self.pairs: Pairs = {}
        self._coming = sorted(coming.items(), key=lambda entry: (entry[1], entry[0]), reverse=True)

    def advance(self, time_ms: int) -> None:
        """Add what comes about by itself before this moment."""
        while self._coming and self._coming[-1][1] < time_ms:
            self.add(*self._coming.pop())

    def finish(self) -> Pairs:
        """All relations, with those to come."""
        self.advance(np.iinfo(np.int64).max)
        return self.pairs

    def add(self, pair: tuple[int, int], since: int) -> None:
        """A relation from this moment on; the first moment of a pair counts."""
        user, other = (min(pair), max(pair))
        if (user, other) not in self.pairs:
            self.pairs[user, other] = since
            self.related[user].add(other)
            if other < self.people:
                self.related[other].add(user)

    def mutual(self, user: int) -> Counter[int]:
        """How many friends of the user are related to each person and group."""
        count: Counter[int] = Counter()
        for friend in self.related[user]:
            if friend < self.people:
                count.update(self.related[friend])
        return count

    def suggest(self, rng: np.random.Generator, user: int, time_ms: int, mutual: Counter[int], slate: int) -> list[int]:
        """Distinct people and groups that are new to the user: NEAR_SHARE by two hops where there are any, the others uniform."""
        new = sorted(code for code in mutual if code != user and code not in self.related[user])
        near = [code for code in new if code < self.people], [code for code in new if code >= self.people]
        whole = (0, self.people), (self.people, len(self.opened))
        chosen: list[int] = []
        for _ in range(TRIES):
            if len(chosen) == slate:
                return chosen
            group, hop = int(rng.random() < GROUP_SHARE), rng.random() < NEAR_SHARE
            code = near[group][rng.integers(len(near[group]))] if hop and near[group] else int(rng.integers(*whole[group]))
            if code != user and code not in self.related[user] and code not in chosen and self.opened[code] <= time_ms:
                chosen.append(code)
        raise DataError(f"data.simulate.slate: expected to find {slate} suggestions that are new to a user, found {len(chosen)} in {TRIES} "
                        f"tries: raise data.simulate.users or groups, or lower slate, requests_per_user or days")


def _draw_requests(rng: np.random.Generator, world: SocialWorld, days: int, per_user: int) -> pd.DataFrame:
    """One row per request, no two at the same moment, in time order: user (code), time_ms, daypart, device, surface (codes)."""
    user = np.repeat(np.arange(len(world.users)), per_user)
    turn = np.tile(np.arange(per_user), len(world.users))
    # one request per equal share of the period keeps every user present in the train and the test part
    day = ((turn + rng.random(len(turn))) * days / per_user).astype(np.int64)
    hour = rng.choice(24, len(user), p=(DAYPART_P / np.bincount(DAYPART_OF_HOUR))[DAYPART_OF_HOUR])
    frame = pd.DataFrame({"user": user, "daypart": DAYPART_OF_HOUR[hour]})
    frame["time_ms"] = draw_moments(rng, frame, day, hour, [])
    for name in ("device", "surface"):
        frame[name] = pick(rng, getattr(world, f"{name}_p")[user, frame["daypart"]])
    return frame.sort_values("time_ms", ignore_index=True)


def _draw_rows(rng: np.random.Generator, world: SocialWorld, network: Network, requests: pd.DataFrame, slate: int) -> dict[str, Array]:
    """Row by row: item and mutual friends, p_click, p_purchase, click, purchase. The network grows on the way."""
    luck = rng.random((len(requests), 2, slate))
    rows: list[tuple[Any, ...]] = []
    for at, (user, daypart, time_ms, device, surface) in enumerate(requests.itertuples(index=False)):
        network.advance(time_ms)
        friends = network.mutual(user)
        item = np.array(network.suggest(rng, user, time_ms, friends, slate))
        mutual = np.array([friends[code] for code in item])
        p_click = sigmoid(world.logit(user, item, mutual) + world.moment(item, daypart, device, surface))
        p_purchase = world.buying(user, item, mutual)
        click = luck[at, 0] < p_click
        purchase = click & (luck[at, 1] < p_purchase)
        rows.append((item, mutual, p_click, p_purchase, click, purchase))
        for code in item[purchase].tolist():
            network.add((user, code), time_ms)
    names = ("item", "mutual", "p_click", "p_purchase", "click", "purchase")
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}


def unrelated(world: SocialWorld, user: Array, item: Array, context: Array, mutual: Array) -> Array:
    """Click probability of a predictor that knows everything but the relations, of codes (n,) and context logits (n,).

    The mean of the row's probability over the numbers of mutual friends of all rows of the same kind of item, number of shared interests
    and sameness of city. That is the best predictor from these and the context; what an id or a counter may tell of how many
    friends somebody has is left out.
    """
    shared, same_city = world.likeness(user, item)
    found = np.empty(len(user))
    for _, rows in pd.DataFrame({"kind": world.kind_of[item], "shared": shared, "city": same_city}).groupby(["kind", "shared", "city"]):
        here = rows.index.to_numpy()
        counts, times = np.unique(mutual[here], return_counts=True)
        p = [sigmoid(world.logit(user[here], item[here], np.full(len(here), count)) + context[here]) for count in counts]
        found[here] = times @ np.array(p) / times.sum()
    return found


def _tables(rng: np.random.Generator, world: SocialWorld, requests: pd.DataFrame, rows: dict[str, Array], slate: int) -> Tables:
    row, names = requests.loc[requests.index.repeat(slate)], world.item_index.to_numpy()
    user, item, mutual, p_click, click = row["user"].to_numpy(), *(rows[name] for name in ("item", "mutual", "p_click", "click"))
    seconds = np.exp(rng.normal(1.8 + 1.5 * p_click + 0.3 * click, DURATION_STD)).round(3).clip(0.001)
    seconds[rng.random(len(row)) < ZERO_DURATION] = 0.0
    ids = {"user_id": world.user_index.to_numpy()[user], "item_id": names[item]}
    request_id = np.char.mod("r%07d", row.index.to_numpy())
    named = {kind: np.array(KINDS[kind], dtype=object)[row[kind]] for kind in ("device", "surface")}
    context = world.moment(item, *(row[kind].to_numpy() for kind in KINDS))
    by_time = np.array(sorted((since, user, other) for user, other, since in world.relations), dtype=np.int64)
    outcome = {"click": click.astype(int), "purchase": rows["purchase"].astype(int), "duration": seconds}
    truth = {"mutual": mutual, "p_click": p_click, "p_click_blind": world.blind(**ids, mutual=mutual),
             "p_click_unrelated": unrelated(world, user, item, context, mutual), "p_purchase": rows["p_purchase"]}
    return {"interactions.csv": pd.DataFrame({**ids, "time": iso(row["time_ms"].to_numpy()), "request_id": request_id, **named, **outcome}),
            "relations.csv": pd.DataFrame({"user": names[by_time[:, 1]], "other": names[by_time[:, 2]], "since": iso(by_time[:, 0])}),
            "truth.parquet": pd.DataFrame({"request_id": request_id, **ids, **truth}),
            "users.jsonl": world.users, "items.jsonl": world.items}


def draw_social(seed: int, users: int, groups: int, days: int, requests_per_user: int, slate: int) -> tuple[SocialWorld, Tables]:
    """A world and its five tables. Raises DataError where the network is too small for the slates."""
    rng = np.random.default_rng(seed)
    people, items = make_people(rng, users)
    items += make_groups(rng, groups, days)
    opened = pd.to_datetime([item["published"] for item in items]).tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    friendships = make_friendships(rng, people, opened[:users], days)
    memberships = make_memberships(rng, people, items[users:], opened, friendships, days)
    world = SocialWorld(users=people, items=items, relations=[], **habits(rng, users))
    network = Network(users, opened, friendships | memberships)
    requests = _draw_requests(rng, world, days, requests_per_user)
    rows = _draw_rows(rng, world, network, requests, slate)
    world = replace(world, relations=[[user, other, since] for (user, other), since in sorted(network.finish().items())])
    return world, _tables(rng, world, requests, rows, slate)
