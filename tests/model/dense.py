"""The idea without any of its speed: one example at a time, every token with keys of its own, one dense mask for all of them.

The encoder runs as published, through transformers' plain attention. What must come out is what `attention_recllm` says in its drawing.
"""

import torch

from recllm.model.modeling_recllm import RecllmModel
from recllm.model.processing_recllm import EVENT, RowProcessor
from recllm.model.rows_recllm import Example


def dense_mask(profile: int, example: Example) -> torch.Tensor:
    """(T, T) true where the token of a row may look at the token of a column: profile, then events, then candidates."""
    total, size = profile + example.size, example.size
    mask = torch.zeros(total, total, dtype=torch.bool)
    mask[:, :profile] = True
    for token in range(size):
        row = profile + token
        mask[row, profile : profile + int(example.n[token])] = True
        if example.kind[token] == EVENT:
            mask[row, row] = True
    return mask


def dense_states(model: RecllmModel, processor: RowProcessor, example: Example) -> torch.Tensor:
    """States (T, W) of profile, events and candidates of one example."""
    batch = processor.collate([example])
    tokens = model.tokens(model.tokens.content(batch["item_vector"], batch["item_id"]), batch)
    words = model.get_input_embeddings()(torch.tensor(example.profile))
    budget, first = model.config.profile_tokens, model.config.first_position
    places = [*range(len(example.profile))]
    places += [budget + (k if k < example.events else int(example.n[k])) for k in range(example.size)]
    out = model.body(inputs_embeds=torch.cat([words, tokens])[None], position_ids=torch.tensor(places)[None] + first,
                     token_type_ids=torch.zeros(1, len(places), dtype=torch.long),
                     attention_mask=dense_mask(len(example.profile), example)[None, None])
    return out.last_hidden_state[0]
