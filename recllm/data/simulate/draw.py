"""Drawing a shop and its log. The same seed and settings give the same bytes."""

import math
from typing import Any

import numpy as np
import pandas as pd

from recllm.data.simulate.common import DAY_MS, START_MS, Array, Records, codes, draw_moments, iso, normalise, pick
from recllm.data.simulate.effects import (
    ADJECTIVES,
    AGES,
    BASE,
    BRANDS,
    CATALOGUE,
    COMPANION_P,
    DAYPART_OF_HOUR,
    DAYPART_P,
    DEVICE_P,
    DURATION_STD,
    EFFECTS,
    FINER_KINDS,
    HELD_OUT_SHARE,
    INTEREST,
    KINDS,
    LATE_SHARE,
    LOOK_MISSING,
    LOOK_NOISE,
    LOOK_WIDTH,
    MOOD_P,
    MOOD_STYLE,
    QUALITY_STD,
    SEGMENT_STYLE,
    SEGMENT_TASTE,
    SEGMENTS,
    STRENGTH,
    STYLE_P,
    STYLES,
    TASTE_STD,
    TOPICS,
    TWISTS,
    WEATHER_P,
    ZERO_DURATION,
)
from recllm.data.simulate.files import Tables
from recllm.data.simulate.moods import HELD_OUT, TRAIN
from recllm.data.simulate.world import World
from recllm.errors import DataError

FILES = ("interactions.csv", "users.jsonl", "items.jsonl", "truth.parquet", "world.json")


def _table(rows: dict[str, dict[str, float]], keys: tuple[str, ...], columns: tuple[str, ...]) -> Array:
    return np.array([[rows[key].get(column, 0.0) for column in columns] for key in keys])


def _make_users(rng: np.random.Generator, count: int) -> Records:
    liking = np.exp(_table(SEGMENT_TASTE, SEGMENTS, TOPICS))
    users = []
    for number, segment in enumerate(rng.integers(len(SEGMENTS), size=count)):
        chosen = rng.choice(len(TOPICS), rng.integers(2, 5), replace=False, p=normalise(liking[segment]))
        age = int(rng.integers(*AGES[SEGMENTS[segment]]))
        gender = ("female", "male", "other")[rng.choice(3, p=(0.49, 0.49, 0.02))]
        interests = [TOPICS[topic] for topic in sorted(chosen)]
        users.append(dict(user_id=f"u{number:04d}", age=age, gender=gender, interests=interests, segment=SEGMENTS[segment]))
    return users


def _make_items(rng: np.random.Generator, count: int, days: int) -> Records:
    late = np.arange(count) >= count - round(LATE_SHARE * count)
    day = np.where(late, rng.uniform(0, days, count), rng.uniform(-180, 0, count))
    published = iso(START_MS + (day * DAY_MS).astype(np.int64))
    items = []
    for number, topic in enumerate(rng.permutation(np.arange(count) % len(TOPICS))):
        price, products, endings = CATALOGUE[TOPICS[topic]]
        brand = str(rng.choice(BRANDS))
        title = f"{brand} {rng.choice(ADJECTIVES)} {rng.choice(products)} {rng.choice(endings)}"
        price, bid = round(price * float(np.exp(rng.normal(0, 0.4))), 2), round(float(np.exp(rng.normal(-0.7, 0.5))), 2)
        items.append(dict(item_id=f"{number:04d}", title=title, topic=TOPICS[topic], brand=brand, price=price, bid=bid,
                          published=str(published[number])))  # fmt: skip
    return items


