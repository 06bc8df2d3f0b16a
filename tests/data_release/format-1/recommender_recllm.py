"""A model and its processor as one recommender: predictions for requests, and ranked lists."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from .attention_recllm import KeyValues
from .errors_recllm import RequestError
from .fields_recllm import as_list, as_number
from .modeling_recllm import RecllmModel
from .processor_recllm import RecllmProcessor
from .release_recllm import upload_release, write_release
from .requests_recllm import Prepared, RequestReader
from .settings_recllm import call_settings
from .strategy_recllm import NEARNESS, Ranking, ranked

TOKENS = 16_384  # padded tokens of one encoder call


@dataclass
class Pool:
    """What one list is chosen from: places (c,) among a read request's candidates, and their predictions, name -> (c,). `eligible` (e,)
    are the places that could have been retrieved."""

    prepared: Prepared
    eligible: np.ndarray
    places: np.ndarray
    predictions: dict[str, np.ndarray]
    near: np.ndarray | None = None  # (c,) cosines to the query, where retrieval has computed them


class Recommender:
    """Requests are dicts as in DESIGN 7: profile, history, context, candidates. Reads the catalogue that came with the release."""

    def __init__(self, model: RecllmModel, processor: RecllmProcessor) -> None:
        self.model, self.processor = model.eval(), processor
        self.reader = RequestReader(processor.rows, processor.tokenize, self.encode)
        self.contents: torch.Tensor | None = None

    # ---- a folder for others

    def save_pretrained(self, folder: str | Path, card: str = "", training: dict[str, Any] | None = None) -> Path:
        """Write the full form, see `release_recllm.write_release`. Returns the folder."""
        return write_release(self.model, self.processor, Path(folder).absolute(), card, training)

    def push_to_hub(self, repo_id: str, card: str = "", private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes. Returns the address of the commit."""
        return upload_release(self.model, self.processor, repo_id, card, private, token)

    # ---- text and catalogue

    def encode(self, texts: list[str]) -> np.ndarray:
        """Item texts (n) -> vectors (n, W); an empty text is the zero vector."""
        vectors = np.zeros((len(texts), self.model.config.encoder["hidden_size"]), dtype=np.float32)
        rows = [i for i, text in enumerate(texts) if text]
        if rows:
            batch = self.processor.batch_texts([texts[i] for i in rows], self.model.config.text_tokens)
            with torch.inference_mode():
                found = self.model.encode_text(batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device))
            vectors[rows] = found.float().cpu().numpy()
        return vectors

    def _contents(self) -> torch.Tensor:
        """(I, W) normalised contents of the whole catalogue, made once."""
        if self.contents is None:
            items = self.processor.rows.items
            self.contents = self._content(items.vector, items.id_row)
        return self.contents

    def _content(self, vector: np.ndarray, id_row: np.ndarray) -> torch.Tensor:
        device = self.model.device
        with torch.inference_mode():
            return normalize(self.model.tokens.content(torch.from_numpy(vector).to(device), torch.from_numpy(id_row).to(device)), dim=-1)

    def _contents_of(self, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
        """(c, W) normalised contents of rows of a request's items; those that came with the request are encoded for it."""
        known, items = len(self.processor.rows.items), prepared.items
        whole = self._contents()
        if len(items) > known:
            whole = torch.cat([whole, self._content(items.vector[known:], items.id_row[known:])])
        return whole[torch.from_numpy(rows).to(whole.device)].double().cpu().numpy()

    # ---- predictions

    def predict(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each request `item_id` (its candidates in order) and arrays (c,): a probability per binary outcome, seconds and their
        80% interval (`<duration>_low`, `<duration>_high`) for a duration. Raises RequestError naming the request at fault."""
        prepared = [self._read(request, place) for place, request in enumerate(requests)]
        found = []
        for p in prepared:
            found.append({"item_id": p.ids, **(self._score(p, np.arange(len(p.ids))) if p.ids else {})})
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
            found = self.model.heads.predictions(self.raw(prepared, places), self.model.config.duration)
        return {n: v.double().cpu().numpy() for n, v in found.items()}

    def raw(self, prepared: Prepared, places: np.ndarray) -> dict[str, torch.Tensor]:
        """Uncalibrated outputs of the heads (c, ...) for some of a request's candidates: the prefix once, then all of them against it."""
        example, chunks = prepared.example, []
        with torch.inference_mode():
            past = self._prefix(prepared)
            for begin in range(0, len(places), TOKENS):
                tokens = example.events + places[begin : begin + TOKENS]
                states, _ = self.model.after(past, self._batch(prepared, tokens, 0), start=example.events)
                chunks.append(self.model.heads(states[0]))
        return {n: torch.cat([c[n] for c in chunks]) for n in chunks[0]} if chunks else {}

    def _prefix(self, prepared: Prepared) -> KeyValues:
        """Keys and values of a request's profile and events, made once: retrieval, scores and nearness all go by them."""
        if prepared.past is None:
            example = prepared.example
            prepared.past = self.model.prefix(self._batch(prepared, np.arange(example.events), example.events))
        return prepared.past

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, torch.Tensor]:
        example = prepared.example.part(tokens, events)
        batch = self.processor.rows.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        return {n: v if n == "events" else v.to(self.model.device) for n, v in batch.items()}

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
            return prepared, np.sort(np.unique(np.array(prepared.ids, dtype=str), return_index=True)[1])
        seen = prepared.seen if exclude_seen else set()
        keep = np.array([item not in seen for item in prepared.ids], dtype=bool)
        keep &= prepared.items.published[prepared.rows] <= prepared.time
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
            near = self.nearness(prepared, places)
            chosen = np.sort(np.lexsort((-near, ~first))[:max(retrieve, int(first.sum()))])
            places, near = places[chosen], near[chosen]
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
        contents = self._contents_of(pool.prepared, rows) if settings.get("diversity") else None
        predictions = pool.predictions
        if NEARNESS in (settings.get("weights") or {}):
            predictions = predictions | {NEARNESS: self.nearness(pool.prepared, pool.places) if pool.near is None else pool.near}
        return ranked(settings, predictions, value, self.model.config.binary[0], top_k, groups, contents)

    def nearness(self, prepared: Prepared, places: np.ndarray) -> np.ndarray:
        """Cosine (c,) of items' contents to the request's query vector: what retrieval goes by."""
        return self._contents_of(prepared, prepared.rows[places]) @ self._query(prepared).double().cpu().numpy()

    def query_vector(self, request: dict[str, Any]) -> np.ndarray:
        """A request as retrieval sees it: (W,) float32 of length one; its product with a row of `item_vectors` is the cosine.

        The request's candidates, if it names any, play no part. Raises RequestError for a bad request.
        """
        return self._query(self._read({**request, "candidates": []} if isinstance(request, dict) else request, 0)).cpu().numpy()

    def item_vectors(self) -> np.ndarray:
        """The catalogue as retrieval sees it: (I, W) float32 of length one, in the order of the catalogue's ids."""
        return self._contents().cpu().numpy()

    def _query(self, prepared: Prepared) -> torch.Tensor:
        """(W,) of length one: the state of the request's query token, projected."""
        example = prepared.example
        with torch.inference_mode():
            past = self._prefix(prepared)
            states, _ = self.model.after(past, self._batch(prepared, np.array([example.size - 1]), 0), start=example.events)
            return normalize(self.model.query(states[0, 0]), dim=-1)

    def _values(self, prepared: Prepared, places: np.ndarray, name: str | None, otherwise: float) -> np.ndarray:
        """What each candidate is worth (c,): the `value` that came with it, else its value field, NaN where that is not known, and
        `otherwise` where no field is named."""
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
