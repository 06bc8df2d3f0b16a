"""Two streams through an unchanged encoder (DESIGN 5): who reads whom, and nothing else.

Keys and values come from a profile and its events alone; everything else only asks. Four events of one user, of which the third and
the fourth happened in the same second, and two requests:

      asks \\ is read     profile   event 1   event 2   event 3   event 4
      profile               x         .         .         .         .       its states hold for any timeline
      event 1               x         x         .         .         .
      event 2               x         x         x         .         .
      event 3               x         x         x         x         .       ties do not see each other,
      event 4               x         x         x         .         x       each event sees itself
      candidate, query      x         x         .         .         .       a request before event 2 was known
      candidates            x         x         x         x         x       a request of now: no mask at all

A row is a profile, then the first n events, then, for an event, itself. So no column has a candidate in it: a candidate costs one token,
the candidates of a request need no mask among themselves, their keys and values are not even computed, and those of profile and events
can be kept (`Prefix`) and lengthened by an event. Many users go through one call without padding (`Packed`).

The encoder is called as `encoder(inputs_embeds=..., layout=layout)`; transformers hands the keyword to the attention function of every
layer. Idea: XLNet's two streams (Yang et al. 2019), with keys and values from history alone as in arXiv 2412.06924.
"""

import threading
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from .encoders_recllm import attentions
from .packing_recllm import Part, parts_of
from .prefix_recllm import Prefix

NAME = "recllm_timeline"


def recllm_timeline(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, layout: Any = None, **kwargs: Any) -> Any:
    """Plain sdpa without a layout. The registry is global and the last release imported wins: this function never changes."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return layout.attend(module, query, key, value, **kwargs)


AttentionInterface.register(NAME, recllm_timeline)
AttentionMaskInterface.register(NAME, sdpa_mask)  # without it the tower's padding mask is dropped in silence


class Done(Exception):
    """The last layer's keys and values are kept: nobody reads the states of a prefix, so the rest of the call is left out."""


