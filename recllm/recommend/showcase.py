"""One simulated shopper in several moments: what is recommended, what was predicted, and the known truth beside it."""

from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.simulate import World
from recllm.errors import ConfigError, DataError
from recllm.feed.log import Log
from recllm.model.recommender_recllm import Recommender
from recllm.model.settings_recllm import PLAIN
from recllm.recommend.users import request_for

DAY = "2025-03-31"
MOMENTS = (  # what differs from the first, hour (UTC), place, device, mood
    ("a weekday at noon", 12, "Lisbon", "desktop", "curious"),
    ("another hour", 20, "Lisbon", "desktop", "curious"),
    ("another place", 12, "Madrid", "desktop", "curious"),
    ("another device", 12, "Lisbon", "tv", "curious"),
    ("another mood", 12, "Lisbon", "desktop", "relaxed"),
    ("all of them", 20, "Madrid", "tv", "relaxed"),
)


def showcase(config: Config, log: Log, recommender: Recommender, user: str, top_k: int = 3) -> str:
    """Lists by click probability at MOMENTS as text. Raises ConfigError for a log that is not simulated."""
    if config.data.format != "simulate":
        raise ConfigError(f"{config.name}: expected a simulated log (data.format: simulate), found {config.data.format}")
    world = World.load(Path(config.data.interactions[0]).parent / "world.json")
    profile = next((u for u in world.users if u["user_id"] == user), None)
    if profile is None:
        raise DataError(f'user "{user}" is no shopper of this simulation (u0000 to {world.users[-1]["user_id"]})')
    lines = [f"shopper {user}: {profile['age']}, {profile['segment']}, interested in {', '.join(profile['interests'])}"]
    for label, hour, place, device, mood in MOMENTS:
        context = {"time": f"{DAY}T{hour:02}:00:00+00:00", "place": place, "device": device, "mood": mood}
        request = request_for(log, recommender.processor.rows, user, context)
        found = recommender.recommend(request, top_k=top_k, exclude_seen=False, strategy="weighted", weights={"click": 1.0}, **PLAIN)
        lines.append(f"\n{f'{label}: {hour:02}:00, {place}, {device}, {mood}':<58}predicted    true")
        for entry in found:
            truth = world.probability(user, entry["item_id"], hour=hour, place=place, device=device, mood=mood)
            lines.append(f"  {_title(entry, config):<56}{entry['click']:>10.1%}{truth:>8.1%}")
    return "\n".join(lines)


def _title(entry: dict[str, Any], config: Config) -> str:
    return str(entry.get(config.recommend.title or "", entry["item_id"]))[:54]
