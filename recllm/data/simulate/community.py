"""Who is in the simulated social network: people, groups, and the friendships and memberships before and during the log.

Friendships come from hidden circles (a dozen people of one city and interest who know each other), a few strangers, and friends of friends
(triadic closure). So two people of the same city and interest are mostly no friends, and mutual friends tell which circle they share.
"""

from itertools import combinations

import numpy as np

from recllm.data.simulate.common import DAY_MS, START_MS, Array, Records, iso, normalise

CITIES = ("Aarhus", "Bergen", "Ghent", "Krakow", "Lyon", "Porto", "Seville", "Turin")
# topic -> (what a person likes, what a group is called)
INTERESTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "photography": ("taking photographs", ("street photographers", "a darkroom club")),
    "gardening": ("growing vegetables", ("allotment gardeners", "balcony gardeners")),
    "chess": ("playing chess", ("an evening chess club", "blitz chess players")),
    "cycling": ("long bicycle rides", ("a weekend cycling club", "gravel riders")),
    "jazz": ("listening to jazz", ("a jazz jam session", "vinyl and jazz lovers")),
    "baking": ("baking bread", ("sourdough bakers", "cake decorators")),
    "climbing": ("climbing walls", ("a bouldering crew", "alpine climbers")),
    "theatre": ("going to the theatre", ("an amateur theatre", "improvisation actors")),
    "astronomy": ("watching the night sky", ("stargazers", "a telescope workshop")),
    "football": ("playing football", ("a five-a-side football team", "football supporters")),
    "languages": ("learning languages", ("a language exchange", "polyglots")),
    "sailing": ("sailing small boats", ("dinghy sailors", "a regatta crew")),
}
TOPICS = tuple(INTERESTS)
CIRCLE, IN_CIRCLE, KNOW_EACH_OTHER = 13, 0.65, 0.55  # size of a circle; share of a cell's people in one; of its pairs who are friends
STRANGERS, CLOSURES = 1.0, 2.0  # friendships per person drawn at random, and by way of a mutual friend
DURING = 0.06  # share of the friendships and memberships that come about during the log by themselves
LATE_GROUPS = 0.15
MEMBERS, FOLLOW = 7, 0.12  # first members of a group; chance that a member's friend of the same interest follows

Pairs = dict[tuple[int, int], int]  # (user, other) codes, user < other -> moment, UTC ms; groups are coded after the people


def make_people(rng: np.random.Generator, count: int) -> tuple[Records, Records]:
    """Users, and the same people as items. A person's item id is the user id."""
    users, items = [], []
    opened = iso(START_MS - (rng.uniform(200, 1200, count) * DAY_MS).astype(np.int64))
    for number in range(count):
        city, topics = str(rng.choice(CITIES)), [TOPICS[t] for t in sorted(rng.choice(len(TOPICS), rng.integers(2, 5), replace=False))]
        name = f"u{number:04d}"
        users.append(dict(user_id=name, age=int(rng.integers(18, 75)), city=city, interests=topics))
        *first, last = (INTERESTS[topic][0] for topic in topics)
        about = f"lives in {city}, enjoys {', '.join(first)} and {last}"
        items.append(dict(item_id=name, kind="person", about=about, city=city, topics=topics, published=str(opened[number])))
    return users, items


def make_groups(rng: np.random.Generator, count: int, days: int) -> Records:
    """Groups as items; the last ones (LATE_GROUPS) are founded during the log."""
    late = np.arange(count) >= count - round(LATE_GROUPS * count)
    day = np.where(late, rng.uniform(0, days, count), rng.uniform(-900, -200, count))
    founded = iso(START_MS + (day * DAY_MS).astype(np.int64))
    groups = []
    for number, topic in enumerate(rng.permutation(np.arange(count) % len(TOPICS))):
        city, name = str(rng.choice(CITIES)), TOPICS[topic]
        about = f"{rng.choice(INTERESTS[name][1])} in {city}, for everybody who likes {INTERESTS[name][0]}"
        groups.append(dict(item_id=f"g{number:03d}", kind="group", about=about, city=city, topics=[name],
                           published=str(founded[number])))  # fmt: skip
    return groups


def _moment(rng: np.random.Generator, opened: int, days: int) -> int:
    """When a relation came about: before the log, or (DURING of them) inside it; never before `opened`, when both are there."""
    if opened >= START_MS or rng.random() < DURING:
        return int(rng.integers(max(opened, START_MS), START_MS + days * DAY_MS))
    return int(rng.integers(opened, START_MS))


def _circles(rng: np.random.Generator, users: Records) -> list[list[int]]:
    """Hidden circles: parts of about CIRCLE people of some that share a city and an interest."""
    circles = []
    for city in CITIES:
        for topic in TOPICS:
            cell = [n for n, user in enumerate(users) if user["city"] == city and topic in user["interests"] and rng.random() < IN_CIRCLE]
            order = rng.permutation(cell).astype(int).tolist()
            circles += [order[start : start + CIRCLE] for start in range(0, len(order), CIRCLE)]
    return circles


def make_friendships(rng: np.random.Generator, users: Records, opened: Array, days: int) -> Pairs:
    """Unordered pairs of people and since when. `opened` (people) is the moment each account was opened, UTC ms."""
    friends: list[list[int]] = [[] for _ in users]
    pairs: Pairs = {}

    def befriend(a: int, b: int) -> None:
        if a != b and (min(a, b), max(a, b)) not in pairs:
            pairs[min(a, b), max(a, b)] = _moment(rng, int(max(opened[a], opened[b])), days)
            friends[a].append(b)
            friends[b].append(a)

    for circle in _circles(rng, users):
        for a, b in combinations(circle, 2):
            if rng.random() < KNOW_EACH_OTHER:
                befriend(a, b)
    for _ in range(round(STRANGERS * len(users) / 2)):
        befriend(int(rng.integers(len(users))), int(rng.integers(len(users))))
    for _ in range(round(CLOSURES * len(users) / 2)):
        middle = friends[rng.integers(len(users))]
        if len(middle) > 1:
            befriend(*(int(n) for n in rng.choice(middle, 2, replace=False)))
    return pairs


def make_memberships(rng: np.random.Generator, users: Records, groups: Records, opened: Array, friendships: Pairs, days: int) -> Pairs:
    """(person, group code) and since when. `opened` (people, then groups). First members share the topic and mostly the city."""
    friends: list[list[int]] = [[] for _ in users]
    for a, b in friendships:
        friends[a].append(b)
        friends[b].append(a)
    pairs: Pairs = {}
    for number, group in enumerate(groups, start=len(users)):
        near = np.array([1.0 * (group["topics"][0] in u["interests"]) * (4.0 if u["city"] == group["city"] else 1.0) for u in users])
        near = normalise(near + 1e-3)
        members = rng.choice(len(users), min(MEMBERS, len(users)), replace=False, p=near).tolist()
        for member in members:  # grows while it is read: friends of followers follow too
            for other in friends[member]:
                if other not in members and group["topics"][0] in users[other]["interests"] and rng.random() < FOLLOW:
                    members.append(other)
        for member in members:
            pairs[member, number] = _moment(rng, int(max(opened[member], opened[number])), days)
    return pairs
