"""What every test shares: no network, fixed seeds, small logs written by hand."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported anywhere
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from recllm.config import Config  # noqa: E402

SCHEMA: dict[str, Any] = {
    "user": "user_id", "item": "item_id", "time": "ts", "request": "request_id",
    "context": {"device": {}, "place": {"kind": "place"}, "temperature": {"kind": "number"}},
    "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click"},
                 "duration": {"kind": "duration", "clip": 600}},
}  # fmt: skip
HEADER = "user_id,item_id,ts,request_id,device,place,temperature,click,purchase,duration"


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    """Everything a test makes lies in its own folder."""
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def shop(tmp_path) -> Callable[..., Config]:
    """shop(csv text, section=...) -> a validated Config over that log."""

    def make(log: str, *, name: str = "log.csv", schema: Any = None, items: str = "", users: str = "", **data: Any) -> Config:
        def put(file: str, text: str) -> Path:
            path = tmp_path / file
            path.write_text(text, encoding="utf-8")
            return path

        extra = {"items": str(put("items.jsonl", items))} if items else {}
        extra |= {"users": str(put("users.jsonl", users))} if users else {}
        plain = {"name": "shop", "schema": {**SCHEMA, **(schema or {})},
                 "data": {"interactions": str(put(name, log)), "workers": 1, "shards": 2, **extra, **data}}
        return Config.model_validate(json.loads(json.dumps(plain)))

    return make


def small_log(users: int = 6, events: int = 12) -> str:
    """A clean CSV log: both labels for every outcome, hours apart, two items a request."""
    lines = [HEADER]
    for user in range(users):
        for event in range(events):
            moment = 1_700_000_000 + event * 7_200 + user * 60
            for item in ((event + user) % 7, (event + user + 3) % 7):
                click = (user + item) % 3 % 2
                lines.append(f"u{user},i{item},{moment},r{user}-{event},{'tv' if event % 2 else 'mobile'},Oslo,{event}.5,{click},"
                             f"{int(click and event % 3 == 0)},{item * 10}")
    return "\n".join(lines) + "\n"
