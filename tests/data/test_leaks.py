"""Nothing leaked: what requests read is recounted by hand, and no row that a request cannot see changes its tensors."""

import json
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recllm.config import Config
from recllm.data.prepare import prepare
from recllm.feed.examples import Examples
from recllm.feed.fit import Kept, fit
from recllm.feed.log import Log, load_log
from recllm.model.catalogue_recllm import ItemCounts
from recllm.model.processing_recllm import RowProcessor
from tests.data.leaks import compare, impressions, leaks, prepared
from tests.data.oracle import typed
from tests.worlds import rich_log

Key = tuple[str, str, int]  # user, item, UTC ms: what makes raw rows one event


def test_nothing_leaks_in_50000_impressions():
    # given ties, unknown outcomes, durations that outlast later events, outcomes that come late, purchases of their own, copies
    found = leaks(50_000, seed=0)
    # then every history, n_before, counter, label, split and prior is what a plain loop over the raw rows gives
    print(f"{found['compared']:,} quantities of {found['impressions']:,} impressions compared")
    assert found["leaks_found"] == 0, found["examples"]
    assert found["compared"] > 1_000_000


# ---- the count by hand can fail: six ways to leak, each planted and found


def _ties_see_each_other(log: Log, patch: pytest.MonkeyPatch) -> None:
    same = (log.user[1:] == log.user[:-1]) & (np.diff(log.time()) == 0)
    log.frame.loc[np.flatnonzero(same) + 1, "n_before"] += 1


