"""Real MovieLens timelines as recllm's examples, and the same histories as flat text: what both sides of a measurement are given."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recllm.model.fields_recllm import verbalise
from recllm.model.processing_recllm import CANDIDATE, ROW_PARTS, Example, Rows, Timeline
from recllm.model.timeline_recllm import window_start
from tests.speed.encoder import text_vectors
from tests.speed.fitted import Ratings, fit, read

MOST_CANDIDATES = 256  # of one example, as in recllm/feed/examples.py
EXAMPLES_FOR_SCALES = 60
RANDOM_PROFILE = 12  # tokens, where there is no tokenizer


@dataclass
class Scored:
    """One training example: the rows of a user's window as c candidates, then q queries, one a request."""

    example: Example
    labels: np.ndarray  # (c, 3) click, purchase, seconds; NaN unknown
    request: np.ndarray  # (c + q,) int64, codes of requests within the user


class Movielens:
    """The log as timelines. Raises FileNotFoundError, with the way to get it, where it is missing."""

    def __init__(self, folder: Path, encoder: Any, tokenizer: Any | None) -> None:
        self.log: Ratings = read(folder)
        self.tokenizer = tokenizer
        self.processor = fit(self.log, partial(text_vectors, encoder, tokenizer))
        count = len(self.log.user)
        encoded = self.processor.rows(self.log.item, self.log.time, np.zeros(count, dtype=np.int64), {})
        # known at once: a derived duration delays nothing
        whole = Timeline(**vars(encoded), known=self.log.time, outcomes=self.log.labels()[:, :2])
        first = np.searchsorted(self.log.user, np.arange(len(self.log.user_ids) + 1))
        self.users: list[Timeline] = [whole.take(slice(a, b)) for a, b in zip(first[:-1], first[1:], strict=True)]
        self.ratings = [self.log.rating[a:b] for a, b in zip(first[:-1], first[1:], strict=True)]
        labels = self.log.labels()
        self.labels = [labels[a:b] for a, b in zip(first[:-1], first[1:], strict=True)]
        self.profiles = self._profiles(encoder.config.vocab_size)
        self._fit_scales()

    def _profiles(self, vocabulary: int) -> list[list[int]]:
        texts = [verbalise(profile) for profile in self.log.profiles]
        if self.tokenizer is None:
            return random_ids(len(texts), RANDOM_PROFILE, vocabulary).tolist()
        limit = int(self.processor.spec["profile_tokens"])
        return [list(ids) for ids in self.tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]

    def _fit_scales(self) -> None:
        """Mean and spread of the token's numbers over train candidates; flags of unknown values stay 0 and 1."""
        processor, names = self.processor, self.processor.number_names()
        processor.mean, processor.std = np.zeros(len(names)), np.ones(len(names))
        built = [scored.example for scored in self.training_examples(most=EXAMPLES_FOR_SCALES)]
        numbers = np.concatenate([x.num[x.kind == CANDIDATE] for x in built]).astype(np.float64)
        mean, std = numbers.mean(0), numbers.std(0)
        flags = np.array([name.endswith("_missing") for name in names])
        mean[flags], std[flags | (std < 1e-6)] = 0.0, 1.0
        processor.mean, processor.std = mean, std
        processor.spec |= {"mean": mean.tolist(), "std": std.tolist()}

    # ---- users

    def longest(self, n: int) -> int:
        """Code of the user with the most events. Where nobody has more than n, the timelines of the longest are joined, one behind
        the other, until there are: still real events in real bursts, and the gap between two people is a second."""
        order = np.argsort([-len(timeline.item) for timeline in self.users], kind="stable")
        chosen, total = [], 0
        for code in order:
            chosen.append(int(code))
            total += len(self.users[code].item)
            if total > n:
                return chosen[0] if len(chosen) == 1 else self._joined(chosen)
        raise ValueError(f"expected a log of more than {n} events, found {total}: ask for a shorter history")

    def _joined(self, codes: list[int]) -> int:
        """A new user with the events of others; returns its code."""
        parts, end = [], 0
        for code in codes:
            part = self.users[code].take(slice(None))
            shift = max(0, end + 1_000 - int(part.time[0]))
            part.time, part.known = part.time + shift, part.known + shift
            end = int(part.time[-1])
            parts.append(part)
        self.users.append(Timeline(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in vars(parts[0])}))
        self.ratings.append(np.concatenate([self.ratings[code] for code in codes]))
        self.labels.append(np.concatenate([self.labels[code] for code in codes]))
        self.profiles.append(self.profiles[codes[0]])
        return len(self.users) - 1

    # ---- requests

    def window(self, user: int, n: int) -> tuple[Timeline, int]:
        """(events of the window of a row that sees the user's first n events, place of its first one)."""
        start = int(window_start(n, self.processor.spec["stride"], self.processor.spec["overlap"]))
        return self.users[user].take(slice(start, n)), start

    def moment(self, user: int, n: int) -> int:
        """UTC ms of a request that sees exactly the first n events: that of event n, or just after the last one before it."""
        time = self.users[user].time
        after = int(time[n - 1]) + 1_000 if n else int(time[0])
        return max(after, int(time[n])) if n < len(time) else after

    def example(self, user: int, n: int, candidates: np.ndarray) -> Example:
        """One request after n events, from raw rows: the window's events, candidates (c,) as item rows, and one query row."""
        events, _ = self.window(user, n)
        item = np.append(candidates, -1).astype(np.int64)
        zeros = np.zeros(len(item), dtype=np.int64)
        rows = self.processor.rows(item, zeros + self.moment(user, n), zeros, {})
        return self.processor.build(self.profiles[user], events, rows, zeros + len(events.item))

    def events(self, user: int, start: int, stop: int) -> Example:
        """The events `start` to `stop` of a user alone, nothing asked."""
        timeline = self.users[user].take(slice(start, stop))
        nothing = Rows(**{name: getattr(timeline, name)[:0] for name in ROW_PARTS})
        return self.processor.build(self.profiles[user], timeline, nothing, np.zeros(0, dtype=np.int64))

    # ---- training

    def windows(self, most: int | None = None) -> list[tuple[int, int, np.ndarray]]:
        """(user, start of the window, rows (c,) of the user) of every training example, users in an order drawn once; at most `most`.

        Every row of the train part is scored once; a window's events are those that it sees, so events of the overlap are in two.
        """
        spec, end, found = self.processor.spec, self.log.train_end(), []
        for user in np.random.default_rng(0).permutation(len(self.log.user_ids)):
            time = self.users[user].time
            rows = np.flatnonzero(time < end)
            start = window_start(self.visible(user)[rows], spec["stride"], spec["overlap"])
            for begin in np.unique(start):
                own = rows[start == begin]
                found += [(int(user), int(begin), own[k : k + MOST_CANDIDATES]) for k in range(0, len(own), MOST_CANDIDATES)]
            if most is not None and len(found) >= most:
                break
        return found[:most]

    def visible(self, user: int) -> np.ndarray:
        """How many leading events each row of a user sees (n,): ties never see each other."""
        return np.searchsorted(self.users[user].time, self.users[user].time, side="left")

    def build(self, user: int, start: int, row: np.ndarray) -> Scored:
        """The example of one entry of `windows`, from the user's columns."""
        timeline, n = self.users[user], self.visible(user)[row] - start
        events = timeline.take(slice(start, start + int(n.max())))
        asked = Rows(**{name: getattr(timeline, name)[row] for name in ROW_PARTS})
        _, first, code = np.unique(timeline.time[row], return_index=True, return_inverse=True)
        queries = asked.take(first)
        queries.item = np.full(len(first), -1)
        both = Rows(**{name: np.concatenate([value, getattr(queries, name)]) for name, value in vars(asked).items()})
        example = self.processor.build(self.profiles[user], events, both, np.concatenate([n, n[first]]))
        return Scored(example, self.labels[user][row], np.concatenate([code, np.arange(len(first))]))

    def training_examples(self, most: int | None = None) -> list[Scored]:
        """The examples of `windows`, with their labels."""
        return [self.build(*window) for window in self.windows(most)]

    # ---- the same as text

    def text_of(self, user: int, n: int, item: int) -> str:
        """Candidate, then the first n events of the user, newest first, so that what does not fit into a model's length is the oldest."""
        timeline, rating = self.users[user], self.ratings[user]
        past = (f"{self._said(timeline.item[k])}; rating: {rating[k]:g}" for k in range(n - 1, -1, -1))
        return f"{self._said(item)} | {verbalise(self._profile(user))} | " + " | ".join(past)

    def _profile(self, user: int) -> dict[str, str]:
        return self.log.profiles[user] if user < len(self.log.profiles) else {}

    def _said(self, item: int) -> str:
        fields = self.log.fields[item]
        return f"{fields['title']}; {', '.join(fields['genres'])}"

    def token_ids(self, pairs: list[tuple[int, int, int]], length: int, vocabulary: int) -> np.ndarray:
        """Token ids (k, length) int64 of (user, n, item): real text without any padding, random ids where there is no tokenizer.

        Raises ValueError for a text that is too short: padding would flatter nobody and cost the same.
        """
        if self.tokenizer is None:
            return random_ids(len(pairs), length, vocabulary)
        ids = self.tokenizer([self.text_of(*pair) for pair in pairs], truncation=True, max_length=length)["input_ids"]
        short = next((k for k, tokens in enumerate(ids) if len(tokens) < length), None)
        if short is not None:
            user, n, _ = pairs[short]
            found = len(ids[short])
            raise ValueError(f"user {user} after {n} events: expected a text of {length} tokens, found {found}: take a longer history")
        return np.array(ids, dtype=np.int64)


def random_ids(texts: int, length: int, vocabulary: int) -> np.ndarray:
    """Token ids (texts, length) int64 without the special ones at the vocabulary's begin."""
    return np.random.default_rng(0).integers(min(1_000, vocabulary // 2), vocabulary, (texts, length))
