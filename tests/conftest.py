"""What every test shares: no network, fixed seeds, small logs written by hand."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported anywhere
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from recllm.config import Config  # noqa: E402

# Every run of CI draws the same examples, and a busy machine is no failure. `scripts/test --hypothesis-profile explore` draws others.
settings.register_profile("recllm", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("recllm")

SCHEMA: dict[str, Any] = {
    "user": "user_id", "item": "item_id", "time": "ts", "request": "request_id",
    "context": {"device": {}, "place": {"kind": "place"}, "temperature": {"kind": "number"}},
    "outcomes": {"click": {"kind": "binary"}, "purchase": {"kind": "binary", "given": "click"},
                 "duration": {"kind": "duration", "clip": 600}},
}  # fmt: skip
HEADER = "user_id,item_id,ts,request_id,device,place,temperature,click,purchase,duration"


LONGEST_FIRST = ("test_survival.py", "test_append.py", "test_quality.py", "test_processes.py")  # or one worker ends minutes after the other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST_FIRST)


@pytest.fixture(autouse=True)
def _runs(tmp_path, monkeypatch):
    """Everything a test makes lies in its own folder."""
    monkeypatch.setenv("RECLLM_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def shop(tmp_path) -> Callable[..., Config]:
    """shop(csv text, section=...) -> a validated Config over that log."""

    def make(log: str, *, name: str = "log.csv", schema: Any = None, items: str = "", users: str = "", **data: Any) -> Config:
        def put(file: str, text: str) -> Path:
            path = tmp_path / file
            path.write_text(text, encoding="utf-8")
            return path

        extra = {"items": str(put("items.jsonl", items))} if items else {}
        extra |= {"users": str(put("users.jsonl", users))} if users else {}
        plain = {"name": "shop", "schema": {**SCHEMA, **(schema or {})},
                 "data": {"interactions": str(put(name, log)), "workers": 1, "shards": 2, **extra, **data}}
        return Config.model_validate(json.loads(json.dumps(plain)))

    return make


def small_log(users: int = 6, events: int = 12) -> str:
    """A clean CSV log: both labels for every outcome, hours apart, two items a request."""
    lines = [HEADER]
    for user in range(users):
        for event in range(events):
            moment = 1_700_000_000 + event * 7_200 + user * 60
            for item in ((event + user) % 7, (event + user + 3) % 7):
                click = (user + item) % 3 % 2
                lines.append(f"u{user},i{item},{moment},r{user}-{event},{'tv' if event % 2 else 'mobile'},Oslo,{event}.5,{click},"
                             f"{int(click and event % 3 == 0)},{item * 10}")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> str:
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny-encoder"))


def write_tiny_encoder(folder: Path) -> str:
    """A random BERT of two layers, 32 wide, with a WordPiece vocabulary of letters: real code, no download."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz0123456789:;,.-"]
    words += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    vocabulary = {w: i for i, w in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
                            mask_token="[MASK]").save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                        max_position_embeddings=96)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return str(folder)


def stir(model) -> None:
    """Random values everywhere a fresh model has zeros (LoRA, ids, calibration): a forgotten part would show."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.tokens.ids.weight[0] = 0
        model.heads.scale.add_(0.3)
        model.heads.bias.add_(0.1)


@pytest.fixture(scope="session")
def made(tiny_encoder, tmp_path_factory):
    """One prepared log and one model with no zero weight in it, made once for all tests of the model."""
    from recllm.data.prepare import prepare
    from recllm.feed.log import load_log
    from recllm.training.setup import setup
    from tests.worlds import rich_config

    folder = tmp_path_factory.mktemp("rich")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECLLM_RUNS", str(folder / "runs"))
        config = rich_config(folder, tiny_encoder)
        prepare(config)
        ready = setup(config, load_log(config))
    stir(ready.model)
    ready.model.eval()
    return ready
