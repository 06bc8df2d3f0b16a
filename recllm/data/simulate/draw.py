"""Drawing a world and its log. The same seed and settings give the same bytes."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from recllm.data.simulate.effects import (
    ADJECTIVES,
    AGES,
    BASE,
    BRANDS,
    CATALOGUE,
    DAYPART_OF_HOUR,
    DAYPART_P,
    DEVICE_P,
    DURATION_STD,
    EFFECTS,
    INTEREST,
    KINDS,
    LATE_SHARE,
    MOOD_P,
    QUALITY_STD,
    SEGMENT_TASTE,
    SEGMENTS,
    STRENGTH,
    TASTE_STD,
    TOPICS,
    TWISTS,
    VERSION,
    ZERO_DURATION,
)
from recllm.data.simulate.world import HOUR_MS, Array, Records, World, codes
from recllm.errors import DataError

START_MS = int(np.datetime64("2025-03-03T00:00:00", "ms").astype(np.int64))
DAY_MS = 24 * HOUR_MS
FILES = ("interactions.csv", "users.jsonl", "items.jsonl", "truth.parquet", "world.json")


def _iso(time_ms: Array) -> Array:
    return np.datetime_as_string(time_ms.astype("datetime64[ms]"), unit="ms", timezone="UTC")


def _pick(rng: np.random.Generator, p: Array) -> Array:
    """One column per row, drawn with the row's probabilities (n, k)."""
    return np.minimum((p.cumsum(1) <= rng.random(len(p))[:, None]).sum(1), p.shape[1] - 1)


def _normalise(weights: Array) -> Array:
    return weights / weights.sum(-1, keepdims=True)


def _table(rows: dict[str, dict[str, float]], keys: tuple[str, ...], columns: tuple[str, ...]) -> Array:
    return np.array([[rows[key].get(column, 0.0) for column in columns] for key in keys])


def _make_users(rng: np.random.Generator, count: int) -> Records:
    liking = np.exp(_table(SEGMENT_TASTE, SEGMENTS, TOPICS))
    users = []
    for number, segment in enumerate(rng.integers(len(SEGMENTS), size=count)):
        chosen = rng.choice(len(TOPICS), rng.integers(2, 5), replace=False, p=_normalise(liking[segment]))
        age = int(rng.integers(*AGES[SEGMENTS[segment]]))
        gender = ("female", "male", "other")[rng.choice(3, p=(0.49, 0.49, 0.02))]
        interests = [TOPICS[topic] for topic in sorted(chosen)]
        users.append(dict(user_id=f"u{number:04d}", age=age, gender=gender, interests=interests, segment=SEGMENTS[segment]))
    return users


def _make_items(rng: np.random.Generator, count: int, days: int) -> Records:
    late = np.arange(count) >= count - round(LATE_SHARE * count)
    day = np.where(late, rng.uniform(0, days, count), rng.uniform(-180, 0, count))
    published = _iso(START_MS + (day * DAY_MS).astype(np.int64))
    items = []
    for number, topic in enumerate(rng.permutation(np.arange(count) % len(TOPICS))):
        price, products, endings = CATALOGUE[TOPICS[topic]]
        brand = str(rng.choice(BRANDS))
        title = f"{brand} {rng.choice(ADJECTIVES)} {rng.choice(products)} {rng.choice(endings)}"
        price, bid = round(price * float(np.exp(rng.normal(0, 0.4))), 2), round(float(np.exp(rng.normal(-0.7, 0.5))), 2)
        items.append(dict(item_id=f"{number:04d}", title=title, topic=TOPICS[topic], brand=brand, price=price, bid=bid,
                          published=str(published[number])))  # fmt: skip
    return items


def make_world(rng: np.random.Generator, users: int, items: int, days: int) -> World:
    """Draw profiles, catalogue and context habits; the context effects themselves are the same for every seed."""
    people, goods = _make_users(rng, users), _make_items(rng, items, days)
    segment = codes([user["segment"] for user in people], pd.Index(SEGMENTS), "segment")
    interest = np.array([[topic in user["interests"] for topic in TOPICS] for user in people])
    taste = BASE + INTEREST * interest + _table(SEGMENT_TASTE, SEGMENTS, TOPICS)[segment]
    effects = {}
    for kind, values in KINDS.items():
        effects[kind] = STRENGTH * np.repeat(_table(EFFECTS, TOPICS, values)[None], len(SEGMENTS), axis=0)
        for (group, topic), change in TWISTS.items():
            row = np.array([change.get(value, 0.0) for value in values])
            effects[kind][SEGMENTS.index(group), TOPICS.index(topic)] += STRENGTH * row
    home = np.eye(len(KINDS["place"]))[rng.integers(len(KINDS["place"]), size=users)]
    tilt = rng.gamma(4, size=(users, 1, len(KINDS["device"]))), rng.gamma(4, size=(users, 1, len(KINDS["mood"])))
    return World(
        users=people,
        items=goods,
        taste=taste + rng.normal(0, TASTE_STD, taste.shape),
        quality=rng.normal(0, QUALITY_STD, items),
        hour_p=_normalise((DAYPART_P / np.bincount(DAYPART_OF_HOUR))[:, DAYPART_OF_HOUR]),
        place_p=_normalise(1 + 2 * home),
        device_p=_normalise(DEVICE_P * tilt[0]),
        mood_p=_normalise(MOOD_P * tilt[1]),
        **effects,
    )


