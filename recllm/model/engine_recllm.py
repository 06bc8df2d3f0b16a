"""What runs the model for requests: adapters merged, prefixes kept and lengthened, candidates in blocks."""

import itertools
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from .modeling_recllm import RecllmModel
from .prefix_recllm import Prefix, PrefixCache, described
from .processing_recllm import RowProcessor
from .requests_recllm import Prepared

BLOCK = {"cpu": 512, "cuda": 16_384}  # tokens of one encoder call, by scripts/benchmark.py core
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
        past, model = self.prefix(prepared), self.current()
        return [model.after(past, self._batch(prepared, part, 0)) for part in np.array_split(tokens, blocks)] if blocks else []

    @torch.inference_mode()
    def prefix(self, prepared: Prepared) -> Prefix:
        """Keys and values of a request's profile and events: retrieval, scores and nearness all go by them."""
        if prepared.past is None:
            model = self.current()
            if prepared.user is None:
                prepared.past = self._made(prepared, model, None)
            else:
                key = (prepared.user, tuple(prepared.example.profile), self.number, self.version)
                texts = prepared.text_vectors if self.processor.texts else None
                rows = described(prepared.example, prepared.items, len(self.processor.items), texts)
                prepared.past = self.cache.extend(key, rows, lambda before: self._made(prepared, model, before))
        return prepared.past

    def _made(self, prepared: Prepared, model: RecllmModel, before: Prefix | None) -> Prefix:
        events = prepared.example.events
        if before is None:
            return model.prefix(self._batch(prepared, np.arange(events), events))
        return model.extend(before, self._batch(prepared, np.arange(before.events, events), events - before.events))

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, Any]:
        example = prepared.example.part(tokens, events)
        batch = self.processor.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        return {n: v if n == "sizes" else v.to(self.model.device) for n, v in batch.items()}