class Layout(ABC):
    """Who reads whom in one call of the encoder. Keys and values of its first `own` tokens are read; of its first `skip` tokens nobody
    reads a state above the last layer. Layers are told apart by call order (ALBERT shares one module)."""

    def __init__(self, own: int, skip: int = 0) -> None:
        self.own, self.skip, self.calls = own, skip, 0

    @abstractmethod
    def mix(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
        """Queries (1, H, N, d), keys and values (1, H, own, d) -> mixed values (1, N, H, d)."""

    def attend(self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> Any:
        """(1, H, N, d) in; (1, N, H, d) and None out, as transformers wants it."""
        layer, self.calls = self.calls, self.calls + 1
        settings = {"dropout_p": kwargs.get("dropout", 0.0) if module.training else 0.0, "scale": kwargs.get("scaling")}
        return self.mix(layer, query, key[:, :, : self.own], value[:, :, : self.own], **settings), None

    def check(self, layers: int) -> None:
        """Fail when the encoder dropped the layout in silence, as `set_attn_implementation("sdpa")` makes it do."""
        if self.calls != layers:
            raise RuntimeError(f"expected {layers} attention calls with the layout, found {self.calls}: the encoder's attention "
                               f'implementation must stay "{NAME}"')


def see(seen: torch.Tensor, profile: torch.Tensor, width: int, events: int, own: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the scores (..., Q, width + events): 0 where a token may look, else -inf.

    Keys are `width` places for a profile of `profile` (..., 1) tokens, then events. `seen` (..., Q) leading events that a token sees, `own`
    (..., Q) its own place among the events, -1 for none.
    """
    place = torch.arange(width + events, device=seen.device)
    event = place - width
    visible = (place < profile[..., None]) | ((event >= 0) & ((event < seen[..., None]) | (event == own[..., None])))
    return torch.zeros(visible.shape, dtype=dtype, device=seen.device).masked_fill(~visible, float("-inf"))


class Packed(Layout):
    """Whole timelines of many users in one call: [all profiles, all events, all candidates], nothing padded.

    Only inside of the attention examples of like sizes are laid side by side (`parts_of`), each against its own keys.
    """

    def __init__(self, sizes: torch.Tensor, n: torch.Tensor, skip: int = 0) -> None:
        """`sizes` (B, 3) on the CPU: tokens of each example's profile, events, candidates. `n` (E + C,): events that each sees."""
        super().__init__(int(sizes[:, :2].sum()), skip)
        self.seen = torch.cat([n.new_zeros(int(sizes[:, 0].sum())), n])
        self.parts, back = parts_of(sizes.numpy(), n.device.type)
        self.places = [(torch.from_numpy(p.query).to(n.device), torch.from_numpy(p.key).to(n.device)) for p in self.parts]
        self.back = torch.from_numpy(back).to(n.device)
        self.masks: list[torch.Tensor] = []

    def _mask(self, part: Part, query: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """(b, 1, Q, K), the same for all heads and layers."""
        seen, own = self.seen[query].view(part.rows, -1), torch.from_numpy(part.own).to(self.seen.device)
        profile = torch.from_numpy(part.profile).to(self.seen.device)[:, None]
        return see(seen, profile, part.widths[0], part.widths[1], own, dtype)[:, None]

    def mix(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
        if not self.masks or self.masks[0].dtype != query.dtype:
            self.masks = [self._mask(part, places[0], query.dtype) for part, places in zip(self.parts, self.places, strict=True)]
        rows = [x.transpose(1, 2)[0].flatten(1) for x in (query, key, value)]  # (N, W), as the projections made them
        heads, mixed = query.shape[1], []
        for part, places, mask in zip(self.parts, self.places, self.masks, strict=True):
            q, k, v = (x.index_select(0, i).view(part.rows, -1, heads, query.shape[3]).transpose(1, 2)
                       for x, i in zip(rows, (places[0], places[1], places[1]), strict=True))
            mixed.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, **settings).transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed).index_select(0, self.back)[None]


class Growing(Layout):
    """The last `own` tokens of a prefix, whose keys and values are put into it, and then candidates that see all of it, if there are any.
    Without any nobody reads a state."""

    def __init__(self, prefix: Prefix, own: int, mask: torch.Tensor | None) -> None:
        super().__init__(own, own)
        self.prefix, self.mask = prefix, mask

    def mix(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
        self.prefix.write(layer, self.prefix.length - self.own, key, value)
        candidates = query[:, :, self.own :]
        if candidates.shape[2] == 0 and layer + 1 == self.prefix.layers:
            raise Done
        mixed = attend_to(self.prefix, layer, query[:, :, : self.own], self.mask, settings)
        if candidates.shape[2] == 0:
            return mixed
        return torch.cat([mixed, attend_to(self.prefix, layer, candidates, None, settings)], dim=1)


class After(Layout):
    """Candidates after a prefix. Without a mask they see all of it."""

    def __init__(self, prefix: Prefix, mask: torch.Tensor | None) -> None:
        super().__init__(0)
        self.prefix, self.mask = prefix, mask

    def mix(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any) -> torch.Tensor:
        return attend_to(self.prefix, layer, query, self.mask, settings)


def attend_to(prefix: Prefix, layer: int, query: torch.Tensor, mask: torch.Tensor | None, settings: dict[str, Any]) -> torch.Tensor:
    """Queries (1, H, N, d) against a prefix's keys -> (1, N, H, d)."""
    key, value = prefix.read(layer, query.dtype)
    mask = None if mask is None else mask.to(query.dtype)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, **settings).transpose(1, 2)


_calling = threading.local()  # of the attention module that runs in this thread: its layout, and how many tokens it got


def skip_unread(encoder: PreTrainedModel) -> None:
    """Let an encoder project keys and values of a layout's `own` tokens only: a sixth of a candidate's attention and feed-forward work.

    To be called again where modules were replaced. Hooks change no parameter's name; they work in recomputations of checkpointing too,
    because the layout comes with the call.
    """
    for attention, key, value in attentions(encoder):
        attention.register_forward_pre_hook(_note, with_kwargs=True)
        for module in (key, value):
            module.register_forward_pre_hook(_cut)
            module.register_forward_hook(_fill)


def _note(module: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
    _calling.layout = kwargs.get("layout")


def _cut(module: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    layout, hidden = _calling.layout, args[0]
    _calling.tokens = hidden.shape[1]
    return args if layout is None else (hidden[:, : layout.own],)


def _fill(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    """The encoder wants as many keys as tokens: zeros, which no layout reads."""
    missing = _calling.tokens - output.shape[1]
    if output.shape[1] == 0:
        return output.new_zeros(1).expand(len(output), missing, output.shape[2])  # one number in memory
    return pad(output, (0, 0, 0, missing)) if missing else output