def _draw_requests(rng: np.random.Generator, world: World, days: int, per_user: int) -> pd.DataFrame:
    """One row per request in time order: user (code), time_ms, place, device, mood (codes)."""
    user = np.repeat(np.arange(len(world.users)), per_user)
    turn = np.tile(np.arange(per_user), len(world.users))
    # one request per equal share of the period keeps every user present in the train and the test part
    day = ((turn + rng.random(len(turn))) * days / per_user).astype(np.int64)
    hour = _pick(rng, world.hour_p[world.segment_of[user]])
    frame = pd.DataFrame({"user": user, "time_ms": START_MS + day * DAY_MS + hour * HOUR_MS})
    frame["offset"] = rng.integers(HOUR_MS, size=len(frame))
    while (again := frame.duplicated()).any():
        frame.loc[again, "offset"] = rng.integers(HOUR_MS, size=int(again.sum()))
    frame["time_ms"] += frame.pop("offset")
    daypart = DAYPART_OF_HOUR[hour]
    frame["place"] = _pick(rng, world.place_p[user])
    frame["device"] = _pick(rng, world.device_p[user, daypart])
    frame["mood"] = _pick(rng, world.mood_p[user, daypart])
    return frame.sort_values(["time_ms", "user"], ignore_index=True)


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
    named = {kind: np.array(KINDS[kind], dtype=object)[row[kind]] for kind in ("place", "device", "mood")}
    ids = {"user_id": world.user_index.to_numpy()[row["user"]], "item_id": world.item_index.to_numpy()[items]}
    p_click = world.probability(**ids, time_ms=row["time_ms"].to_numpy(), **named)
    p_purchase = world.purchase(**ids)
    click = rng.random(len(row)) < p_click
    purchase = click & (rng.random(len(row)) < p_purchase)
    seconds = np.exp(rng.normal(1.8 + 1.5 * p_click + 0.3 * click, DURATION_STD)).round(3).clip(0.001)
    seconds[rng.random(len(row)) < ZERO_DURATION] = 0.0
    request_id = np.char.mod("r%07d", row.index.to_numpy())
    bid = np.array([item["bid"] for item in world.items])[items]
    shown = {"time": _iso(row["time_ms"].to_numpy()), "request_id": request_id, **named}
    outcome = {"click": click.astype(int), "purchase": purchase.astype(int), "duration": seconds, "bid": bid}
    truth = {"p_click": p_click, "p_click_blind": world.blind(**ids), "p_purchase": p_purchase}
    return pd.DataFrame({**ids, **shown, **outcome}), pd.DataFrame({"request_id": request_id, **ids, **truth})


def _write_lines(path: Path, records: Records, leave: str = "") -> None:
    rows = ({key: value for key, value in record.items() if key != leave} for record in records)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _settings(**values: int) -> dict[str, int]:
    """The settings as they are stored, checked: all of them whole and positive, the seed at least 0."""
    for name, value in values.items():
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise DataError(f"data.simulate.{name}: expected a whole number of at least {least}, found {value!r}")
    return {"version": VERSION, **values}


def _reusable(folder: Path, settings: dict[str, int]) -> bool:
    """Whether the folder holds all files of a simulation with these settings. Raises DataError for any other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / "world.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "something else"
    if found == settings and all((folder / name).is_file() for name in FILES):
        return True
    raise DataError(f"{folder}: expected no folder, an empty one, or a whole simulation with {settings}, found {found}: "
                    f"delete it or choose another path")


def simulate(folder: str | os.PathLike[str], *, seed: int = 0, users: int = 800, items: int = 300, days: int = 28,
             requests_per_user: int = 33, slate: int = 3) -> World:
    """Write interactions.csv, users.jsonl, items.jsonl, truth.parquet and world.json into a folder, all or nothing.

    The log has users x requests_per_user x slate rows in time order, over `days` days; a fifth of the items is published inside it.
    `truth.parquet` has the same rows in the same order: p_click, p_click_blind (the best that ignores the context) and p_purchase
    (once clicked). `duration` is in seconds. A folder that holds a simulation with the same settings is taken as it is. Raises
    DataError for any other non-empty folder, a setting out of range, or too few items for the slate.
    """
    settings = _settings(seed=seed, users=users, items=items, days=days, requests_per_user=requests_per_user, slate=slate)
    folder = Path(os.path.abspath(folder))
    if _reusable(folder, settings):
        return World.load(folder / "world.json")
    rng = np.random.default_rng(seed)
    world = make_world(rng, users, items, days)
    log, truth = _draw_log(rng, world, _draw_requests(rng, world, days, requests_per_user), slate)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process of the same number
    part.mkdir(parents=True)
    try:
        log.to_csv(part / "interactions.csv", index=False, lineterminator="\n")
        truth.to_parquet(part / "truth.parquet", index=False)
        _write_lines(part / "users.jsonl", world.users)
        _write_lines(part / "items.jsonl", world.items, leave="bid")
        world.save(part / "world.json", settings)
        part.rename(folder)  # takes the place of an empty folder, never of a full one
    except OSError:
        if not _reusable(folder, settings):  # unless another process has just finished the same one
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return world
