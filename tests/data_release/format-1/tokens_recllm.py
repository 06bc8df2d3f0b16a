"""Tokens of the timeline: what an event or a candidate is, as one vector on the scale of word embeddings (DESIGN 5)."""

import torch
from torch import nn

from .configuration_recllm import RecllmConfig
from .processing_recllm import QUERY


class Cross(nn.Module):
    """Products of what the item is with the moment, as in factorisation machines (Rendle 2010), in `rank` dimensions."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.item = nn.Linear(width, rank, bias=False)
        self.moment = nn.Linear(width, rank, bias=False)
        self.out = nn.Linear(rank, width, bias=False)

    def forward(self, items: torch.Tensor, index: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        """Items (U, W), the item of each token (B, T), moments (B, T, W) -> (B, T, W)."""
        return self.out(self.item(items)[index] * self.moment(moment))


class TokenEncoder(nn.Module):
    """Item vector, id residual, fields and numbers -> tokens. W is the encoder's width, V that of the item vectors."""

    def __init__(self, config: RecllmConfig, width: int, vector_width: int) -> None:
        super().__init__()
        self.config = config
        self.vector_width = vector_width
        self.project = nn.Linear(vector_width, width)
        self.extra = nn.Linear(config.extra_width, width, bias=False) if config.extra_width else None
        # precomputed vectors come in as far as they help
        self.extra_gate = nn.Parameter(torch.zeros(())) if config.extra_width else None
        self.ids = nn.Embedding(config.item_ids, width, padding_idx=0)
        self.id_gate = nn.Parameter(torch.ones(()))
        self.fields = nn.EmbeddingBag(config.table_size, width, mode="sum", padding_idx=0)
        self.numbers = nn.Linear(config.token_numbers, width)
        self.item_numbers = nn.Linear(config.item_numbers, width) if config.item_numbers else None
        self.texts = nn.ModuleList(nn.Linear(vector_width, width, bias=False) for _ in range(config.text_fields))  # free-text context
        self.mask = nn.Parameter(torch.zeros(width))  # starts as the embedding of [MASK]
        # products of what the item is with the moment: sums of embeddings alone leave every such cross to the layers above
        self.cross = Cross(config.cross_rank, width) if config.cross_rank else None
        self.norm = nn.LayerNorm(width)

    def bag(self, codes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Weighted sums of field embeddings: (..., S) -> (..., W)."""
        flat = self.fields(codes.reshape(-1, codes.shape[-1]), per_sample_weights=weights.reshape(-1, codes.shape[-1]))
        return flat.reshape(*codes.shape[:-1], self.fields.embedding_dim)

    def content(self, vector: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """What an item is, (U, V + extra) and (U,) -> (U, W): project(vector) + gated precomputed vectors + gated id residual, the
        part that retrieval scores.

        Ids are dropped at random in training, so that an item never seen in training (row 0, always zero) is nothing unusual.
        """
        if self.training and self.config.item_id_dropout:
            ids = ids * (torch.rand(len(ids), device=ids.device) >= self.config.item_id_dropout)
        text, extra = vector[:, : self.vector_width], vector[:, self.vector_width :]
        known = self.project(text) + self.id_gate * self.ids(ids)
        if self.extra is None or self.extra_gate is None:
            return known
        return known + torch.tanh(self.extra_gate) * self.extra(extra)

    def forward(self, content: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Tokens (B, T, W). `content` (U, W) of the batch's distinct items, whose row 0 is no item."""
        fields = content + self.bag(batch["item_cat"], batch["item_weight"]) if batch["item_cat"].shape[1] else content
        if self.item_numbers is not None:
            fields = fields + self.item_numbers(batch["item_num"])
        item = fields[batch["item"]]
        said = sum(project(batch["text_vector"])[batch["text"][..., column]] for column, project in enumerate(self.texts))
        moment = self.bag(batch["cat"], batch["weight"]) + said
        query = (batch["kind"] == QUERY)[..., None]
        token = torch.where(query, self.mask.to(item.dtype), item) + moment + self.numbers(batch["num"])
        if self.cross is not None:
            slots = self.config.context_slots
            context = self.bag(batch["cat"][..., :slots], batch["weight"][..., :slots]) + said
            token = token + self.cross(fields, batch["item"], context).masked_fill(query, 0.0)
        return self.norm(token)

    @torch.no_grad()
    def start_from(self, words: torch.Tensor, texts: list[list[int]], mask_token: int) -> None:
        """Start from the encoder's word embeddings (vocabulary, W): every field value from the mean embedding of its own text's
        tokens, the norm from their scale. `texts` are token ids by code of the embedding table, the empty one for padding."""
        centre, spread = words.mean(0), words.std()
        for code, tokens in enumerate(texts):
            self.fields.weight[code] = words[tokens].mean(0) - centre if tokens else 0.0
        self.mask.copy_(words[mask_token])
        self.norm.weight.fill_(float(spread))
        self.norm.bias.copy_(centre)
        self.ids.weight.zero_()
        for layer in (m for m in (self.project, self.numbers, self.item_numbers) if m is not None):
            nn.init.normal_(layer.weight, std=float(spread) / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)
        for layer in (self.project, *self.texts):
            nn.init.normal_(layer.weight, std=float(spread))  # vectors of texts have length one
