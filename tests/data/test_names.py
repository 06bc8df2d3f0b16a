"""No name that a schema takes collides with one of our own: every name in preparation's SQL is tried as a field's name."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.schema import RESERVED, RESERVED_EVENTS, RESERVED_OUTCOMES
from tests.conftest import SCHEMA, small_log
from tests.data.oracle import prepared_rows

CODE = Path(__file__).parents[2] / "recllm" / "data"
APART = {"simulate", "propose", "sources"}  # these make no SQL over a schema's names
WORDS = sorted({word for path in [*CODE.rglob("*.py"), *CODE.rglob("*.sql")] if not APART & set(path.parts)
                for word in re.findall(r"\b(?:AS|FROM|JOIN|TABLE|VIEW|WITH) \"?([a-z_]+)\b", path.read_text())}
               | {"unread_click", "unread_temperature", "dominant_device", "e", "t", "w", "r", "b", "d"})  # fmt: skip
USED = {"device", "place", "temperature", "click", "purchase", "duration", *(f"{n}_within" for n in ("click", "purchase", "duration"))}
EVENTS = [word for word in WORDS if word not in RESERVED | RESERVED_EVENTS | RESERVED_OUTCOMES | USED and "recllm_" not in word]
FIELDS = [word for word in WORDS if word not in RESERVED and "recllm_" not in word]


@pytest.mark.parametrize("kind", ["category", "number", "text"])
def test_every_word_of_our_own_may_name_a_context_field_or_is_refused(shop, kind):
    # given a log with one column, read under every word of the code that the schema lets through
    schema = {"context": {**SCHEMA["context"], **{word: {"column": "duration", "kind": kind} for word in EVENTS}}}
    config = shop(small_log(), schema=schema)
    # when it is prepared
    report = prepare(config)
    # then each of them holds that column, and the log is what it is without them
    rows = prepared_rows(config.prepared)
    assert report.rows == len(rows) == 144 and not report.dropped and not report.mended
    assert len(EVENTS) > 20
    for row in rows:
        plain = row["duration"] if kind == "number" else str(int(row["duration"]))
        assert {word: row[word] for word in EVENTS} == dict.fromkeys(EVENTS, plain)


def test_every_word_of_our_own_may_name_an_outcome_or_is_refused(shop):
    # given clicks under every word
    outcomes = {word: {"kind": "binary", "column": "click"} for word in EVENTS}
    config = shop(small_log(), schema={"outcomes": {**SCHEMA["outcomes"], **outcomes}})
    report = prepare(config)
    # then rows and item counts say of each what they say of clicks
    rows = prepared_rows(config.prepared)
    assert report.rows == len(rows) == 144 and not report.dropped
    assert all(row[word] == row["click"] for row in rows for word in EVENTS)
    counts = pq.read_table(config.prepared / "item_counts.parquet").to_pylist()
    assert counts and all(row[f"{word}_{part}"] == row[f"click_{part}"] for row in counts for word in EVENTS for part in ("n", "sum"))


@pytest.mark.parametrize("role", ["item_info", "item_text", "item_category", "item_number"])
def test_every_word_of_our_own_may_name_a_field_of_an_item_or_a_user_or_is_refused(shop, role):
    # given tables beside the log with one column, read under every word, and a line of each that is dropped
    def table(key: str, start: str) -> str:
        lines = [{key: f"{start}{k}", "price": str(k)} for k in range(8)] + [{"price": "9"}]
        return "".join(json.dumps(line) + "\n" for line in lines)

    fields = {word: {"column": "price"} for word in FIELDS}
    config = shop(small_log(), items=table("item_id", "i"), users=table("user_id", "u"), schema={role: fields, "profile": fields})
    report = prepare(config)
    assert report.tables == {"items": {"missing_id": 1}, "users": {"missing_id": 1}}
    for side in ("item", "user"):
        for row in pq.read_table(config.prepared / f"{side}s.parquet").to_pylist():
            plain = row[side][1:] if role != "item_number" or side == "user" else float(row[side][1:])
            assert {word: row[word] for word in FIELDS} == dict.fromkeys(FIELDS, plain)
        dropped = pq.read_table(config.prepared / "dropped" / f"{side}s.parquet").to_pylist()
        assert [row["reason"] for row in dropped] == ["missing_id"] and '"loaded"' in dropped[0]["row"]


@pytest.mark.parametrize("name", sorted(RESERVED | RESERVED_EVENTS))
def test_a_reserved_name_is_refused_in_any_case(name):
    for written in (name, name.upper(), name.title()):
        plain = {"name": "x", "schema": {**SCHEMA, "context": {written: {"column": "place"}}}, "data": {"interactions": "log.csv"}}
        with pytest.raises(ValueError, match="used twice or reserved"):
            Config.model_validate(plain)
