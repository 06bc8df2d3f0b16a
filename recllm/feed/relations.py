"""Relations of a prepared log as catalogue rows: those of all items, and each user's own."""

import numpy as np
import pandas as pd

from recllm.feed.log import Log
from recllm.model.processing_recllm import RowProcessor
from recllm.model.relations_recllm import NEVER, Paths, Relations


def _rows(log: Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(left, right, since) of the relations as item codes, -1 for an id that is no item."""
    assert log.relations is not None
    index = pd.Series(np.arange(len(log.items)), index=pd.Index(log.items))
    left, right = (index.reindex(log.relations[name]).fillna(-1).to_numpy(dtype=np.int64) for name in ("user", "other"))
    return left, right, log.relations["since"].to_numpy(dtype=np.int64)


def item_relations(log: Log) -> Relations:
    """Relations among the catalogue's items. An id is a person from its first event in the log on, or its first relation as the left."""
    assert log.relations is not None
    left, right, since = _rows(log)
    acted = pd.Series(log.time()[log.first[:-1]], index=log.users)
    related = log.relations.groupby("user")["since"].min().astype(np.int64)
    person = pd.concat([acted, related]).groupby(level=0).min().reindex(log.items, fill_value=NEVER)
    both = (left >= 0) & (right >= 0)
    return Relations.of(left[both], right[both], since[both], person.to_numpy(dtype=np.int64))


class UserRelations:
    """What each user of the log is related to; paths are made once per user."""

    def __init__(self, log: Log, processor: RowProcessor) -> None:
        assert log.relations is not None and processor.relations is not None
        self.all, self.made = processor.relations, dict[int, Paths]()
        code = {user: k for k, user in enumerate(log.users)}
        left, right, since = _rows(log)
        self.edges: dict[int, dict[int, int]] = {}
        names = zip(log.relations["user"], log.relations["other"], left, right, since, strict=True)
        for user, other, user_row, other_row, moment in names:
            for who, row in ((code.get(user), other_row), (code.get(other), user_row)):
                if who is not None and row >= 0:
                    mine = self.edges.setdefault(who, {})
                    mine[int(row)] = min(int(moment), mine.get(int(row), int(moment)))

    def own(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """(item codes, since in UTC ms) of what a user (code) is related to, in order of the codes."""
        found = sorted(self.edges.get(user, {}).items())
        return np.array([row for row, _ in found], dtype=np.int64), np.array([moment for _, moment in found], dtype=np.int64)

    def paths(self, user: int) -> Paths:
        if user not in self.made:
            self.made[user] = self.all.paths(*self.own(user))
        return self.made[user]
