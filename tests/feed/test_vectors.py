"""The cache of item vectors: what is encoded again and what is not, and that no file is trusted that is not as it was written."""

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from recllm.feed.vectors import cached_vectors, encode

TEXTS = ["title: alien", "title: heat", "", "title: alien", "title: a much longer title; genres: war"]


@pytest.fixture
def counted(made, monkeypatch):
    """(vectors of texts by way of a file, how many texts each call of the encoder had)"""
    calls, plain = [], made.model.encode_text
    monkeypatch.setattr(made.model, "encode_text", lambda ids, mask: calls.append(len(ids)) or plain(ids, mask))

    def vectors(texts, path, length=16):
        calls.clear()
        return cached_vectors(made.model, made.tokenizer, texts, length, path), sum(calls)

    return vectors


def test_vectors_are_those_of_the_encoder_and_equal_texts_are_encoded_once(made, counted, tmp_path):
    found, encoded = counted(TEXTS, tmp_path / "v.safetensors")
    assert encoded == 3 and found.dtype == np.float32
    np.testing.assert_allclose(found, encode(made.model, made.tokenizer, TEXTS, 16), atol=1e-6)
    assert (found[0] == found[3]).all() and not found[2].any()  # no text is the zero vector


def test_what_is_in_the_file_comes_back_bit_for_bit(counted, tmp_path):
    # given
    first, _ = counted(TEXTS, tmp_path / "v.safetensors")
    first = first.copy()
    # when asked for again, in another order, and for fewer and fewer
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 4, 0], [1]):
        found, encoded = counted([TEXTS[i] for i in order], tmp_path / "v.safetensors")
        assert encoded == 0 and found.tobytes() == first[order].tobytes()


def test_a_changed_title_encodes_one_row_and_new_items_their_own(counted, tmp_path):
    path = tmp_path / "v.safetensors"
    first = counted(TEXTS, path)[0].copy()
    changed, encoded = counted([TEXTS[0], "title: heat 2", *TEXTS[2:]], path)
    assert encoded == 1
    assert changed[[0, 2, 3, 4]].tobytes() == first[[0, 2, 3, 4]].tobytes() and (changed[1] != first[1]).any()
    more, encoded = counted([TEXTS[0], "title: heat 2", *TEXTS[2:], "title: new", "title: newer"], path)
    assert encoded == 2 and more[:5].tobytes() == changed.tobytes()


def test_other_weights_or_another_length_encode_all(made, counted, tmp_path):
    path = tmp_path / "v.safetensors"
    counted(TEXTS, path)
    assert counted(TEXTS, path, length=12)[1] == 3
    weight = next(made.model.tower.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.view(-1)[0] += 0.5
    try:
        assert counted(TEXTS, path, length=12)[1] == 3
    finally:
        with torch.no_grad():
            weight.copy_(before)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def zeroed(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-64] + bytes(64))


def of_another_key(path: Path) -> None:
    found = load_file(path)
    found["key"][0] += 1
    save_file(found, path)  # without a header of whose it is


def of_an_earlier_version(path: Path) -> None:
    save_file({"0f" * 32: load_file(path)["vector"]}, path)


def of_other_arrays(path: Path) -> None:
    save_file({"weight": np.ones((3, 3))}, path, {"tower": "x"})


@pytest.mark.parametrize("damage", [cut_off, zeroed, of_another_key, of_an_earlier_version, of_other_arrays,
                                    lambda path: path.write_bytes(b"no such file"), lambda path: path.write_bytes(b"")])  # fmt: skip
def test_a_torn_or_foreign_file_is_replaced(counted, tmp_path, damage):
    # given a whole file, and then one that is not
    path = tmp_path / "v.safetensors"
    first = counted(TEXTS, path)[0].copy()
    damage(path)
    # then everything is encoded again, once
    found, encoded = counted(TEXTS, path)
    assert encoded == 3 and found.tobytes() == first.tobytes()
    assert counted(TEXTS, path)[1] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]


def test_the_result_lies_on_the_file_and_writing_into_it_does_not_change_the_file(counted, tmp_path):
    path = tmp_path / "v.safetensors"
    for _ in range(2):  # written, and read
        found, _ = counted(TEXTS, path)
        assert any(low <= found.ctypes.data < high for low, high in mapped(path))
    before = path.read_bytes()
    found[:] = 7.0
    assert path.read_bytes() == before and counted(TEXTS, path)[1] == 0


def mapped(path: Path) -> list[tuple[int, int]]:
    """Where in this process's memory a file is mapped."""
    inode = f" {path.stat().st_ino} "
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if inode in line]
    return [tuple(int(part, 16) for part in line.split()[0].split("-")) for line in lines]


class Letters:
    """A tower and a tokenizer in one that need no model: a text's ids are its letters, its vector their sums."""

    def __init__(self) -> None:
        self.config, self.device = SimpleNamespace(encoder={"hidden_size": 3}), "cpu"
        self.tower = SimpleNamespace(state_dict=dict)

    def __call__(self, texts, max_length, return_tensors=None, **_):
        ids = [[ord(c) for c in text][:max_length] for text in texts]
        if return_tensors is None:
            return {"input_ids": ids}
        longest = max(map(len, ids))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": (padded > 0).long()}

    def encode_text(self, ids, mask):
        return torch.stack([ids.sum(1), (ids**2).sum(1), mask.sum(1)], dim=1).float()


def ask_often(path: Path, names: list[str]) -> None:
    """What one of several processes does: other texts each time, of which each is checked."""
    letters, rng = Letters(), np.random.default_rng(len(names[0]))
    for _ in range(60):
        texts = [names[i] for i in rng.integers(0, len(names), 40)]
        found = cached_vectors(letters, letters, texts, 9, path)
        assert (found == encode(letters, letters, texts, 9)).all()


def test_two_processes_at_once_never_spoil_each_others_vectors(tmp_path):
    # given two processes that keep different texts in one file
    context, path = multiprocessing.get_context("spawn"), tmp_path / "v.safetensors"
    both = [context.Process(target=ask_often, args=(path, [f"{mark}{k}" for k in range(50)])) for mark in ("item ", "other ")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    # then each always had its own, and the file that is left is whole
    assert [process.exitcode for process in both] == [0, 0]
    letters = Letters()
    texts = [f"item {k}" for k in range(50)]
    assert (cached_vectors(letters, letters, texts, 9, path) == encode(letters, letters, texts, 9)).all()
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors"]
