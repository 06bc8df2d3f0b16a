"""One simulated shopper in several moments: what is recommended, what was predicted, and the known truth beside it."""

from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.simulate import World
from recllm.errors import ConfigError, DataError
from recllm.feed.log import Log
from recllm.model.recommender_recllm import Recommender
from recllm.recommend.users import request_for

MOMENTS = (
    ("2025-03-31T08:00:00+00:00", "Lisbon", "mobile", "busy"),
    ("2025-03-31T08:00:00+00:00", "Lisbon", "mobile", "relaxed"),
    ("2025-03-31T13:00:00+00:00", "Lisbon", "desktop", "curious"),
    ("2025-03-31T20:00:00+00:00", "Lisbon", "tv", "relaxed"),
    ("2025-03-31T20:00:00+00:00", "Oslo", "tv", "relaxed"),
    ("2025-03-31T23:00:00+00:00", "Oslo", "desktop", "tired"),
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
    for time, place, device, mood in MOMENTS:
        request = request_for(log, recommender.processor.rows, user, {"time": time, "place": place, "device": device, "mood": mood})
        found = recommender.recommend(request, top_k=top_k, exclude_seen=False, strategy="weighted", weights={"click": 1.0})
        lines.append(f"\n{time[11:16]} {place}, {device}, {mood}{'':<28}".ljust(60) + "predicted    true")
        for entry in found:
            truth = world.probability(user, entry["item_id"], hour=int(time[11:13]), place=place, device=device, mood=mood)
            lines.append(f"  {_title(entry, config):<56}{entry['click']:>10.1%}{truth:>8.1%}")
    return "\n".join(lines)


def _title(entry: dict[str, Any], config: Config) -> str:
    return str(entry.get(config.recommend.title or "", entry["item_id"]))[:54]
