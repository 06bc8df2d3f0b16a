"""Item vectors of the frozen tower, encoded once per text and kept beside the run, each under a key of its own.

The file has a row for each text asked for last, in that order, so that it is read by mapping it into memory: `key` (n, 16) is a hash of the
row's token ids, `vector` (n, W) what the tower made of them; its header says by which tower. A changed title is one row to encode, other
weights are all of them.
"""

import hashlib
import json
import zlib
from array import array
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from recllm.model.files_recllm import mapped_arrays, whole_file
from recllm.model.modeling_recllm import RecllmModel

BATCH = 64
TOKENISED = 10_000  # texts at a time: a list of Python numbers takes ten times the room of its key
KEY = 16  # bytes: two of 10^9 texts share one by a chance of 10^-21


def _tower_key(model: RecllmModel, length: int) -> str:
    """Hash of what makes a vector of token ids: the tower's weights and shape, the pooling, the length at which texts are cut."""
    digest = hashlib.sha256(f"mean pooling, length one, {length} tokens".encode())
    digest.update(json.dumps(model.config.encoder, sort_keys=True).encode())
    for name, weight in sorted(model.tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _text_keys(tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int) -> list[bytes]:
    """A hash of each text's token ids, that is of text, tokenizer and cut together; of no ids at all for an empty text."""
    keys = []
    for begin in range(0, len(texts), TOKENISED):
        part = texts[begin : begin + TOKENISED]
        tokens = tokenizer(part, truncation=True, max_length=length, return_attention_mask=False, return_token_type_ids=False)["input_ids"]
        keys += [hashlib.blake2b(array("i", ids if text else []).tobytes(), digest_size=KEY).digest()
                 for text, ids in zip(part, tokens, strict=True)]
    return keys


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
    """`encode`, kept in `path`: only texts that are not in it are encoded, equal ones once. The result is mapped from the file.

    A file that another tower made, that is cut off or damaged, or that is something else is replaced. Processes that do this at once each
    write a whole file and go on with their own, whichever of them stays.
    """
    tower, keys = _tower_key(model, length), _text_keys(tokenizer, texts, length)
    wanted = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY)
    width = int(model.config.encoder["hidden_size"])
    key, vector = _stored(path, tower, width)
    if len(key) and np.array_equal(key, wanted):
        return vector
    known = key.tobytes()
    row_of = {known[KEY * row : KEY * (row + 1)]: row for row in range(len(key))}
    new: dict[bytes, str] = {}
    for name, text in zip(keys, texts, strict=True):
        if name not in row_of:
            new.setdefault(name, text)
    row_of |= {name: len(key) + place for place, name in enumerate(new)}
    fresh = encode(model, tokenizer, list(new.values()), length)
    rows = np.array([row_of[name] for name in keys], dtype=np.int64)
    vectors, old = np.empty((len(texts), width), dtype=np.float32), rows < len(key)
    vectors[old], vectors[~old] = vector[rows[old]], fresh[rows[~old] - len(key)]
    with whole_file(path) as part:
        save_file({"key": wanted, "vector": vectors}, part, {"tower": tower, "checksum": _checksum(wanted, vectors)})
        return mapped_arrays(part)["vector"]  # before it gets its name: from then on another process may put its own there


def _stored(path: Path, tower: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys (n, KEY), vectors (n, W)) of a file that this tower made and that is as it was written; n is 0 for any other."""
    nothing = np.zeros((0, KEY), dtype=np.uint8), np.zeros((0, width), dtype=np.float32)
    if not path.is_file():
        return nothing
    try:
        with safe_open(path, framework="np") as file:
            said = file.metadata() or {}
        if said.get("tower") != tower:
            return nothing
        found = mapped_arrays(path)
        key, vector = found["key"], found["vector"]
    except (SafetensorError, OSError, KeyError, TypeError):  # cut off, no such file at all, or with other parts in it
        return nothing
    fits = key.shape == (len(vector), KEY) and vector.shape == (len(key), width) and (key.dtype, vector.dtype) == (np.uint8, np.float32)
    return (key, vector) if fits and said.get("checksum") == _checksum(key, vector) else nothing


def _checksum(key: np.ndarray, vector: np.ndarray) -> str:
    """Of all that a file holds: a disk that was full or a machine that stopped leaves zeros behind, and those are vectors too."""
    return f"{zlib.crc32(vector.data, zlib.crc32(key.data)):08x}"
