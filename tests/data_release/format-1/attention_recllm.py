"""Two streams through an unchanged encoder (DESIGN 5): a layout says which keys a call sees, and keeps or supplies them.

The encoder is called as `encoder(inputs_embeds=..., layout=layout)`; transformers hands the keyword to the attention function of
every layer. Keys and values come from profile and events alone, so nothing ever sees a candidate.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "recllm_timeline"
KeyValues = list[tuple[torch.Tensor, torch.Tensor]]


def recllm_timeline(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, layout: Any = None, **kwargs: Any) -> Any:
    """Plain sdpa without a layout. The registry is global and the last release imported wins: this function never changes."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return layout.attend(module, query, key, value, **kwargs)


AttentionInterface.register(NAME, recllm_timeline)
AttentionMaskInterface.register(NAME, sdpa_mask)  # without it the tower's padding mask is dropped in silence


class Layout:
    """Which keys the tokens of one encoder call see.

    `mask` (B, Q, K) is true where a query may look; keys are those of `past` (one pair (B, H, k, d) per layer), then the call's
    first `own` tokens. With `keep`, the pairs are left in `kept`. Layers are told apart by call order (ALBERT shares one module).
    """

    def __init__(self, mask: torch.Tensor, own: int, past: KeyValues | None = None, keep: bool = False) -> None:
        self.mask, self.own, self.past, self.keep = mask.unsqueeze(1), own, past, keep
        self.kept: KeyValues = []
        self.calls = 0

    def attend(self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> Any:
        """(B, H, Q, d) in; (B, Q, H, d) and None out, as transformers wants it."""
        key, value = key[:, :, : self.own], value[:, :, : self.own]
        if self.past is not None:
            before = self.past[self.calls]
            key = torch.cat([before[0].expand(len(key), -1, -1, -1), key], dim=2)
            value = torch.cat([before[1].expand(len(value), -1, -1, -1), value], dim=2)
        if self.keep:
            self.kept.append((key, value))
        self.calls += 1
        dropout = kwargs.get("dropout", 0.0) if module.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=self.mask, dropout_p=dropout, scale=kwargs.get("scaling"))
        return mixed.transpose(1, 2).contiguous(), None

    def check(self, layers: int) -> None:
        """Fail when the encoder dropped the layout in silence, as `set_attn_implementation("sdpa")` makes it do."""
        if self.calls != layers:
            raise RuntimeError(f"expected {layers} attention calls with the layout, found {self.calls}: the encoder's attention "
                               f'implementation must stay "{NAME}"')


def timeline_mask(profile: torch.Tensor, n: torch.Tensor, events: int, own: torch.Tensor) -> torch.Tensor:
    """Mask (B, P + T, P + E) of one call over [profile, T tokens of which the first E are events].

    `profile` (B, P) true where real; `n` (B, T) leading events each token sees; `own` (T,) the event index of each token, -1 for
    candidates, which have no key. Profile tokens see the profile only, so no event can change their states.
    """
    batch, width = profile.shape
    index = torch.arange(events, device=n.device)
    on_events = (index < n[..., None]) | (index == own[:, None])
    tokens = torch.cat([profile[:, None].expand(-1, n.shape[1], -1), on_events], dim=2)
    nothing = torch.zeros(batch, width, events, dtype=torch.bool, device=n.device)
    return torch.cat([torch.cat([profile[:, None].expand(-1, width, -1), nothing], dim=2), tokens], dim=1)
