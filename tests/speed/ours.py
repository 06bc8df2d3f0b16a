"""recllm's side of what is measured: with ours_loss.py the only file here that knows the model's interface.

Every method does one piece of work and returns (seconds, units) as `rounds.paired` wants it. `score`, `extend` and `recompute` begin with
tensors, as the flat encoder begins with token ids; `train_round` and `request` begin with rows of the log, so that features, batches and
copies to the device are paid for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from recllm.model.configuration_recllm import RecllmConfig
from recllm.model.engine_recllm import BLOCK
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.packing_recllm import padded, plan
from recllm.model.prefix_recllm import Prefix
from recllm.model.processing_recllm import Example
from recllm.model.timeline_recllm import visible
from tests.speed.encoder import plain_of
from tests.speed.fitted import BINARY, OUTCOMES
from tests.speed.matmul import Shape, context_keys, precision
from tests.speed.movielens import Movielens, Scored
from tests.speed.ours_loss import loss_of
from tests.speed.rounds import timed

WINDOWS = 64  # training examples of a round, about 5,000 impressions
TOP = 10


def config_of(data: Movielens, encoder: nn.Module, layers: int) -> RecllmConfig:
    """The shipped settings (configs/movielens.yaml) at this depth."""
    processor = data.processor
    given = {name: str(OUTCOMES[name]["given"]) for name in BINARY if OUTCOMES[name]["given"]}
    slots = [*processor.by_group["context"], *processor.by_group["time"]]
    return RecllmConfig.checked(
        encoder=plain_of(encoder), encoder_name="MiniLM", layers=layers, table_size=processor.table_size,
        token_numbers=len(processor.number_names()), item_numbers=processor.items.num.shape[1],
        context_slots=sum(slot.width for slot in slots), item_ids=1 + int(processor.items.id_row.max()), binary=BINARY, given=given,
        duration="duration", item_id_dropout=0.5, profile_tokens=processor.spec["profile_tokens"], stride=processor.spec["stride"],
        overlap=processor.spec["overlap"])


@dataclass
class Asked:
    """One user's request after n events, as tensors: its context, and its candidates in blocks."""

    context: dict[str, torch.Tensor]
    opening: dict[str, torch.Tensor]  # the context and the first block
    blocks: list[dict[str, torch.Tensor]]
    events: int
    seen: list[int]  # keys that each context token sees
    candidates: int


