"""Prepared rows back as raw requests: what a service would have sent at that moment. For recommending from shards, and for replay."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd

from recllm.feed.log import Log
from recllm.feed.relations import UserRelations
from recllm.model.processing_recllm import RowProcessor


def moment(milliseconds: int, utc_offset: int) -> str:
    """ISO 8601 text of a moment, with its offset and milliseconds."""
    local = datetime.fromtimestamp(0, tz=UTC) + timedelta(milliseconds=milliseconds)
    return local.astimezone(timezone(timedelta(minutes=utc_offset))).isoformat(timespec="milliseconds")


def _known(value: Any) -> bool:
    return isinstance(value, list | np.ndarray) or not pd.isna(value)


class RawRequests:
    """Raw dicts out of a log. Column access is by position, so that a thousand requests take seconds."""

    def __init__(self, log: Log, processor: RowProcessor) -> None:
        self.log, self.processor, schema = log, processor, processor.spec["schema"]
        self.context = [*(s.name for s in processor.by_group["context"]), *processor.numbers, *processor.texts]
        measured = processor.counters.outcomes
        wanted = ["time", "utc_offset", "known_at", *self.context, *measured]
        self.columns = {name: log.frame[name].tolist() for name in wanted}
        self.outcomes, self.declares = measured, bool(schema["known_at"])
        self.relations = UserRelations(log, processor) if log.relations is not None else None

    def context_of(self, row: int) -> dict[str, Any]:
        """The moment of a row: time and the known context fields."""
        known = {n: self.columns[n][row] for n in self.context if _known(self.columns[n][row])}
        return {"time": moment(self.columns["time"][row], self.columns["utc_offset"][row])} | \
            {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in known.items()}

    def event(self, row: int) -> dict[str, Any]:
        """A row as an event of a history: item, context, outcomes where known."""
        outcomes = {n: self.columns[n][row] for n in self.outcomes if _known(self.columns[n][row])}
        known = {"known_at": moment(self.columns["known_at"][row], 0)} if self.declares else {}
        return {"item_id": self.log.items[self.log.item[row]], **self.context_of(row), **outcomes, **known}

    def history(self, user: int, before: int | None = None, most: int | None = None) -> tuple[list[dict[str, Any]], int]:
        """(events of a user, how many older ones were left out): those earlier than `before` (UTC ms), the newest `most`."""
        first, last = int(self.log.first[user]), int(self.log.first[user + 1])
        if before is not None:
            last = first + int(np.searchsorted(self.log.time()[first:last], before, side="left"))
        start = first if most is None else max(first, last - most)
        return [self.event(row) for row in range(start, last)], start - first

    def social(self, user: int) -> dict[str, Any]:
        """`self` and `relations` of a request, where the log has relations."""
        if self.relations is None:
            return {}
        rows, since = self.relations.own(user)
        related = [{"item_id": self.log.items[row], "since": moment(int(when), 0)} for row, when in zip(rows, since, strict=True)]
        return {"self": self.log.users[user], "relations": related}

    def request(self, rows: list[int], *, start: int, end: int) -> dict[str, Any]:
        """The request that rows of one user and moment belong to, with the timeline's events [start, end) as its history."""
        user, first = int(self.log.user[rows[0]]), int(self.log.first[self.log.user[rows[0]]])
        history = [self.event(row) for row in range(first + start, first + end)]
        return {"profile": self.log.profiles[user], "history": history, "history_before": start, "context": self.context_of(rows[0]),
                **self.social(user), "candidates": [self.log.items[self.log.item[row]] for row in rows]}
