"""A log with everything in it that breaks recommenders: ties, unknown labels, late outcomes, zones, lists, gone items."""

import json
import random
from typing import Any

from recllm.config import Config

SCHEMA: dict[str, Any] = {
    "user": "user_id", "item": "item_id", "time": {"column": "ts", "zone": "Europe/Berlin"},
    "context": {"device": {}, "place": {"kind": "place"}, "club": {"column": "true_or"}, "mood": {"list": True},
                "temperature": {"kind": "number"}, "query": {"kind": "text"}},
    "profile": {"age": {"kind": "number"}, "interests": {"list": True}},
    "item_text": ["title", "genres"], "item_category": {"genres": {"list": True}}, "item_number": ["price"],
    "item_vector": ["image"], "relations": {"since": {"column": "since", "unit": "s"}},
    "published": {"column": "published", "unit": "s"}, "request": "visit", "weight": "w", "scored": "kept",
    "known_at": {"column": "seen", "zone": "America/New_York"}, "outcome_delay": 20,
    "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click"},
                 "duration": {"kind": "duration", "clip": 600}},
}  # fmt: skip
START = 1_700_000_000


def rich_log(users: int = 8, events: int = 60, seed: int = 0) -> str:
    """JSON Lines: bursts of ties, durations that outlast later events, unknown outcomes, explicit offsets, items without entry."""
    rng, lines = random.Random(seed), []
    for user in range(users):
        now = START + rng.randrange(3600)
        for _ in range(events if user else 3 * events):
            now += rng.choice([0, 0, 1, 30, 900, 7_200])
            click = rng.choice([0, 1, None])
            local = f"2023-11-15T{rng.randrange(10, 24)}:30:00{rng.choice(['+01:00', '+03:30', 'Z', ''])}"
            row = {"user_id": f"u{user}", "item_id": f"i{rng.randrange(14)}", "device": rng.choice(["tv", "mobile", None]),
                   "ts": now if rng.random() < 0.5 else local,
                   "place": rng.choice(["Oslo", "Rome"]), "mood": rng.sample(["calm", "busy", "curious"], rng.randrange(3)),
                   "temperature": rng.choice([None, 3.5, -2]), "query": rng.choice([None, "a film", "war: the old one"]),
                   "click": click, "purchase": rng.choice([0, 1]) if click else 0,
                   "duration": rng.choice([None, 0, 4.25, 300, 5_000])}  # fmt: skip
            row |= {"visit": rng.choice([None, f"v{now // 900}"]), "w": rng.choice([0.5, 1]), "kept": int(rng.random() < 0.8),
                    "true_or": rng.choice([True, False]),
                    "seen": rng.choice([None, None, now + 4_000, "2023-11-15T16:00:00"])}  # fmt: skip
            lines.append(json.dumps(row))
    return "\n".join(lines) + "\n"


def rich_items(items: int = 12) -> str:
    """Two items of the log have no entry here."""
    rng, lines = random.Random(1), []
    for i in range(items):
        row = {"item_id": f"i{i}", "title": f"Film {i}", "genres": rng.sample(["noir", "drama", "war"], rng.randrange(3)),
               "price": rng.choice([None, 3, 7.5]), "image": rng.choice([None, [i, 1.0, -2.0]]),
               "published": rng.choice([None, START - 864_000])}  # fmt: skip
        lines.append(json.dumps(row))
    lines += [json.dumps({"item_id": f"u{i}", "title": f"User {i}"}) for i in range(6)]  # people are items too
    return "\n".join(lines) + "\n"


def rich_relations(pairs: int = 40) -> str:
    """Friends, members of i0 to i3 taken for groups, an id that is nobody, and moments before, in and after the log."""
    rng = random.Random(2)
    lines = [json.dumps({"user": f"u{rng.randrange(8)}", "other": rng.choice([f"u{rng.randrange(8)}", f"i{rng.randrange(4)}", "gone"]),
                         "since": START + rng.choice([-86_400, 20_000, 60_000, 200_000, 10**7])}) for _ in range(pairs)]
    return "\n".join(lines) + "\n"


def rich_users(users: int = 6) -> str:
    return "".join(json.dumps({"user_id": f"u{i}", "age": 20 + i, "interests": ["jazz", "chess"][: i % 3]}) + "\n" for i in range(users))


def rich_config(tmp_path: Any, encoder: str, **model: Any) -> Config:
    """Windows of 8 + 8 events, so that timelines here cross many of them."""
    for name, text in (("log.jsonl", rich_log()), ("items.jsonl", rich_items()), ("users.jsonl", rich_users()),
                       ("relations.jsonl", rich_relations())):
        (tmp_path / name).write_text(text, encoding="utf-8")
    plain = {"name": "rich", "schema": SCHEMA,
             "data": {"interactions": str(tmp_path / "log.jsonl"), "items": str(tmp_path / "items.jsonl"),
                      "users": str(tmp_path / "users.jsonl"), "relations": str(tmp_path / "relations.jsonl"),
                      "workers": 1, "shards": 2, "split": {"validation": 0.15, "test": 0.3}},
             "model": {"encoder": encoder, "layers": 2, "lora_rank": 2, "stride": 8, "overlap": 8, "profile_tokens": 16, "text_tokens": 16,
                       "duration_bins": 6, "head_width": 16, "cross_rank": 8, **model},
             "training": {"tokens_per_batch": 1024, "epochs": 2, "warmup_steps": 2}}  # fmt: skip
    return Config.model_validate(plain)
