"""What runs the model for requests: adapters merged, prefixes kept and lengthened, candidates in blocks."""

import itertools
from collections.abc import Callable, Hashable
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
        self.made = (model.version(), model.for_inference())

    def current(self) -> tuple[Hashable, RecllmModel]:
        """(its version, the model for inference), made anew when somebody has changed a weight. Answers are given in evaluation mode."""
        if self.model.training:
            self.model.eval()
        version, made = self.model.version(), self.made
        if version != made[0]:
            made = self.made = (version, self.model.for_inference())
        return made

    @torch.inference_mode()
    def raw(self, prepared: Prepared, places: np.ndarray) -> dict[str, torch.Tensor]:
        """Uncalibrated outputs of the heads (c, ...) for some of a request's candidates: the prefix once, then all of them against it."""
        chunks = [self.model.heads(states) for states in self._states(prepared, prepared.example.events + places)]
        return {n: at_least_float(torch.cat([c[n] for c in chunks])) for n in chunks[0]}

    @torch.inference_mode()
    def query(self, prepared: Prepared) -> torch.Tensor:
        """(W,) of length one: the state of the request's query token, projected."""
        states = self._states(prepared, np.array([prepared.example.size - 1]))[0]
        return normalize(at_least_float(self.model.query(states[0])), dim=-1)

    @torch.inference_mode()
    def content(self, vector: np.ndarray, id_row: np.ndarray) -> torch.Tensor:
        """Contents (n, W) of length one of items, by `TokenEncoder.content`."""
        _, model = self.current()
        found = model.tokens.content(torch.from_numpy(vector).to(model.device, model.dtype), torch.from_numpy(id_row).to(model.device))
        return normalize(at_least_float(found), dim=-1)

    def _states(self, prepared: Prepared, tokens: np.ndarray) -> list[torch.Tensor]:
        """States (block, W) of tokens of a request's candidate stream, block by block, at least one."""
        version, model = self.current()
        if len(tokens) == 0:
            return [torch.zeros(0, model.config.state_width, device=model.device, dtype=model.dtype)]
        first, *rest = np.array_split(tokens, -(-len(tokens) // BLOCK.get(model.device.type, BLOCK["cuda"])))
        made = list[torch.Tensor]()  # the first block's states, where its call makes the prefix too

        def make(before: Prefix | None) -> Prefix:
            events = prepared.example.events
            if before is not None:
                return model.extend(before, self._batch(prepared, np.arange(before.events, events), events - before.events))
            prefix, states = model.open(self._batch(prepared, np.concatenate([np.arange(events), first]), events))
            made.append(states)
            return prefix

        # retrieval, scores and nearness of a request all go by one prefix
        past = prepared.past = prepared.past or self._kept(prepared, version, make)
        return [*made, *(model.after(past, self._batch(prepared, part, 0)) for part in (rest if made else [first, *rest]))]

    def _kept(self, prepared: Prepared, version: Hashable, make: Callable[[Prefix | None], Prefix]) -> Prefix:
        """The prefix that is kept of a request's user, lengthened or made where it must be; a stranger's is always made."""
        if prepared.user is None:
            return make(None)
        key = (prepared.user, tuple(prepared.example.profile), self.number, version)
        texts = prepared.text_vectors if self.processor.texts else None
        return self.cache.extend(key, described(prepared.example, prepared.items, len(self.processor.items), texts), make)

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, Any]:
        """On the model's device, in its precision."""
        example = prepared.example.part(tokens, events)
        batch = self.processor.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        device, dtype = self.model.device, self.model.dtype
        return {n: v if n == "sizes" else v.to(device, dtype if v.is_floating_point() else v.dtype) for n, v in batch.items()}


def at_least_float(values: torch.Tensor) -> torch.Tensor:
    """Calibration, ranking and retrieval are in float32 or better, whatever the model computes in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