def _late_outcomes_are_seen_at_once(log: Log, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("recllm.model.processing_recllm.visible", lambda time, known, moment: np.searchsorted(time, moment, side="left"))


def _open_periods_are_read(log: Log, patch: pytest.MonkeyPatch) -> None:
    read = ItemCounts.read
    patch.setattr(ItemCounts, "read", lambda self, row, time: read(self, row, time + self.period))


def _events_carry_their_labels(log: Log, patch: pytest.MonkeyPatch) -> None:
    log.frame["purchase"] = log.frame["purchase_within"]


def _everything_is_fitted(log: Log, patch: pytest.MonkeyPatch) -> None:
    log.split[:] = 0


def _outcomes_are_known_at_once(log: Log, patch: pytest.MonkeyPatch) -> None:
    log.frame["known_at"] = log.frame["time"]


@pytest.mark.parametrize(
    ("plant", "what"),
    [(_ties_see_each_other, "history"), (_late_outcomes_are_seen_at_once, "events see"), (_open_periods_are_read, "item counter"),
     (_events_carry_their_labels, "user counter"), (_everything_is_fitted, "prior of click"), (_outcomes_are_known_at_once, "known_at")],
)  # fmt: skip
def test_a_planted_leak_is_found(tmp_path, monkeypatch, plant, what):
    raw = impressions(1_500, seed=1)
    config = prepared(raw, tmp_path)
    log = load_log(config)
    plant(log, monkeypatch)
    assert compare(config, raw, log).wrong[what] > 0


# ---- every row that a request does not see is changed in the raw log


def cell(value: Any) -> str | None:
    """A JSON value as text."""
    return None if value is None else json.dumps(value) if isinstance(value, list | bool) else str(value)


def key_of(raw: dict[str, Any], config: Config) -> Key:
    row = typed({name: cell(value) for name, value in raw.items()}, config.columns)
    return row["user"], row["item"], row["time"]


def keys_of(log: Log) -> list[Key]:
    users, items = np.array(log.users)[log.user], np.array(log.items)[log.item]
    return list(zip(users.tolist(), items.tolist(), log.time().tolist(), strict=True))


def seen_by(log: Log, row: int, period: int) -> np.ndarray:
    """(N,) whether a row's request can read each row: in its history, or in item counts that have closed."""
    first, frame = int(log.first[log.user[row]]), log.frame
    place = np.arange(len(frame))
    history = (place >= first) & (place < first + int(frame["n_before"][row]))
    closed = (frame["known_at"] // period + 1) * period <= frame["time"][row]
    return history | closed.to_numpy()


def other_outcomes(raw: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    click = rng.choice([0, 1, None])
    return raw | {"click": click, "purchase": rng.choice([0, 1]) if click else 0, "duration": rng.choice([None, 0, 7, 20_000])}


def changed(lines: list[dict[str, Any]], config: Config, log: Log, rows: list[int], rng: random.Random) -> list[dict[str, Any]]:
    """The raw log with every line changed, dropped or moved that the request of `rows` does not see; and with further lines."""
    keys, now = keys_of(log), int(log.time()[rows[0]])
    asked, user = {keys[row] for row in rows}, keys[rows[0]][0]
    seen = {key for key, s in zip(keys, seen_by(log, rows[0], config.data.period * 1000), strict=True) if s}
    blocked = [key[2] for key in keys if key[0] == user and key[2] < now and key not in seen]  # the first of these hides what follows it
    span, made, added = int(log.time().max()) - now + 3_600_000, [], []

    def anew(raw: dict[str, Any], tag: int) -> dict[str, Any]:
        """Another item, moment and context, at the request's moment or after it."""
        moment, item = now + rng.choice([0, rng.randrange(span)]), f"{rng.choice(['i', 'i', 'new'])}{rng.randrange(14)}"
        later = {"ts": moment // 1000, "item_id": item}
        context = {"device": rng.choice(["tv", "new"]), "place": "Paris", "mood": ["new"], "temperature": 1000 + tag, "query": "another",
                   "true_or": False, "visit": rng.choice([raw["visit"], f"w{tag}"]), "w": 0.25, "kept": rng.choice([0, 1])}  # fmt: skip
        return other_outcomes(raw | later | context | {"seen": rng.choice([None, now // 1000 + 50_000])}, rng)

    for tag, raw in enumerate(lines):
        key = key_of(raw, config)
        if key in seen:
            made.append(raw)
        elif key in asked:  # what comes of the request itself
            made.append(other_outcomes(raw | {"w": 0.75, "kept": 1, "seen": rng.choice([None, now // 1000 + 9_000])}, rng))
        elif blocked and key[0] == user and key[2] == min(blocked):  # it must go on to hide what follows, so it stays where it is
            made.append(other_outcomes(raw | {"seen": now // 1000 + 4_000, "temperature": 1000 + tag, "place": "Paris", "w": 0.25}, rng))
        elif rng.random() < 0.7:
            added.append(anew(raw, tag))
    added += [anew(rng.choice(lines) | {"user_id": rng.choice([user, "u3", "nobody"])}, 5_000 + k) for k in range(60)]
    # what would merge with a row that is seen, or with the request's own, would be seen with it
    return made + [raw for raw in added if key_of(raw, config) not in seen | asked]


def held(made, config: Config, log: Log) -> RowProcessor:
    """A processor over another log with everything fitted as it was: only the log's own rows differ."""
    items = dict(zip(made.log.items, range(len(made.log.items)), strict=True))
    processor = fit(config, log, Kept("", 0, made.processor.spec, []))
    rows = [items.get(item, -1) for item in log.items]
    old = made.processor.items
    processor.items.id_row = np.array([old.id_row[row] if row >= 0 else 0 for row in rows])
    processor.items.vector = np.stack([old.vector[row] if row >= 0 else np.zeros_like(old.vector[0]) for row in rows])
    texts = {text: k for k, text in enumerate(made.log.context_texts(processor.texts), start=1)}
    words = [None, *log.context_texts(processor.texts)]
    processor.text_vectors = made.processor.text_vectors[[texts.get(word, 0) for word in words]]
    return processor


def tensors(made, log: Log, processor: RowProcessor, asked: list[Key]) -> dict[str, Any]:
    """Everything that the model is given for a request, items by name."""
    place = {key: row for row, key in enumerate(keys_of(log))}
    examples = Examples(log, processor, made.tokenizer, np.sort([place[key] for key in asked]))
    assert len(examples) == 1
    batch = dict(processor.collate([examples[0]]))
    return batch | {"item_row": [log.items[code] for code in batch["item_row"].tolist()[1:]]}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys() and found["item_row"] == expected["item_row"]
    for name, value in expected.items():
        if name != "item_row":
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=lambda m, name=name: f"{name}: {m}")


def prepared_again(made, lines: list[dict[str, Any]], folder) -> tuple[Config, Log]:
    """The world's log with other lines, cut at the same moments."""
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(raw) + "\n" for raw in lines), encoding="utf-8")
    plain = made.config.model_dump(mode="json", by_alias=True)
    cuts = [pd.Timestamp(cut, unit="ms", tz="UTC").isoformat() for cut in made.log.report.cuts]
    plain["data"] |= {"interactions": str(folder / "log.jsonl"), "split": {"validation": cuts[0], "test": cuts[1]}}
    config = Config.model_validate(plain | {"root": str(folder)})
    prepare(config)
    return config, load_log(config)


def requests_of(log: Log, many: int) -> list[list[int]]:
    """Rows of some requests, over all of the log's time: those with much before them, and what hides it, first."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(log.frame["scored"].to_numpy(dtype=bool)):
        groups.setdefault((int(log.request[row]), int(log.time()[row])), []).append(int(row))
    n, pos = log.frame["n_before"].to_numpy(), log.frame["pos"].to_numpy()
    chosen = sorted((rows for rows in groups.values() if n[rows[0]] > 2), key=lambda rows: log.time()[rows[0]])
    hidden = [rows for rows in chosen if pos[rows[0]] - n[rows[0]] > 3]
    return [pool[k] for pool in (chosen, hidden) for k in np.linspace(0, len(pool) - 1, many // 2).astype(int)]


@pytest.mark.parametrize("which", range(12))
def test_no_row_that_a_request_does_not_see_changes_its_tensors(made, tmp_path, which):
    # given a request of a prepared log, and all that is fitted on it
    lines, rng = [json.loads(line) for line in rich_log().splitlines()], random.Random(which)
    rows = requests_of(made.log, 12)[which]
    asked = [keys_of(made.log)[row] for row in rows]
    expected = tensors(made, made.log, made.processor, asked)
    # when every line that it does not see is changed, moved or dropped, and others are added, and all is prepared again
    others = changed(lines, made.config, made.log, rows, rng)
    config, log = prepared_again(made, others, tmp_path / "changed")
    kept = [raw for raw in lines if raw in others]
    assert len(others) - len(kept) > 60 and len(kept) < len(lines)
    # then the request's tensors are what they were, to the last bit
    assert_same(tensors(made, log, held(made, config, log), asked), expected)


def test_a_row_that_a_request_sees_changes_its_tensors(made, tmp_path):
    """The test above can fail: the last event of the request's history is another one."""
    rows = requests_of(made.log, 12)[3]
    keys, row = keys_of(made.log), rows[0]
    last = keys[int(made.log.first[made.log.user[row]]) + int(made.log.frame["n_before"][row]) - 1]
    lines = [json.loads(line) for line in rich_log().splitlines()]
    others = [raw | {"click": 1 - (raw["click"] or 0), "purchase": 0} if key_of(raw, made.config) == last else raw for raw in lines]
    config, log = prepared_again(made, others, tmp_path / "seen")
    asked = [keys[row] for row in rows]
    with pytest.raises(AssertionError):
        assert_same(tensors(made, log, held(made, config, log), asked), tensors(made, made.log, made.processor, asked))


def test_that_a_group_becomes_a_user_later_is_not_seen_before(made, tmp_path):
    # given groups i0 to i3 in the relations of the log's users, and requests
    lines, keys = [json.loads(line) for line in rich_log().splitlines()], keys_of(made.log)
    chosen = [[keys[row] for row in rows] for rows in requests_of(made.log, 12)]
    expected = [tensors(made, made.log, made.processor, asked) for asked in chosen]
    # when they are users themselves, long after
    late = int(made.log.time().max()) // 1000 + 3_600
    others = lines + [lines[0] | {"user_id": f"i{k}", "ts": late, "seen": None} for k in range(4)]
    config, log = prepared_again(made, others, tmp_path / "later")
    # then no request's tensors change
    for asked, wanted in zip(chosen, expected, strict=True):
        assert_same(tensors(made, log, held(made, config, log), asked), wanted)
