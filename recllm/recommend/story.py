"""One test user's timeline beside what the model would have recommended at their first test request. The user stays nameless."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np

from recllm.config import Config
from recllm.feed.log import Log
from recllm.feed.raw import RawRequests
from recllm.model.fields_recllm import as_list, as_text
from recllm.recommend.build import recommender_of
from recllm.recommend.grids import short
from recllm.training.setup import TEST, Setup

NAME = "user A"  # in place of the id, which never enters the page
SHOWN = 15  # events before the request, and from it on
TOP = 10
FEWEST = 5  # visible events of a user whose timeline is worth a look


def chosen_row(log: Log) -> int:
    """The first scored test row of the test user with the median number of visible events, among those with FEWEST or more if any.

    Chosen by the length of the history alone, so that neither labels nor predictions pick the example.
    """
    rows = np.flatnonzero((log.split == TEST) & log.frame["scored"].to_numpy(dtype=bool))
    _, at = np.unique(log.user[rows], return_index=True)
    first = rows[at]
    n = log.frame["n_before"].to_numpy(dtype=np.int64)[first]
    first = first[n >= FEWEST] if (n >= FEWEST).any() else first
    order = np.argsort(log.frame["n_before"].to_numpy(dtype=np.int64)[first], kind="stable")
    return int(first[order[len(order) // 2]])


class Teller:
    """Rows of a log as a reader sees them: local time, title, context and outcomes in words."""

    def __init__(self, config: Config, log: Log) -> None:
        self.config, self.log = config, log
        self.context = {name: log.frame[name].tolist() for name in config.columns.context}
        self.labels = {name: log.labels([name])[:, 0] for name in config.columns.outcomes}
        self.click = self.labels[config.columns.binary[0]]

    def when(self, row: int) -> str:
        """Local date and time of a row."""
        offset = timezone(timedelta(minutes=int(self.log.frame["utc_offset"].iloc[row])))
        moment = datetime.fromtimestamp(0, tz=UTC) + timedelta(milliseconds=int(self.log.time()[row]))
        return moment.astimezone(offset).strftime("%Y-%m-%d %H:%M")

    def title(self, item: int) -> str:
        """The item's title, else its first text, else its id."""
        fields = self.log.item_fields[item]
        names = [self.config.recommend.title, *self.config.columns.item_text]
        found = next((fields[n] for n in names if n is not None and fields.get(n)), self.log.items[item])
        return ", ".join(map(str, found)) if isinstance(found, list) else str(found)

    def moment(self, row: int) -> str:
        """Known context fields of a row."""
        parts = []
        for name, spec in self.config.columns.context.items():
            value = self.context[name][row]
            text = ", ".join(as_list(value)) if spec.list else as_text(value)
            parts += [f"{name} {text}" if spec.kind == "number" else text] if text else []
        return ", ".join(parts)

    def outcomes(self, row: int) -> str:
        """Known outcomes of a row: those that happened, seconds, or `no <first outcome>`."""
        said = []
        for name, spec in self.config.columns.outcomes.items():
            value = self.labels[name][row]
            if spec.kind == "duration" and not np.isnan(value):
                said.append(f"{value:,.0f}\u00a0s")
            elif value == 1:
                said.append(name)
        first = self.config.columns.binary[0]
        nothing = "unknown" if np.isnan(self.click[row]) else f"no\u00a0{first}"
        return ", ".join(said if self.click[row] == 1 or not said else [nothing, *said])

    def event(self, row: int) -> dict[str, Any]:
        return {"when": self.when(row), "title": self.title(int(self.log.item[row])), "context": self.moment(row),
                "outcomes": self.outcomes(row) or "no outcome", "positive": bool(self.click[row] == 1)}

    def entry(self, found: dict[str, Any], item: int, later: np.ndarray) -> dict[str, Any]:
        """One recommended item: title, predictions, and what came of it in the rows `later` of the same user."""
        columns = self.config.columns
        said = [f"{n} {found[n]:.0%}" for n in columns.binary] + ([f"{found[columns.duration]:,.0f}\u00a0s"] if columns.duration else [])
        labels = self.click[later[self.log.item[later] == item]]
        words = "not shown" if len(labels) == 0 else "unknown" if np.isnan(labels).all() else \
            columns.binary[0] if np.nanmax(labels) == 1 else f"shown, no\u00a0{columns.binary[0]}"
        return {"title": self.title(item), "predicted": ", ".join(said), "afterwards": words, "positive": words == columns.binary[0]}


def story(made: Setup) -> dict[str, Any]:
    """What page.html shows of the chosen user: events before and from the request on, lists, and what came of them.

    The model sees the visible events of the request, as evaluate's scores do; later rows only say what happened afterwards.
    """
    config, log = made.config, made.log
    row, teller, raw, recommender = chosen_row(log), Teller(config, log), RawRequests(log, made.processor), recommender_of(made)
    user = int(log.user[row])
    first, last = int(log.first[user]), int(log.first[user + 1])
    n = int(log.frame["n_before"].iloc[row])
    same = [int(r) for r in range(row, last) if log.request[r] == log.request[row] and log.split[r] == TEST]
    request = raw.request(same, start=0, end=n)
    candidates = request.pop("candidates")
    later = np.arange(row, last)
    code = {item: k for k, item in enumerate(log.items)}
    lists = {"recommended": recommender.recommend(request, top_k=TOP),
             "shown": recommender.recommend({**request, "candidates": candidates}, top_k=TOP)}
    return {
        "name": NAME, "moment": teller.when(row), "context": teller.moment(row), "ranking": _ranking(config),
        "chosen": f"{NAME[0].upper()}{NAME[1:]} is the test user with the median number of known events ({n}) at their first test request, "
                  f"of those with {FEWEST} or more: chosen by that alone.",
        "left_out": max(0, n - SHOWN), "before": [teller.event(r) for r in range(max(first, first + n - SHOWN), first + n)],
        "after": [teller.event(r) for r in range(first + n, min(last, first + n + SHOWN))],
        **{name: [teller.entry(found, code[found["item_id"]], later) for found in entries] for name, entries in lists.items()},
    }


def _ranking(config: Config) -> str:
    """How the release ranks, in words."""
    chosen, first = config.recommend, config.columns.binary[0]
    said = short({**chosen.model_dump(mode="json"), "weights": chosen.weights or {first: 1.0}, "outcome": chosen.outcome or first})
    return f"Ranked by {said}{', with an auction' if chosen.auction else ''}."
