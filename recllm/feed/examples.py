"""Examples of a split: one per user and window, with the split's rows as candidates and one query per request."""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from recllm.feed.log import Log
from recllm.feed.relations import UserRelations
from recllm.model.fields_recllm import verbalise
from recllm.model.processing_recllm import ROW_PARTS, Example, RowProcessor, Rows, Timeline
from recllm.model.timeline_recllm import window_start

MOST_CANDIDATES = 256  # of one example; more rows become a further example over the same events


@dataclass
class Group:
    """What one example scores: rows `row` (c,) of the log against the events from `start` (a log row) on; `item` (c,) may differ
    from the row's own for sampled negatives (`sampled`)."""

    user: int
    start: int
    row: np.ndarray
    item: np.ndarray
    sampled: np.ndarray


class Examples:
    """All examples of the rows `rows` (indices of scored log rows), built when asked for: features are cheap beside the model."""

    def __init__(self, log: Log, processor: RowProcessor, tokenizer: PreTrainedTokenizerFast, rows: np.ndarray) -> None:
        self.log, self.processor = log, processor
        self.names = list(processor.spec["schema"]["outcomes"])
        outcomes = processor.spec["schema"]["outcomes"]
        self.click = next(i for i, n in enumerate(self.names) if outcomes[n]["kind"] == "binary" and not outcomes[n]["given"])
        measured = processor.counters.outcomes
        context = {s.name: log.frame[s.name].tolist() for s in processor.by_group["context"]}
        context |= {name: log.frame[name].tolist() for name in processor.numbers}
        context |= {name: log.frame[name].tolist() for name in processor.texts}
        rows_of = {text: row for row, text in enumerate(log.context_texts(processor.texts), start=1)}
        encoded = processor.rows(log.item, log.time(), log.frame["utc_offset"].to_numpy(dtype=np.int64), context, rows_of)
        known = log.frame["known_at"].to_numpy(dtype=np.int64)
        self.timeline = Timeline(**vars(encoded), known=known, outcomes=log.outcomes(measured))
        self.n_before = log.frame["n_before"].to_numpy(dtype=np.int64)
        self.labels, self.outcomes = log.labels(self.names), log.outcomes(self.names)
        self.weight = log.frame["weight"].fillna(1.0).to_numpy(dtype=np.float64)
        shown = log.frame["position"] if "position" in log.frame else np.zeros(len(log.frame))
        self.position = np.nan_to_num(np.asarray(shown, dtype=np.float64)).astype(np.int64)  # from 1, 0 unknown: for training alone
        texts = [verbalise({n: p.get(n) for n in processor.spec["profile"]}) for p in log.profiles]
        limit = int(processor.spec["profile_tokens"])
        self.profiles = [list(ids) for ids in tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]
        self.relations = UserRelations(log, processor) if log.relations is not None else None
        self.ask(self._groups(np.asarray(rows, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.groups)

    def ask(self, groups: list[Group]) -> None:
        """Let these groups be the examples."""
        self.groups = groups
        self.sizes = np.array([self._size(g) for g in groups], dtype=np.int64).reshape(-1, 3)

    def scored(self, batch: np.ndarray) -> np.ndarray:
        """Distinct items scored anywhere in a global batch: every process contrasts its queries with all of them."""
        return np.unique(np.concatenate([self.groups[int(i)].item for i in batch]))

    def _groups(self, rows: np.ndarray) -> list[Group]:
        """Rows by user and window, in order, each followed by its sampled candidates."""
        log, spec = self.log, self.processor.spec
        extra = log.candidates[np.isin(log.candidates["row"].to_numpy(), rows)]
        row = np.concatenate([rows, extra["row"].to_numpy()])
        item = np.concatenate([log.item[rows], extra["item"].to_numpy()])
        sampled = np.arange(len(row)) >= len(rows)
        start = log.first[log.user[row]] + window_start(self.n_before[row], spec["stride"], spec["overlap"])
        order = np.lexsort((sampled, row, start, log.user[row]))
        row, item, sampled, start = row[order], item[order], sampled[order], start[order]
        change = np.flatnonzero((np.diff(start, prepend=-1) != 0) | (np.diff(log.user[row], prepend=-1) != 0))
        groups = []
        for begin, end in zip(change, np.append(change[1:], len(row)), strict=True):
            for low in range(begin, end, MOST_CANDIDATES):
                part = slice(low, min(low + MOST_CANDIDATES, end))
                groups.append(Group(int(log.user[row[low]]), int(start[low]), row[part], item[part], sampled[part]))
        return groups

    def _size(self, group: Group) -> tuple[int, int, int]:
        """Tokens of (profile, events, candidates and queries)."""
        tokens = len(group.row) + len(np.unique(self.log.request[group.row]))
        return len(self.profiles[group.user]), int(self.visible(group).max()), tokens

    def visible(self, group: Group) -> np.ndarray:
        """How many events of the window each row sees (c,)."""
        return self.n_before[group.row] - (group.start - self.log.first[group.user])

    def __getitem__(self, index: int) -> Example:
        """Events, then the group's candidates in order, then one query per request."""
        group = self.groups[index]
        n = self.visible(group)
        _, query = np.unique(self.log.request[group.row], return_index=True)
        events = self.timeline.take(slice(group.start, group.start + int(n.max())))
        asked = Rows(**{k: getattr(self.timeline, k)[group.row] for k in ROW_PARTS})
        asked.item = group.item
        queries = asked.take(query)
        queries.item = np.full(len(query), -1)
        both = Rows(**{k: np.concatenate([v, getattr(queries, k)]) for k, v in vars(asked).items()})
        paths = self.relations.paths(group.user) if self.relations is not None else None
        return self.processor.build(self.profiles[group.user], events, both, np.concatenate([n, n[query]]), paths=paths)

    def targets(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(labels (c, o), weights (c,), request codes (c,)) of a group's candidates; a sampled one is 0 in every binary outcome."""
        group = self.groups[index]
        labels = self.labels[group.row].copy()
        outcomes = self.processor.spec["schema"]["outcomes"]
        none = [0.0 if outcomes[name]["kind"] == "binary" else np.nan for name in self.names]
        # where the window of a row's outcome is open at its split's end, a candidate beside it may come to it as well: both are unknown
        open_ = np.isnan(labels) & ~np.isnan(self.outcomes[group.row])
        labels[group.sampled] = np.where(open_, np.nan, none)[group.sampled]
        return labels, self.weight[group.row], self.log.request[group.row]

    def positions(self, index: int) -> np.ndarray:
        """Show positions (c,) int64 of a group's candidates, 0 where unknown; a sampled one was never shown."""
        group = self.groups[index]
        return np.where(group.sampled, 0, self.position[group.row])
