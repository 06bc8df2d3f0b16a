"""The processor of a release: what was fitted, the catalogue, the item counts and the tokenizer, saved and loaded as one."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import FeatureExtractionMixin, PreTrainedTokenizerFast

from .catalogue_recllm import ItemCounts, ItemTable
from .errors_recllm import ReleaseError
from .manifest_recllm import AGAIN, FORMAT, HUB, MANIFEST, ReleaseFiles, reading, write_manifest
from .processing_recllm import RowProcessor
from .relations_recllm import Relations

FILES = ("processor_spec.json", "catalogue.safetensors", "catalogue.jsonl", "item_counts.safetensors", "tokenizer.json")


class RecllmProcessor(FeatureExtractionMixin):
    """`rows` turns rows into tensors and owns the catalogue; `recommend` are the release's ranking settings."""

    def __init__(self, rows: RowProcessor, tokenizer: PreTrainedTokenizerFast, recommend: dict[str, Any]) -> None:
        super().__init__()
        self.rows, self.tokenizer, self.recommend = rows, tokenizer, recommend

    def __repr__(self) -> str:
        return f"RecllmProcessor({len(self.rows.items)} items, outcomes {list(self.rows.spec['schema']['outcomes'])})"

    # ---- text

    def tokenize(self, text: str, length: int) -> list[int]:
        """Token ids of a text, [CLS] and [SEP] included, at most `length`."""
        return list(self.tokenizer(text, truncation=True, max_length=length)["input_ids"])

    def batch_texts(self, texts: list[str], length: int) -> dict[str, torch.Tensor]:
        """`input_ids` and `attention_mask` (n, t), padded on the right."""
        found = [self.tokenize(text, length) for text in texts]
        width, pad = max(map(len, found)), int(self.rows.spec["pad_token"])
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in found])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in found])
        return {"input_ids": ids, "attention_mask": mask}

    # ---- files

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, counts: str = "full", **kwargs: Any) -> list[str]:
        """Write the processor's files and a manifest into a folder. Tables go beside the JSON, not into it; `counts` as in
        `ItemCounts.thinned`."""
        if push_to_hub:
            raise ReleaseError("push a whole release with Recommender.push_to_hub: a processor alone is of no use")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"format": FORMAT, "spec": self.rows.spec, "recommend": self.recommend}
        (folder / "processor_spec.json").write_text(json.dumps(plain, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        self.rows.items.save(folder)
        self.rows.counts.thinned(counts, self.rows.recent.values()).save(folder)
        if self.rows.relations is not None:
            self.rows.relations.save(folder)
        self.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        auto = {name: "processor_recllm.RecllmProcessor" for name in ("AutoFeatureExtractor", "AutoProcessor")}
        head = {"feature_extractor_type": "RecllmProcessor", "auto_map": auto}
        (folder / "preprocessor_config.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        write_manifest(folder)
        return [str(folder / name) for name in (*FILES, "preprocessor_config.json", MANIFEST)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "RecllmProcessor":  # type: ignore[override]
        """Read a release from a folder or the Hub, every file at the same revision and checked by the manifest. Raises ReleaseError naming
        a missing, changed or malformed one."""
        files = ReleaseFiles(pretrained_model_name_or_path, **{name: kwargs[name] for name in HUB if name in kwargs})
        where = files.path("processor_spec.json")
        with reading(where):
            plain = json.loads(where.read_text(encoding="utf-8"))
            files.checked(plain["format"], where)
            spec, recommend = plain["spec"], dict(plain["recommend"])
            related = bool(spec["schema"].get("relations"))
        paths = {name: files.path(name) for name in FILES}
        items = ItemTable.load(paths["catalogue.safetensors"], paths["catalogue.jsonl"])
        counts = ItemCounts.load(paths["item_counts.safetensors"])
        relations = None
        if related:
            path = files.path("relations.safetensors")
            with reading(path):
                relations = Relations.load(path)
        with reading(where):
            rows = RowProcessor(spec, items, counts, relations)
            _agree(rows, where.parent)
        with reading(paths["tokenizer.json"]):
            try:
                tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(paths["tokenizer.json"]))
            except Exception as error:  # tokenizers raises no narrower one
                raise ReleaseError(f"{paths['tokenizer.json']}: expected a tokenizer, found none ({error}): {AGAIN}") from None
        return cls(rows, tokenizer, recommend)


def _agree(rows: RowProcessor, folder: Path) -> None:
    """Raise ReleaseError where the tables of a release do not fit each other."""
    items, counts = rows.items, rows.counts
    numbers = len(rows.number_names())
    pairs = [("processor_spec.json: numbers in mean", numbers, len(rows.mean)),
             ("processor_spec.json: numbers in std", numbers, len(rows.std)),
             ("catalogue.safetensors: numbers of an item", 2 * len(rows.spec["item_numbers"]), items.num.shape[1]),
             ("catalogue.safetensors: counted categories", len(rows.categories), items.share.shape[1]),
             ("item_counts.safetensors: sums of a row", 1 + 2 * len(rows.counters.outcomes), counts.sums.shape[1])]
    for what, expected, found in pairs:
        if expected != found:
            raise ReleaseError(f"{folder}/{what}: expected {expected} as processor_spec.json says, found {found}: {AGAIN}")
    if len(counts.row) and not 0 <= int(counts.row.min()) <= int(counts.row.max()) < max(len(items), 1):
        raise ReleaseError(f"{folder}/item_counts.safetensors: expected rows of the {len(items)} items, found others: {AGAIN}")
