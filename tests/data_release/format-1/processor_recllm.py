"""The processor of a release: what was fitted, the catalogue, the item counts and the tokenizer, saved and loaded as one."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import FeatureExtractionMixin, PreTrainedTokenizerFast
from transformers.utils import cached_file

from .catalogue_recllm import ItemCounts, ItemTable
from .errors_recllm import ReleaseError
from .processing_recllm import RowProcessor
from .relations_recllm import Relations

FORMAT = 1  # of the files below; another number is another layout
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

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write the processor's files into a folder. Tables go beside the JSON, not into it."""
        if push_to_hub:
            raise ReleaseError("push a whole release with Recommender.push_to_hub: a processor alone is of no use")
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        plain = {"format": FORMAT, "spec": self.rows.spec, "recommend": self.recommend}
        (folder / "processor_spec.json").write_text(json.dumps(plain, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        self.rows.items.save(folder)
        self.rows.counts.save(folder)
        if self.rows.relations is not None:
            self.rows.relations.save(folder)
        self.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        auto = {name: "processor_recllm.RecllmProcessor" for name in ("AutoFeatureExtractor", "AutoProcessor")}
        head = {"feature_extractor_type": "RecllmProcessor", "auto_map": auto}
        (folder / "preprocessor_config.json").write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")
        return [str(folder / name) for name in (*FILES, "preprocessor_config.json")]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "RecllmProcessor":  # type: ignore[override]
        """Read a release from a folder or the Hub, every file at the same revision. Raises ReleaseError naming a missing one."""
        hub = {k: kwargs[k] for k in ("cache_dir", "force_download", "local_files_only", "token", "revision") if kwargs.get(k) is not None}

        def file(name: str) -> Path:
            try:
                return Path(str(cached_file(str(pretrained_model_name_or_path), name, **hub)))
            except OSError as error:
                raise ReleaseError(f"{pretrained_model_name_or_path}: expected {name} of a release, found none: {error}") from None

        paths = {name: file(name) for name in FILES}
        plain = json.loads(paths["processor_spec.json"].read_text(encoding="utf-8"))
        if plain.get("format") != FORMAT:
            where = paths["processor_spec.json"]
            raise ReleaseError(f"{where}: expected format {FORMAT}, found {plain.get('format')}: use the version that wrote it")
        items = ItemTable.load(paths["catalogue.safetensors"], paths["catalogue.jsonl"])
        relations = Relations.load(file("relations.safetensors")) if plain["spec"]["schema"].get("relations") else None
        rows = RowProcessor(plain["spec"], items, ItemCounts.load(paths["item_counts.safetensors"]), relations)
        return cls(rows, PreTrainedTokenizerFast(tokenizer_file=str(paths["tokenizer.json"])), plain["recommend"])
