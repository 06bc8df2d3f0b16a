"""recllm's side of what is measured: with ours_loss.py the only file here that knows the model's interface.

Every method does one piece of work and returns (seconds, units) as `rounds.paired` wants it. `score`, `extend` and `recompute` begin with
tensors, as the flat encoder begins with token ids; `train_round` and `request` begin with rows of the log, so that features, batches and
copies to the device are paid for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from recllm.model.configuration_recllm import RecllmConfig
from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processing_recllm import Example
from recllm.model.timeline_recllm import visible, window_start
from tests.speed.encoder import merge_lora, plain_of
from tests.speed.fitted import BINARY, OUTCOMES
from tests.speed.matmul import Shape, context_keys, precision
from tests.speed.movielens import Movielens, Scored
from tests.speed.ours_loss import loss_of
from tests.speed.rounds import timed

BLOCK = 1024  # candidates of one call
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
    blocks: list[dict[str, torch.Tensor]]
    events: int
    seen: list[int]  # keys that each context token sees
    candidates: int


class Ours:
    """recllm with a body of so many layers, over the timelines of `data`. `user` has the history that is scored against."""

    def __init__(self, data: Movielens, encoder: nn.Module, layers: int, device: torch.device, user: int, windows: int = WINDOWS) -> None:
        self.data, self.device, self.user, self.dtype = data, device, user, precision(device)
        config = config_of(data, encoder, layers)
        self.served, self.trained = self._model(config, encoder), self._model(config, encoder)
        merge_lora(self.served.body)
        self.served.eval()
        self.trained.train()
        own = [p for p in self.trained.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(own, lr=1e-4, fused=device.type == "cuda")
        self.windows = data.windows(windows)
        self.examples = [data.build(*window).example for window in self.windows]
        plain = plain_of(encoder)
        self.shape = Shape(layers, plain["hidden_size"], plain["intermediate_size"])
        self.asked: dict[tuple[int, int], Asked] = {}
        self.kept: dict[int, Any] = {}  # prefixes by number of events

    def _model(self, config: RecllmConfig, encoder: nn.Module) -> RecllmModel:
        model = RecllmModel(config)
        model.load_encoder(encoder)
        nn.Module.to(model, self.device, self.dtype)
        return model

    # ---- tensors

    def _batch(self, examples: list[Example]) -> dict[str, torch.Tensor]:
        """Collated, on the device, in its precision."""
        batch = self.data.processor.collate(examples)
        moved = {name: value if name == "events" else value.to(self.device, non_blocking=True) for name, value in batch.items()}
        return {name: value.to(self.dtype) if value.is_floating_point() else value for name, value in moved.items()}

    def _blocks(self, example: Example) -> list[dict[str, torch.Tensor]]:
        """The candidates of an example of one request, without its query token."""
        places = range(example.events, example.size - 1, BLOCK)
        return [self._batch([example.part(np.arange(k, min(k + BLOCK, example.size - 1)), 0)]) for k in places]

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
            self.asked[candidates, n] = Asked(context, self._blocks(example), example.events, seen, candidates)
        return self.asked[candidates, n]

    def prefix(self, n: int) -> Any:
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
            past = ready if cached else self.served.prefix(asked.context)
            for block in asked.blocks:
                self.served.heads(self.served.after(past, block, start=asked.events)[0])

        return timed(run, self.device, repeats), float(candidates * repeats)

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
            past = ready
            if past is None:
                past = self.served.prefix(self._batch([example.part(np.arange(example.events), example.events)]))
            click = []
            for block in self._blocks(example):
                raw = self.served.heads(self.served.after(past, block, start=example.events)[0])
                click.append(self.served.heads.predictions(raw, "duration")["click"].flatten())
            torch.cat(click).topk(min(TOP, candidates)).indices.cpu()

        return timed(run, self.device), float(candidates)

    # ---- the prefix

    @torch.inference_mode()
    def extend(self, n: int, repeats: int = 20) -> tuple[float, float]:
        """(seconds, extensions) of the cached window of n events by one more."""
        start = self._start(n)
        whole = self.data.events(self.user, start, n + 1)
        batch, past = self._batch([whole.part(np.array([n - start]), 1)]), self.prefix(n)
        return timed(lambda: self.served.after(past, batch, start=n - start), self.device, repeats), float(repeats)

    @torch.inference_mode()
    def recompute(self, n: int, repeats: int = 3) -> tuple[float, float]:
        """(seconds, prefixes) of computing the same n + 1 events anew."""
        batch = self._batch([self.data.events(self.user, self._start(n), n + 1)])
        return timed(lambda: self.served.prefix(batch), self.device, repeats), float(repeats)

    def _start(self, n: int) -> int:
        """First event of the window before the extension, which is where the window stays unless the new event moves it."""
        return int(window_start(n, self.data.processor.spec["stride"], self.data.processor.spec["overlap"]))

    def prefix_bytes(self, n: int) -> int:
        """Bytes of a cached prefix."""
        return sum(part.nbytes for pair in self.prefix(n) for part in pair)

    # ---- training

    def plan(self, budget: int) -> list[list[int]]:
        """Places of the windows of each batch of at most `budget` padded tokens, by length, as recllm/feed/batches.py plans them."""
        sizes = [(x.events, x.size - x.events) for x in self.examples]
        room = int(self.data.processor.spec["profile_tokens"])
        batches: list[list[int]] = [[]]
        for k in sorted(range(len(sizes)), key=lambda k: sum(sizes[k])):
            wider = [max(part) for part in zip(*(sizes[j] for j in [*batches[-1], k]), strict=True)]
            if batches[-1] and (len(batches[-1]) + 1) * (sum(wider) + room) > budget:
                batches.append([])
            batches[-1].append(k)
        return batches

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

    def collate_round(self, budget: int) -> tuple[float, float]:
        """(seconds, events) from built examples to the tensors of their batches; candidates are carried along uncounted."""
        collate = self.data.processor.collate
        seconds = timed(lambda: [collate([self.examples[k] for k in places]) for places in self.plan(budget)], torch.device("cpu"))
        return seconds, float(sum(x.events for x in self.examples))

    def padding(self, budget: int) -> float:
        """Share of a batch's tokens that are padding, over all batches of a pass."""
        batches = [self.data.processor.collate([self.examples[k] for k in places]) for places in self.plan(budget)]
        real = sum(int((b["kind"] >= 0).sum() + b["profile_mask"].sum()) for b in batches)
        return 1 - real / sum(b["kind"].numel() + b["profile_mask"].numel() for b in batches)
