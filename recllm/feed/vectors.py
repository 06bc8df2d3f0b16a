"""Item vectors of the frozen tower, computed once and kept beside the run under a key of everything that decides them."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from recllm.model.files_recllm import whole_file
from recllm.model.modeling_recllm import RecllmModel

BATCH = 64


def _key(model: RecllmModel, tokens: list[list[int]]) -> str:
    """Hash of the token ids (text, tokenizer and length together), the tower's weights and the pooling."""
    digest = hashlib.sha256(b"mean pooling, length one")
    for name, weight in sorted(model.tower.state_dict().items()):
        digest.update(name.encode() + weight.cpu().contiguous().numpy().tobytes())
    digest.update(repr(tokens).encode())
    return digest.hexdigest()


def encode(model: RecllmModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int) -> np.ndarray:
    """Texts (n) -> vectors (n, W) float32 of length one; an empty text is the zero vector."""
    vectors = np.zeros((len(texts), model.config.encoder["hidden_size"]), dtype=np.float32)
    order = sorted((i for i, t in enumerate(texts) if t), key=lambda i: len(texts[i]))
    for begin in tqdm(range(0, len(order), BATCH), desc="item vectors", delay=2, leave=False):
        rows = order[begin : begin + BATCH]
        batch = tokenizer([texts[i] for i in rows], truncation=True, max_length=length, padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        vectors[rows] = model.encode_text(ids, mask).float().cpu().numpy()
    return vectors


def cached_vectors(model: RecllmModel, tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, path: Path) -> np.ndarray:
    """`encode`, kept in `path`; a file with another key, or one that cannot be read, is replaced."""
    key = _key(model, [list(t) for t in tokenizer([t or " " for t in texts], truncation=True, max_length=length)["input_ids"]])
    if path.is_file():
        try:
            stored = load_file(path)
        except (SafetensorError, OSError):
            stored = {}
        if key in stored:
            return stored[key]
    vectors = encode(model, tokenizer, texts, length)
    with whole_file(path) as part:
        save_file({key: vectors}, part)
    return vectors
