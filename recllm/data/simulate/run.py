"""`simulate`: one call for both worlds; and the loader that gives the world of a folder."""

import os
from pathlib import Path

from recllm.data.simulate.draw import FILES as SHOP_FILES
from recllm.data.simulate.draw import draw_shop
from recllm.data.simulate.effects import VERSION
from recllm.data.simulate.files import Settings, Tables, checked, reusable, write_whole
from recllm.data.simulate.social import SocialWorld
from recllm.data.simulate.social_log import FILES as SOCIAL_FILES
from recllm.data.simulate.social_log import draw_social
from recllm.data.simulate.world import World, read_world
from recllm.errors import DataError

WORLDS: dict[str, type[World] | type[SocialWorld]] = {"shop": World, "social": SocialWorld}
FILES = {"shop": SHOP_FILES, "social": SOCIAL_FILES}


def load_world(path: str | os.PathLike[str]) -> World | SocialWorld:
    """The world of a world.json, of the class that it was drawn as. Raises DataError where the file is missing or something else."""
    kind, _ = read_world(path)
    if kind not in WORLDS:
        raise DataError(f"{path}: expected a simulated world of kind {' or '.join(WORLDS)}, found {kind}: simulate again")
    return WORLDS[kind].load(path)


def _draw(settings: Settings) -> tuple[World | SocialWorld, Tables]:
    chosen = {name: value for name, value in settings.items() if name not in ("version", "world")}
    return draw_shop(**chosen) if settings["world"] == "shop" else draw_social(**chosen)


def simulate(folder: str | os.PathLike[str], *, world: str = "shop", seed: int = 0, users: int = 800, items: int = 300,
             groups: int = 120, days: int = 28, requests_per_user: int = 33, slate: int = 3, finer: bool = False) -> World | SocialWorld:
    """Write interactions.csv, users.jsonl, items.jsonl, truth.parquet and world.json into a folder, all or nothing.

    The log has users x requests_per_user x slate rows in time order, over `days` days, `duration` in seconds. `truth.parquet` has the
    same rows in the same order: p_click, p_click_blind (the best that ignores the context) and p_purchase (once clicked).
    `world="shop"`: `items` products, a fifth of them published inside the log; `finer=True` adds the context weather, companion and
    mood_words (the mood as free text, the phrases of the last fifth of the rows seen nowhere before), the items' `look`, and in truth
    p_click_no_look (the best that does not know the items' hidden style). `world="social"`: people and `groups` groups are suggested to
    people; relations.csv (user, other, since) besides, and in truth `mutual` and p_click_unrelated (social_log.py).
    A folder that holds a simulation with the same settings is taken as it is. Raises DataError for any other non-empty folder, a
    setting out of range, or too few items for the slate.
    """
    if world not in WORLDS:
        raise DataError(f'data.simulate.world: expected one of {", ".join(WORLDS)}, found "{world}"')
    whole = dict(seed=seed, users=users, days=days, requests_per_user=requests_per_user, slate=slate)
    shop = world == "shop"
    settings = checked(VERSION, world, whole | (dict(items=items) if shop else dict(groups=groups)), **(dict(finer=finer) if shop else {}))
    target = Path(os.path.abspath(folder))
    if reusable(target, settings, FILES[world]):
        return load_world(target / "world.json")
    made, tables = _draw(settings)
    write_whole(target, tables, lambda path: made.save(path, settings), lambda: reusable(target, settings, FILES[world]))
    return made