def _effects(kinds: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """(S, T, values) logits of each context field."""
    effects = {}
    for kind, values in kinds.items():
        effects[kind] = STRENGTH * np.repeat(_table(EFFECTS, TOPICS, values)[None], len(SEGMENTS), axis=0)
        for (group, topic), change in TWISTS.items():
            row = np.array([change.get(value, 0.0) for value in values])
            effects[kind][SEGMENTS.index(group), TOPICS.index(topic)] += STRENGTH * row
    return effects


def _finer_parts(rng: np.random.Generator, users: int, goods: Records) -> dict[str, Array]:
    """What a finer world has in addition; every item gets its look, a noisy linear image of its hidden style, or None."""
    style = pick(rng, np.broadcast_to(STYLE_P, (len(goods), len(STYLES))))
    look = rng.normal(size=(len(STYLES), LOOK_WIDTH))[style] + rng.normal(0, LOOK_NOISE, (len(goods), LOOK_WIDTH))
    missing = rng.random(len(goods)) < LOOK_MISSING
    for item, row, gone in zip(goods, look.round(4).tolist(), missing, strict=True):
        item["look"] = None if gone else row
    by_segment, by_mood = _table(SEGMENT_STYLE, SEGMENTS, STYLES), _table(MOOD_STYLE, KINDS["mood"], STYLES)
    return {"weather_p": WEATHER_P, "style": style, "style_taste": by_segment[:, None] + by_mood,
            "companion_p": normalise(COMPANION_P * rng.gamma(4, size=(users, 1, COMPANION_P.shape[1])))}


def make_world(rng: np.random.Generator, users: int, items: int, days: int, finer: bool = False) -> World:
    """Draw profiles, catalogue and context habits; the context effects themselves are the same for every seed."""
    people, goods = _make_users(rng, users), _make_items(rng, items, days)
    segment = codes([user["segment"] for user in people], pd.Index(SEGMENTS), "segment")
    interest = np.array([[topic in user["interests"] for topic in TOPICS] for user in people])
    taste = BASE + INTEREST * interest + _table(SEGMENT_TASTE, SEGMENTS, TOPICS)[segment]
    home = np.eye(len(KINDS["place"]))[rng.integers(len(KINDS["place"]), size=users)]
    tilt = rng.gamma(4, size=(users, 1, len(KINDS["device"]))), rng.gamma(4, size=(users, 1, len(KINDS["mood"])))
    world: dict[str, Any] = dict(
        users=people,
        items=goods,
        taste=taste + rng.normal(0, TASTE_STD, taste.shape),
        quality=rng.normal(0, QUALITY_STD, items),
        hour_p=normalise((DAYPART_P / np.bincount(DAYPART_OF_HOUR))[:, DAYPART_OF_HOUR]),
        place_p=normalise(1 + 2 * home),
        device_p=normalise(DEVICE_P * tilt[0]),
        mood_p=normalise(MOOD_P * tilt[1]),
    )
    finest: dict[str, Any] = _finer_parts(rng, users, goods) if finer else {}
    return World(**world, **_effects(KINDS | (FINER_KINDS if finer else {})), **finest)


def _draw_requests(rng: np.random.Generator, world: World, days: int, per_user: int) -> pd.DataFrame:
    """One row per request in time order: user (code), time_ms, the context fields (codes), and mood_words in a finer world."""
    user = np.repeat(np.arange(len(world.users)), per_user)
    turn = np.tile(np.arange(per_user), len(world.users))
    # one request per equal share of the period keeps every user present in the train and the test part
    day = ((turn + rng.random(len(turn))) * days / per_user).astype(np.int64)
    hour = pick(rng, world.hour_p[world.segment_of[user]])
    frame = pd.DataFrame({"user": user})
    frame["time_ms"] = draw_moments(rng, frame, day, hour, ["user"])
    daypart = DAYPART_OF_HOUR[hour]
    frame["place"] = pick(rng, world.place_p[user])
    frame["device"] = pick(rng, world.device_p[user, daypart])
    frame["mood"] = pick(rng, world.mood_p[user, daypart])
    if world.weather_p is not None and world.companion_p is not None:
        frame["weather"] = pick(rng, world.weather_p[frame["place"]])
        frame["companion"] = pick(rng, world.companion_p[user, daypart])
    frame = frame.sort_values(["time_ms", "user"], ignore_index=True)
    return frame.assign(mood_words=_say_moods(rng, frame)) if world.finer else frame


def _say_moods(rng: np.random.Generator, requests: pd.DataFrame) -> list[str]:
    """Each request's mood as a phrase; from the first moment of the last part of the log on, one of the held-out phrases."""
    time_ms = requests["time_ms"].to_numpy()
    last = time_ms[math.ceil((1 - HELD_OUT_SHARE) * len(time_ms)) - 1]  # where data.split's quantile cuts, ties included
    said = []
    for mood, late in zip(requests["mood"], time_ms >= last, strict=True):
        phrases = (HELD_OUT if late else TRAIN)[KINDS["mood"][mood]]
        said.append(phrases[rng.integers(len(phrases))])
    return said


def _draw_slates(rng: np.random.Generator, world: World, time_ms: Array, slate: int) -> Array:
    """(requests, slate) item codes: distinct items, uniform over those published by then."""
    published = pd.to_datetime([item["published"] for item in world.items]).tz_localize(None).to_numpy()
    published = published.astype("datetime64[ms]").astype(np.int64)
    if slate > (published <= START_MS).sum():
        raise DataError(f"data.simulate.slate: expected at most {(published <= START_MS).sum()} items (those published before the "
                        f"log starts), found {slate}")
    slates = []
    for moments in np.array_split(time_ms, len(time_ms) // 8192 + 1):  # in parts, to bound the memory
        keys = rng.random((len(moments), len(published)), dtype=np.float32)
        keys[published > moments[:, None]] = 2
        slates.append(np.argsort(keys, axis=1)[:, :slate])
    return np.concatenate(slates)


def _draw_log(rng: np.random.Generator, world: World, requests: pd.DataFrame, slate: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The impressions (interactions.csv) and, row by row, their truth (truth.parquet)."""
    items = _draw_slates(rng, world, requests["time_ms"].to_numpy(), slate).ravel()
    row = requests.loc[requests.index.repeat(slate)]
    named = {kind: np.array(values, dtype=object)[row[kind]] for kind, values in world.kinds.items() if kind != "daypart"}
    ids = {"user_id": world.user_index.to_numpy()[row["user"]], "item_id": world.item_index.to_numpy()[items]}
    moment = {"time_ms": row["time_ms"].to_numpy(), **named}
    p_click, p_purchase = world.probability(**ids, **moment), world.purchase(**ids)
    click = rng.random(len(row)) < p_click
    purchase = click & (rng.random(len(row)) < p_purchase)
    seconds = np.exp(rng.normal(1.8 + 1.5 * p_click + 0.3 * click, DURATION_STD)).round(3).clip(0.001)
    seconds[rng.random(len(row)) < ZERO_DURATION] = 0.0
    request_id = np.char.mod("r%07d", row.index.to_numpy())
    bid = np.array([item["bid"] for item in world.items])[items]
    shown = {"time": iso(row["time_ms"].to_numpy()), "request_id": request_id, **named}
    if world.finer:
        shown["mood_words"] = row["mood_words"].to_numpy()
    outcome = {"click": click.astype(int), "purchase": purchase.astype(int), "duration": seconds, "bid": bid}
    truth = {"p_click": p_click, "p_click_blind": world.blind(**ids)}
    if world.finer:
        truth["p_click_no_look"] = world.probability(**ids, **moment, look=False)
    return pd.DataFrame({**ids, **shown, **outcome}), pd.DataFrame({"request_id": request_id, **ids, **truth, "p_purchase": p_purchase})


def draw_shop(seed: int, users: int, items: int, days: int, requests_per_user: int, slate: int, finer: bool) -> tuple[World, Tables]:
    """A world and its four tables. Raises DataError for too few items for the slate."""
    rng = np.random.default_rng(seed)
    world = make_world(rng, users, items, days, finer)
    log, truth = _draw_log(rng, world, _draw_requests(rng, world, days, requests_per_user), slate)
    return world, {"interactions.csv": log, "truth.parquet": truth, "users.jsonl": world.users, "items.jsonl": world.items}
