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
        self.version, self.fast = model.version(), model.for_inference()

    def current(self) -> RecllmModel:
        """The model for inference, made anew when somebody has changed a weight."""
        version = self.model.version()
        if version != self.version:
            self.version, self.fast = version, self.model.for_inference()
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
        model, (first, *rest) = self.current(), np.array_split(tokens, blocks)
        past, states = self._first(model, prepared, first)
        return [states, *(model.after(past, self._batch(prepared, part, 0)) for part in rest)]

    def _first(self, model: RecllmModel, prepared: Prepared, tokens: np.ndarray) -> tuple[Prefix, torch.Tensor]:
        """(keys and values of a request's profile and events, which retrieval, scores and nearness all go by, states of its first block):
        where nothing is kept of the user, both take one call."""
        events, found = prepared.example.events, list[torch.Tensor]()

        def make(before: Prefix | None) -> Prefix:
            if before is not None:
                return model.extend(before, self._batch(prepared, np.arange(before.events, events), events - before.events))
            prefix, states = model.open(self._batch(prepared, np.concatenate([np.arange(events), tokens]), events))
            found.append(states)
            return prefix

        past = prepared.past = prepared.past or self._kept(prepared, make)
        return past, found[0] if found else model.after(past, self._batch(prepared, tokens, 0))

    def _kept(self, prepared: Prepared, make: Callable[[Prefix | None], Prefix]) -> Prefix:
        """The prefix that is kept of a request's user, lengthened or made where it must be; a stranger's is always made."""
        if prepared.user is None:
            return make(None)
        key = (prepared.user, tuple(prepared.example.profile), self.number, self.version)
        texts = prepared.text_vectors if self.processor.texts else None
        return self.cache.extend(key, described(prepared.example, prepared.items, len(self.processor.items), texts), make)

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, Any]:
        example = prepared.example.part(tokens, events)
        batch = self.processor.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        return {n: v if n == "sizes" else v.to(self.model.device) for n, v in batch.items()}
