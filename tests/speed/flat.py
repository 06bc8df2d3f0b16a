"""The flat text cross-encoder, as fair as it can be: what anybody builds who puts history and candidate into one text.

MiniLM with LoRA on every linear layer. Scoring: LoRA merged, inference mode, 512 real tokens without padding, so no mask, so that sdpa
may take its fastest kernel (flash attention on CUDA), the best of four batch sizes. Training: LoRA as it is, forward, backward and a step
of AdamW (fused on CUDA). bfloat16 on CUDA. Token ids lie ready: tokenising is not counted.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits

from recllm.model.lora_recllm import merge_layers
from tests.speed.encoder import add_lora, bare, plain_of
from tests.speed.matmul import Shape, precision
from tests.speed.rounds import paired, timed

TOKENS = 512
SCORING_SIZES, TRAINING_SIZES = (1, 8, 16, 32), (1, 8, 16)
DROPOUT = 0.1  # of hidden states in training, as recllm's


class FlatEncoder(nn.Module):
    """Token ids (B, T) -> logits (B,) of a click, from the state of [CLS]."""

    def __init__(self, encoder: nn.Module, lora: bool = True, dropout: float = DROPOUT) -> None:
        """A copy of `encoder`'s weights; `encoder` stays as it is."""
        super().__init__()
        body = bare(plain_of(encoder), dropout)
        body.load_state_dict(encoder.state_dict(), strict=False)  # a pooler is left out
        body.requires_grad_(False)
        self.body = add_lora(body) if lora else body
        self.head = nn.Linear(encoder.config.hidden_size, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(input_ids=ids).last_hidden_state[:, 0]).squeeze(-1)

    def merged(self) -> "FlatEncoder":
        """Itself with LoRA added to the weights, for inference."""
        merge_layers(self.body)
        return self.eval()


def _kernel(device: torch.device) -> AbstractContextManager[Any]:
    """Flash attention on CUDA, an error where it cannot be had; the CPU's sdpa is flash attention already."""
    return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if device.type == "cuda" else nullcontext()


class FlatScoring:
    """Rounds of scoring. `ids` (k, 512) are the texts, taken from the start again when they end."""

    def __init__(self, encoder: nn.Module, ids: torch.Tensor, device: torch.device) -> None:
        self.device = device
        self.model = FlatEncoder(encoder).merged().to(device, precision(device))
        self.ids = ids.to(device)
        config = encoder.config
        self.flop = Shape(config.num_hidden_layers, config.hidden_size, config.intermediate_size).flat(ids.shape[1])

    @torch.inference_mode()
    def round(self, size: int, repeats: int = 1) -> tuple[float, float]:
        """(seconds, candidates scored) of `repeats` batches."""
        ids = self.ids.repeat(-(-size // len(self.ids)), 1)[:size]
        with _kernel(self.device):
            return timed(lambda: self.model(ids), self.device, repeats), float(size * repeats)


class FlatTraining:
    """Rounds of training, on texts `ids` (k, 512) and their clicks (k,)."""

    def __init__(self, encoder: nn.Module, ids: torch.Tensor, clicks: torch.Tensor, device: torch.device) -> None:
        self.device = device
        self.model = FlatEncoder(encoder).to(device, precision(device)).train()
        self.ids, self.clicks = ids.to(device), clicks.to(device, precision(device))
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")

    def _step(self, size: int) -> None:
        repeat = -(-size // len(self.ids))
        ids, clicks = self.ids.repeat(repeat, 1)[:size], self.clicks.repeat(repeat)[:size]
        binary_cross_entropy_with_logits(self.model(ids), clicks).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def round(self, size: int, repeats: int = 1) -> tuple[float, float]:
        """(seconds, impressions trained on) of `repeats` steps."""
        with _kernel(self.device):
            return timed(lambda: self._step(size), self.device, repeats), float(size * repeats)


def best_size(side: FlatScoring | FlatTraining, sizes: tuple[int, ...], enough: int) -> tuple[int, dict[int, float]]:
    """(fastest batch size, items a second of each): medians of two paired rounds of at least `enough` items each."""
    found = paired({str(size): partial(side.round, size, max(1, enough // size)) for size in sizes}, 2)
    rates = {size: found.rate(str(size)) for size in sizes}
    return max(rates, key=lambda size: rates[size]), rates