class Ours:
    """recllm with a body of so many layers, over the timelines of `data`. `user` has the history that is scored against."""

    def __init__(self, data: Movielens, encoder: nn.Module, layers: int, device: torch.device, user: int, windows: int = WINDOWS) -> None:
        self.data, self.device, self.user, self.dtype = data, device, user, precision(device)
        config = config_of(data, encoder, layers)
        self.trained = self._model(config, encoder)
        self.served = self._model(config, encoder).eval().for_inference()
        self.trained.train()
        own = [p for p in self.trained.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(own, lr=1e-4, fused=device.type == "cuda")
        self.windows = data.windows(windows)
        self.examples = [data.build(*window).example for window in self.windows]
        plain = plain_of(encoder)
        self.shape = Shape(layers, plain["hidden_size"], plain["intermediate_size"])
        self.asked: dict[tuple[int, int], Asked] = {}
        self.kept: dict[int, Prefix] = {}  # by number of events before the request

    def _model(self, config: RecllmConfig, encoder: nn.Module) -> RecllmModel:
        model = RecllmModel(config)
        model.load_encoder(encoder)
        nn.Module.to(model, self.device, self.dtype)
        return model

    # ---- tensors

    def _batch(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """Collated, on the device, in its precision."""
        batch = self.data.processor.collate(examples)
        moved = {name: value if name == "sizes" else value.to(self.device, non_blocking=True) for name, value in batch.items()}
        return {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in moved.items()}

    def _blocks(self, example: Example, size: int | None = None) -> list[dict[str, torch.Tensor]]:
        """The candidates of an example of one request, without its query token, in blocks of the shipped size unless another is given."""
        candidates = np.arange(example.events, example.size - 1)
        blocks = -(-len(candidates) // (size or BLOCK[self.device.type]))
        return [self._batch([example.part(block, 0)]) for block in np.array_split(candidates, blocks)]

    def _opening(self, example: Example) -> dict[str, torch.Tensor]:
        """Profile and events with the first block of candidates."""
        candidates = example.size - 1 - example.events
        blocks = -(-candidates // BLOCK[self.device.type])
        first = len(np.array_split(np.arange(candidates), blocks)[0])
        return self._batch([example.part(np.arange(example.events + first), example.events)])

    def drawn(self, candidates: int) -> np.ndarray:
        """Item rows: all different as long as the catalogue has so many, the same at every call."""
        return np.resize(np.random.default_rng(0).permutation(len(self.data.processor.items)), candidates)

    def ask(self, candidates: int, n: int) -> Asked:
        """The request's tensors, made once."""
        if (candidates, n) not in self.asked:
            example = self.data.example(self.user, n, self.drawn(candidates))
            window, _ = self.data.window(self.user, n)
            seen = context_keys(len(example.profile), visible(window.time, window.known, window.time).tolist())
            context = self._batch([example.part(np.arange(example.events), example.events)])
            self.asked[candidates, n] = Asked(context, self._opening(example), self._blocks(example), example.events, seen, candidates)
        return self.asked[candidates, n]

    def prefix(self, n: int) -> Prefix:
        """Keys and values of the window that a request after n events uses, made once."""
        if n not in self.kept:
            self.kept[n] = self.served.prefix(self.ask(1, n).context)
        return self.kept[n]

    # ---- scoring

    @torch.inference_mode()
    def score(self, candidates: int, cached: bool, n: int = 100, repeats: int = 1) -> tuple[float, float]:
        """(seconds, candidates scored) from tensors to the logits of all outcomes, the prefix included unless it is cached."""
        asked = self.ask(candidates, n)
        ready = self.prefix(n)

        def run() -> None:
            if cached:
                for block in asked.blocks:
                    self.served.heads(self.served.after(ready, block))
                return
            past, states = self.served.open(asked.opening)
            self.served.heads(states)
            for block in asked.blocks[1:]:
                self.served.heads(self.served.after(past, block))

        return timed(run, self.device, repeats), float(candidates * repeats)

    @torch.inference_mode()
    def blocks(self, size: int, candidates: int = 2048, n: int = 100) -> tuple[float, float]:
        """(seconds, candidates scored) after a cached prefix, in blocks of another size."""
        ready, blocks = self.prefix(n), self._blocks(self.data.example(self.user, n, self.drawn(candidates)), size)
        return timed(lambda: [self.served.heads(self.served.after(ready, block)) for block in blocks], self.device), float(candidates)

    def flop(self, candidates: int, cached: bool, n: int = 100) -> float:
        """Useful operations of one `score`: linear layers of the body and visible keys, no token features, no heads."""
        asked = self.ask(candidates, n)
        own = self.shape.candidates([len(asked.seen)] * candidates)
        return own if cached else own + self.shape.prefix(asked.seen)

    @torch.inference_mode()
    def request(self, candidates: int, cached: bool, n: int = 100) -> tuple[float, float]:
        """(seconds, candidates) from rows of the log to the ten best with calibrated predictions; features and tensors included."""
        ready, items = self.prefix(n) if cached else None, self.drawn(candidates)

        def run() -> None:
            example = self.data.example(self.user, n, items)
            past, states = (ready, []) if ready is not None else self._opened(example)
            blocks = self._blocks(example)[len(states) :]
            states += [self.served.after(past, block) for block in blocks]
            click = [self.served.heads.predictions(self.served.heads(each), "duration")["click"].flatten() for each in states]
            torch.cat(click).topk(min(TOP, candidates)).indices.cpu()

        return timed(run, self.device), float(candidates)

    def _opened(self, example: Example) -> tuple[Prefix, list[torch.Tensor]]:
        past, states = self.served.open(self._opening(example))
        return past, [states]

    # ---- the prefix

    def events(self, begin: int, end: int) -> dict[str, torch.Tensor]:
        """The user's events begin to end in a window that starts at their first one, as long as the encoder's positions last."""
        return self._batch([self.data.events(self.user, 0, end).part(np.arange(begin, end), end - begin)])

    @torch.inference_mode()
    def extend(self, n: int, repeats: int = 20) -> tuple[float, float]:
        """(seconds, extensions) of a cached window of n events, one event after the other; the copy that the first one needs included."""
        begun, batches = self.served.prefix(self.events(0, n)), [self.events(k, k + 1) for k in range(n, n + repeats)]

        def run() -> None:
            prefix = begun
            for batch in batches:
                prefix = self.served.extend(prefix, batch)

        return timed(run, self.device), float(repeats)

    @torch.inference_mode()
    def recompute(self, n: int, repeats: int = 3) -> tuple[float, float]:
        """(seconds, prefixes) of computing the same n + 1 events anew."""
        batch = self.events(0, n + 1)
        return timed(lambda: self.served.prefix(batch), self.device, repeats), float(repeats)

    def prefix_bytes(self, n: int) -> int:
        """Bytes of a cached prefix."""
        return self.prefix(n).bytes

    # ---- training

    def plan(self, budget: int) -> list[list[int]]:
        """Places of the windows of each batch of at most `budget` tokens, in random order as in training."""
        return [batch.tolist() for batch in plan(np.array([x.sizes for x in self.examples]), budget, [0, 0])]

    def train_round(self, budget: int) -> tuple[float, float]:
        """(seconds, impressions trained on) of one pass over the windows: features, batches, forward, backward, clipping, step."""
        plan = self.plan(budget)
        seconds = timed(lambda: [self._step([self.data.build(*self.windows[k]) for k in places]) for places in plan], self.device)
        return seconds, float(sum(len(row) for _, _, row in self.windows))

    def _step(self, scored: list[Scored]) -> None:
        batch = self._batch([x.example for x in scored])
        loss_of(self.trained, self.trained(**batch), batch, scored).backward()
        nn.utils.clip_grad_norm_(self.trained.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def features_round(self, budget: int) -> tuple[float, float]:
        """(seconds, events) from rows of the log to the tensors of batches: features, then collation."""
        collate = self.data.processor.collate
        seconds = timed(lambda: [collate([self.data.build(*self.windows[k]).example for k in places]) for places in self.plan(budget)],
                        torch.device("cpu"))
        return seconds, float(sum(x.events for x in self.examples))

    def collate_round(self, budget: int) -> tuple[float, float]:
        """(seconds, events) from built examples to the tensors of their batches; candidates are carried along uncounted."""
        collate = self.data.processor.collate
        seconds = timed(lambda: [collate([self.examples[k] for k in places]) for places in self.plan(budget)], torch.device("cpu"))
        return seconds, float(sum(x.events for x in self.examples))

    def padding(self, budget: int) -> dict[str, float]:
        """Share of padding among the tokens of a batch, which are what linear layers see, and among the pairs of query and key that its
        attention computes, over all batches of a pass."""
        batches = [self.data.processor.collate([self.examples[k] for k in places]) for places in self.plan(budget)]
        sizes = [batch["sizes"].numpy() for batch in batches]
        real = [float((size.sum(1) * size[:, :2].sum(1)).sum()) for size in sizes]
        computed = sum(padded(size, self.device.type) * pairs for size, pairs in zip(sizes, real, strict=True))
        tokens = sum(len(batch["position"]) for batch in batches)
        return {"tokens": 1 - sum(sum(x.sizes) for x in self.examples) / tokens, "pairs": 1 - sum(real) / computed}
