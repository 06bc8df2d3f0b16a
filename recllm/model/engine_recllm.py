"""What runs the model for requests: adapters merged, prefixes kept and lengthened, candidates in blocks."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from .modeling_recllm import RecllmModel
from .prefix_recllm import Prefix, PrefixCache, described
from .processing_recllm import RowProcessor
from .requests_recllm import Prepared

BLOCK = {"cpu": 2_048, "cuda": 16_384}  # tokens of one encoder call, by scripts/benchmark.py core
_numbers = itertools.count()


class Engine:
    """One model for requests. A request that names its user (`user`) finds the prefix of the one before, where that still is true."""

    def __init__(self, model: RecllmModel, processor: RowProcessor, cache: PrefixCache | None = None) -> None:
        self.model, self.processor = model.eval(), processor
        self.cache = PrefixCache() if cache is None else cache
        self.number = next(_numbers)  # two models never share a key
        self.version, self.fast = model.version(), model.merged()

    def current(self) -> RecllmModel:
        """The model for inference, made anew when somebody has changed a weight."""
        version = self.model.version()
        if version != self.version:
            self.version, self.fast = version, self.model.merged()
        return self.fast

    @torch.inference_mode()
    def raw(self, prepared: Prepared, places: np.ndarray) -> dict[str, torch.Tensor]:
        """Uncalibrated outputs of the heads (c, ...) for some of a request's candidates: the prefix once, then all of them against it."""
        chunks = [self.model.heads(states) for states in self._states(prepared, prepared.example.events + places)]
        return {n: torch.cat([c[n] for c in chunks]) for n in chunks[0]} if chunks else {}

    @torch.inference_mode()
    def query(self, prepared: Prepared) -> torch.Tensor:
        """(W,) of length one: the state of the request's query token, projected."""
        states = self._states(prepared, np.array([prepared.example.size - 1]))[0]
        return normalize(self.model.query(states[0]), dim=-1)

    def _states(self, prepared: Prepared, tokens: np.ndarray) -> list[torch.Tensor]:
        """States (block, W) of tokens of a request's candidate stream, block by block."""
        block = BLOCK.get(self.model.device.type, BLOCK["cuda"])
        blocks = -(-len(tokens) // block)
        if not blocks:
            return []
        first, *rest = np.array_split(tokens, blocks)
        states = [self._first(prepared, first)]
        past, model = self.prefix(prepared), self.current()
        return [*states, *(model.after(past, self._batch(prepared, part, 0)) for part in rest)]

    def _first(self, prepared: Prepared, tokens: np.ndarray) -> torch.Tensor:
        """States of a request's first block: where nothing is kept of the user, the prefix goes through the encoder with it."""
        found: list[torch.Tensor] = []

        def opened(before: Prefix | None) -> Prefix:
            if before is not None:
                return self._grown(prepared, before)
            events = prepared.example.events
            prefix, states = self.current().open(self._batch(prepared, np.concatenate([np.arange(events), tokens]), events))
            found.append(states)
            return prefix

        past = self.prefix(prepared, opened)
        return found[0] if found else self.current().after(past, self._batch(prepared, tokens, 0))

    @torch.inference_mode()
    def prefix(self, prepared: Prepared, make: Callable[[Prefix | None], Prefix] | None = None) -> Prefix:
        """Keys and values of a request's profile and events: retrieval, scores and nearness all go by them."""
        if prepared.past is None:
            make = make or (lambda before: self._made(prepared) if before is None else self._grown(prepared, before))
            self.current()  # a version for the key
            if prepared.user is None:
                prepared.past = make(None)
            else:
                key = (prepared.user, tuple(prepared.example.profile), self.number, self.version)
                texts = prepared.text_vectors if self.processor.texts else None
                rows = described(prepared.example, prepared.items, len(self.processor.items), texts)
                prepared.past = self.cache.extend(key, rows, make)
        return prepared.past

    def _made(self, prepared: Prepared) -> Prefix:
        events = prepared.example.events
        return self.current().prefix(self._batch(prepared, np.arange(events), events))

    def _grown(self, prepared: Prepared, before: Prefix) -> Prefix:
        events = prepared.example.events
        return self.current().extend(before, self._batch(prepared, np.arange(before.events, events), events - before.events))

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, Any]:
        example = prepared.example.part(tokens, events)
        batch = self.processor.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        return {n: v if n == "sizes" else v.to(self.model.device) for n, v in batch.items()}
