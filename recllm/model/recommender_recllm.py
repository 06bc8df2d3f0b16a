"""A model and its processor as one recommender: predictions for requests, and ranked lists."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .engine_recllm import Engine
from .errors_recllm import RequestError
from .fields_recllm import as_list, as_number
from .modeling_recllm import RecllmModel
from .prefix_recllm import PrefixCache
from .processor_recllm import RecllmProcessor
from .release_recllm import Released
from .requests_recllm import Prepared, RequestReader
from .retrieval_recllm import Contents
from .settings_recllm import call_settings
from .strategy_recllm import NEARNESS, Ranking, ranked

TEXTS = 4_096  # vectors of texts that are kept: 6 MB at MiniLM's width


@dataclass
class Pool:
    """What one list is chosen from: places (c,) among a read request's candidates, and their predictions, name -> (c,). `eligible` (e,)
    are the places that could have been retrieved."""

    prepared: Prepared
    eligible: np.ndarray
    places: np.ndarray
    predictions: dict[str, np.ndarray]
    near: np.ndarray | None = None  # (c,) cosines to the query, where retrieval has computed them


class Recommender(Released):
    """Requests are dicts as in DESIGN 7: profile, history, context, candidates. Reads the catalogue that came with the release.

    A request with a `user` has its prefix kept in `cache`: the next one of that user, with more history or in another context, goes on from
    there. The name enters no score.
    """

    def __init__(self, model: RecllmModel, processor: RecllmProcessor, cache: PrefixCache | None = None) -> None:
        super().__init__(model, processor)
        self.engine = Engine(model, processor.rows, cache)
        self.reader = RequestReader(processor.rows, processor.tokenize, self.encode)
        self.contents = Contents(processor.rows.items, self.engine.content, model.version)
        self.read: dict[tuple[Hashable, str], np.ndarray] = {}  # vectors of the texts of the last requests, by version

    # ---- text and catalogue

    def encode(self, texts: list[str]) -> np.ndarray:
        """Item and context texts (n) -> vectors (n, W); an empty text is the zero vector. A text that was read before, lately and by the
        same weights, has the same vector to the bit, whatever it is asked with: kept prefixes go by that."""
        version = self.engine.current()[0]
        found = {text: vector for text in set(texts) if (vector := self.read.get((version, text))) is not None}
        if new := sorted({text for text in texts if text} - found.keys()):
            batch = self.processor.batch_texts(new, self.model.config.text_tokens)
            with torch.inference_mode():
                vectors = self.model.encode_text(batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device))
            found |= dict(zip(new, vectors.float().cpu().numpy(), strict=True))
            self.read = {**self.read, **{(version, text): found[text] for text in new}}
            self.read = dict(list(self.read.items())[-TEXTS:])
        nothing = np.zeros(self.model.config.encoder["hidden_size"], dtype=np.float32)
        return np.stack([found.get(text, nothing) for text in texts]) if texts else np.zeros((0, len(nothing)), dtype=np.float32)

    # ---- predictions

    def predict(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each request `item_id` (its candidates in order) and arrays (c,): a probability per binary outcome, seconds and their
        80% interval (`<duration>_low`, `<duration>_high`) for a duration. Raises RequestError naming the request at fault."""
        prepared = [self._read(request, place) for place, request in enumerate(requests)]
        found = []
        for p in prepared:
            found.append({"item_id": list(p.ids), **self._score(p, np.arange(len(p.ids)))})
            p.past = None  # megabytes a request, of which there may be thousands
        return found

    def _read(self, request: dict[str, Any], place: int) -> Prepared:
        try:
            return self.reader.read(request)
        except RequestError as error:
            name = request.get("id", place) if isinstance(request, dict) else place
            raise RequestError(f"request {name}: {error}") from None

    def _score(self, prepared: Prepared, places: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated predictions of some of a request's candidates."""
        with torch.inference_mode():
            found = self.model.heads.predictions(self.engine.raw(prepared, places), self.model.config.duration)
        return {n: v.double().cpu().numpy() for n, v in found.items()}

    # ---- lists

    def recommend(self, request: dict[str, Any], top_k: int = 10, exclude_seen: bool | None = None,
                  **strategy: Any) -> list[dict[str, Any]]:
        """The best items of a request, or of the catalogue (retrieval, then ranking): dicts with item_id, score and predictions.

        Options of `settings_recllm.OPTIONS` override the release's settings. Entries of an auction have `price`, what a click costs.
        Raises RequestError for a bad request.
        """
        settings = self.settings(strategy)
        exclude = settings.get("exclude_seen", True) if exclude_seen is None else exclude_seen
        pool = self.pool(request, bool(exclude), int(settings.get("retrieve") or 200), top_k)
        if len(pool.places) == 0:
            return []
        found = self.choose(pool, settings, top_k)
        entries = [self._entry(pool.prepared, int(pool.places[k]), float(score), {n: float(v[k]) for n, v in pool.predictions.items()})
                   for k, score in zip(found.places, found.score, strict=True)]
        if found.price is not None:
            entries = [entry | {"price": float(price)} for entry, price in zip(entries, found.price, strict=True)]
        return entries

    def settings(self, call: dict[str, Any]) -> dict[str, Any]:
        """The release's ranking settings, overridden by a call's. Raises RequestError for a wrong one."""
        config = self.model.config
        outcomes = [*config.binary, *([config.duration] if config.duration else [])]
        return call_settings(self.processor.recommend, call, self.reader.schema, outcomes, config.binary)

    def eligible(self, request: dict[str, Any], exclude_seen: bool) -> tuple[Prepared, np.ndarray]:
        """(the request read, places of the candidates that may be listed): without named candidates all that are published by then, less
        those of the history where `exclude_seen`; named ones as they are, each once."""
        prepared = self._read(request, 0)
        if request.get("candidates") is not None:
            return prepared, np.sort(np.unique(prepared.rows, return_index=True)[1])
        keep = prepared.items.published[prepared.rows] <= prepared.time
        if exclude_seen:
            keep &= ~np.isin(prepared.rows, prepared.seen)
        if prepared.paths is not None:  # neither the user nor who is a friend already
            time = np.full(len(prepared.rows), prepared.time)
            keep &= ~prepared.paths.related(prepared.rows, time) & (prepared.rows != prepared.self_row)
        return prepared, np.flatnonzero(keep)

    def pool(self, request: dict[str, Any], exclude_seen: bool = True, retrieve: int = 200, top_k: int = 10) -> Pool:
        """What a list is chosen from; of a larger catalogue the `retrieve` items that are nearest to the query. With relations only what
        is within two hops where that fills a list of `top_k`; else all of that, and of the rest the nearest."""
        prepared, eligible = self.eligible(request, exclude_seen)
        places, whole, first = eligible, request.get("candidates") is None, np.zeros(len(eligible), dtype=bool)
        if whole and prepared.paths is not None:
            first = prepared.paths.between(prepared.rows[places], np.full(len(places), prepared.time)) > 0
            if first.sum() >= top_k:
                places, first = places[first], np.zeros(int(first.sum()), dtype=bool)  # nobody is before the others any more
        near = None
        if whole and len(places) > retrieve:
            rows, others, query = prepared.rows[places], np.flatnonzero(~first), self.engine.query(prepared)
            nearest, _ = self.contents.nearest(prepared.items, rows[others], query, retrieve - int(first.sum()))
            chosen = np.sort(np.concatenate([np.flatnonzero(first), others[nearest]]))
            places, near = places[chosen], self.contents.cosines(prepared.items, rows[chosen], query)
        return Pool(prepared, eligible, places, self._score(prepared, places) if len(places) else {}, near)

    def choose(self, pool: Pool, settings: dict[str, Any], top_k: int) -> Ranking:
        """The list that settings make of a pool; its places point into the pool."""
        rows, fields, auction = pool.prepared.rows[pool.places], pool.prepared.items.fields, settings.get("auction") is not None
        if auction and settings.get("value") is None and not pool.prepared.values:
            raise RequestError("auction: expected bids, found none: set value to the item field that holds the bid per click, or give "
                               "candidates as dicts with item_id and value")
        value = self._values(pool.prepared, pool.places, settings.get("value"), np.nan if auction else 1.0)
        cap = settings.get("cap")
        groups = [as_list(fields[row].get(cap["field"])) for row in rows] if cap else None
        contents = self.contents.of(pool.prepared.items, rows).double().cpu().numpy() if settings.get("diversity") else None
        predictions = pool.predictions
        if NEARNESS in (settings.get("weights") or {}):
            predictions = predictions | {NEARNESS: self.nearness(pool.prepared, pool.places) if pool.near is None else pool.near}
        return ranked(settings, predictions, value, self.model.config.binary[0], top_k, groups, contents)

    def nearness(self, prepared: Prepared, places: np.ndarray) -> np.ndarray:
        """Cosine (c,) of items' contents to the request's query vector: what retrieval goes by."""
        return self.contents.cosines(prepared.items, prepared.rows[places], self.engine.query(prepared))

    def query_vector(self, request: dict[str, Any]) -> np.ndarray:
        """A request as retrieval sees it: (W,) float32 of length one; its product with a row of `item_vectors` is the cosine.

        The request's candidates, if it names any, play no part. Raises RequestError for a bad request.
        """
        return self.engine.query(self._read({**request, "candidates": []} if isinstance(request, dict) else request, 0)).cpu().numpy()

    def item_vectors(self) -> np.ndarray:
        """The catalogue as retrieval sees it: (I, W) float32 of length one, in the order of the catalogue's ids; read-only, as retrieval
        goes on reading it."""
        found = self.contents.whole().cpu().numpy()
        found.flags.writeable = False
        return found

    def _values(self, prepared: Prepared, places: np.ndarray, name: str | None, otherwise: float) -> np.ndarray:
        """What each candidate is worth (c,): the `value` that came with it, else its value field, NaN where that is not known, and
        `otherwise` where no field is named."""
        if name is None and not prepared.values:
            return np.full(len(places), otherwise)
        fields = prepared.items.fields
        own = [prepared.values.get(prepared.ids[place]) for place in places]
        found = [v if v is not None else fields[prepared.rows[p]].get(name or "") for v, p in zip(own, places, strict=True)]
        return np.array([otherwise if v is None and name is None else as_number(v, name or "value") for v in found])

    def _entry(self, prepared: Prepared, place: int, score: float, predictions: dict[str, float]) -> dict[str, Any]:
        duration = self.model.config.duration
        entry: dict[str, Any] = {"item_id": prepared.ids[place], "score": score}
        entry |= {n: predictions[n] for n in self.model.config.binary}
        if duration:
            ends = [predictions[f"{duration}_low"], predictions[f"{duration}_high"]]
            entry |= {duration: predictions[duration], f"{duration}_interval": ends}
        title = self.processor.recommend.get("title")
        fields = prepared.items.fields[int(prepared.rows[place])]
        return entry | ({title: fields[title]} if title and title in fields else {})
