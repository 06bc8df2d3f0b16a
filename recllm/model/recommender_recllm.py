"""A model and its processor as one recommender: predictions for requests, and ranked lists."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers.utils.hub import hf_api

from .errors_recllm import ReleaseError, RequestError, nearest
from .fields_recllm import as_number
from .files_recllm import whole_folder
from .modeling_recllm import RecllmModel
from .processor_recllm import RecllmProcessor
from .requests_recllm import Prepared, RequestReader
from .strategy_recllm import STRATEGIES, best, scores

TOKENS = 16_384  # padded tokens of one encoder call
OPTIONS = ("strategy", "weights", "outcome", "value", "retrieve")
AUTO_MAP = {"AutoConfig": "configuration_recllm.RecllmConfig", "AutoModel": "modeling_recllm.RecllmModel"}
PIPELINE = {"recommendation": {"impl": "pipeline_recllm.RecommendationPipeline", "pt": ["AutoModel"], "type": "multimodal"}}


class Recommender:
    """Requests are dicts as in DESIGN 7: profile, history, context, candidates. Reads the catalogue that came with the release."""

    def __init__(self, model: RecllmModel, processor: RecllmProcessor) -> None:
        self.model, self.processor = model.eval(), processor
        self.reader = RequestReader(processor.rows, processor.tokenize, self.encode)
        self.contents: torch.Tensor | None = None

    # ---- a folder for others

    def save_pretrained(self, folder: str | Path, card: str = "", training: dict[str, Any] | None = None) -> Path:
        """Write the full form (weights with adapters, config, processor, code, `card` as README.md, `training` settings): all of it, or
        nothing. `AutoModel`, the processor and the pipeline load it without recllm. An earlier release is replaced; raises ReleaseError
        for a folder that holds anything else."""
        folder = Path(folder).absolute()
        if folder.exists() and any(folder.iterdir()) and not (folder / "processor_spec.json").is_file():
            raise ReleaseError(f"{folder}: expected no folder, an empty one or an earlier release, found other files: choose another")
        with whole_folder(folder) as part:
            config = self.model.config
            config.auto_map, config.custom_pipelines, config.architectures = AUTO_MAP, PIPELINE, ["RecllmModel"]
            self.model.save_pretrained(part)
            self.processor.save_pretrained(part)
            for path in sorted(Path(__file__).parent.glob("*_recllm.py")):
                shutil.copy(path, part / path.name)
            (part / "README.md").write_text(card, encoding="utf-8")
            if training is not None:
                (part / "training_config.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        return folder

    def push_to_hub(self, repo_id: str, card: str = "", private: bool = False, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes. Returns the address of the commit."""
        with tempfile.TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "release", card)
            hf_api().create_repo(repo_id, private=private, token=token, exist_ok=True)
            return str(hf_api().upload_folder(repo_id=repo_id, folder_path=folder, token=token, commit_message="Release of recllm"))

    # ---- text and catalogue

    def encode(self, texts: list[str]) -> np.ndarray:
        """Item texts (n) -> vectors (n, W); an empty text is the zero vector."""
        vectors = np.zeros((len(texts), self.model.config.encoder["hidden_size"]), dtype=np.float32)
        rows = [i for i, text in enumerate(texts) if text]
        if rows:
            batch = self.processor.batch_texts([texts[i] for i in rows], self.model.config.text_tokens)
            with torch.inference_mode():
                found = self.model.encode_text(batch["input_ids"].to(self.model.device), batch["attention_mask"].to(self.model.device))
            vectors[rows] = found.float().cpu().numpy()
        return vectors

    def _contents(self) -> torch.Tensor:
        """(I, W) normalised contents of the whole catalogue, made once."""
        if self.contents is None:
            items, device = self.processor.rows.items, self.model.device
            with torch.inference_mode():
                made = self.model.tokens.content(torch.from_numpy(items.vector).to(device), torch.from_numpy(items.id_row).to(device))
            self.contents = normalize(made, dim=-1)
        return self.contents

    # ---- predictions

    def predict(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """For each request `item_id` (its candidates in order) and arrays (c,): a probability per binary outcome, seconds and their
        80% interval (`<duration>_low`, `<duration>_high`) for a duration. Raises RequestError naming the request at fault."""
        prepared = [self._read(request, place) for place, request in enumerate(requests)]
        return [{"item_id": p.ids, **(self._score(p, np.arange(len(p.ids))) if p.ids else {})} for p in prepared]

    def _read(self, request: dict[str, Any], place: int) -> Prepared:
        try:
            return self.reader.read(request)
        except RequestError as error:
            name = request.get("id", place) if isinstance(request, dict) else place
            raise RequestError(f"request {name}: {error}") from None

    def _score(self, prepared: Prepared, places: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated predictions of some of a request's candidates."""
        with torch.inference_mode():
            found = self.model.heads.predictions(self.raw(prepared, places), self.model.config.duration)
        return {n: v.double().cpu().numpy() for n, v in found.items()}

    def raw(self, prepared: Prepared, places: np.ndarray) -> dict[str, torch.Tensor]:
        """Uncalibrated outputs of the heads (c, ...) for some of a request's candidates: the prefix once, then all of them against it."""
        example, chunks = prepared.example, []
        with torch.inference_mode():
            past = self.model.prefix(self._batch(prepared, np.arange(example.events), example.events))
            for begin in range(0, len(places), TOKENS):
                tokens = example.events + places[begin : begin + TOKENS]
                states, _ = self.model.after(past, self._batch(prepared, tokens, 0), start=example.events)
                chunks.append(self.model.heads(states[0]))
        return {n: torch.cat([c[n] for c in chunks]) for n in chunks[0]} if chunks else {}

    def _batch(self, prepared: Prepared, tokens: np.ndarray, events: int) -> dict[str, torch.Tensor]:
        example = prepared.example.part(tokens, events)
        batch = self.processor.rows.collate([example], prepared.items, text_vectors=prepared.text_vectors)
        return {n: v if n == "events" else v.to(self.model.device) for n, v in batch.items()}

    # ---- lists

    def recommend(self, request: dict[str, Any], top_k: int = 10, exclude_seen: bool | None = None,
                  **strategy: Any) -> list[dict[str, Any]]:
        """The best items of a request, or of the catalogue (retrieval, then ranking): dicts with item_id, score and predictions.

        `strategy`, `weights`, `outcome`, `value` override the release's settings. Raises RequestError for a bad request.
        """
        self._check(strategy)
        settings = {**self.processor.recommend, **strategy}
        exclude = settings.get("exclude_seen", True) if exclude_seen is None else exclude_seen
        prepared = self._read(request, 0)
        whole = request.get("candidates") is None
        seen = prepared.seen if exclude and whole else set()
        published = prepared.items.published[prepared.rows]
        keep = np.array([item not in seen for item in prepared.ids], dtype=bool) & (published <= prepared.time)
        if not whole:  # named candidates are ranked as they are, each once
            keep = np.isin(np.arange(len(prepared.ids)), np.unique(np.array(prepared.ids, dtype=str), return_index=True)[1])
        places = np.flatnonzero(keep)
        if whole and len(places) > settings.get("retrieve", 200):
            places = places[self._retrieve(prepared, places, int(settings.get("retrieve", 200)))]
        if len(places) == 0:
            return []
        predictions = self._score(prepared, places)
        value = self._values(prepared, places, settings.get("value"))
        scored = scores(settings, predictions, value, self.model.config.binary[0])
        order = best(scored, np.ones(len(places), dtype=bool), top_k)
        return [self._entry(prepared, int(places[k]), float(scored[k]), {n: float(v[k]) for n, v in predictions.items()}) for k in order]

    def _retrieve(self, prepared: Prepared, places: np.ndarray, most: int) -> np.ndarray:
        """The `most` places whose contents are nearest to the request's query vector."""
        with torch.inference_mode():
            rows = torch.from_numpy(prepared.rows[places]).to(self.model.device)
            near = (self._contents()[rows] @ self._query(prepared)).cpu().numpy()
        return np.sort(np.argsort(-near, kind="stable")[:most])

    def query_vector(self, request: dict[str, Any]) -> np.ndarray:
        """A request as retrieval sees it: (W,) float32 of length one; its product with a row of `item_vectors` is the cosine.

        The request's candidates, if it names any, play no part. Raises RequestError for a bad request.
        """
        return self._query(self._read({**request, "candidates": []} if isinstance(request, dict) else request, 0)).cpu().numpy()

    def item_vectors(self) -> np.ndarray:
        """The catalogue as retrieval sees it: (I, W) float32 of length one, in the order of the catalogue's ids."""
        return self._contents().cpu().numpy()

    def _query(self, prepared: Prepared) -> torch.Tensor:
        """(W,) of length one: the state of the request's query token, projected."""
        example = prepared.example
        with torch.inference_mode():
            past = self.model.prefix(self._batch(prepared, np.arange(example.events), example.events))
            states, _ = self.model.after(past, self._batch(prepared, np.array([example.size - 1]), 0), start=example.events)
            return normalize(self.model.query(states[0, 0]), dim=-1)

    def _check(self, strategy: dict[str, Any]) -> None:
        """Raise RequestError for a misspelt option, strategy or value field."""
        fields = self.reader.item_fields
        known = {"strategy": list(STRATEGIES), "value": fields, "outcome": self.model.config.binary}
        for name, chosen in strategy.items():
            if name not in OPTIONS:
                raise RequestError(f'expected options of {", ".join(OPTIONS)}, found "{name}".{nearest(name, list(OPTIONS))}')
            if chosen is not None and name in known and chosen not in known[name]:
                hint = nearest(str(chosen), known[name])
                raise RequestError(f'{name}: expected one of {", ".join(known[name]) or "(none declared)"}, found "{chosen}".{hint}')

    def _values(self, prepared: Prepared, places: np.ndarray, name: str | None) -> np.ndarray:
        """What each candidate is worth (c,): the `value` that came with it, else its value field, NaN where neither is known."""
        fields = prepared.items.fields
        own = [prepared.values.get(prepared.ids[place]) for place in places]
        found = [v if v is not None else fields[prepared.rows[p]].get(name or "") for v, p in zip(own, places, strict=True)]
        return np.array([1.0 if v is None and name is None else as_number(v, name or "value") for v in found])

    def _entry(self, prepared: Prepared, place: int, score: float, predictions: dict[str, float]) -> dict[str, Any]:
        duration = self.model.config.duration
        entry: dict[str, Any] = {"item_id": prepared.ids[place], "score": score}
        entry |= {n: predictions[n] for n in self.model.config.binary}
        if duration:
            ends = [predictions[f"{duration}_low"], predictions[f"{duration}_high"]]
            entry |= {duration: predictions[duration], f"{duration}_interval": ends}
        title = self.processor.recommend.get("title")
        fields = prepared.items.fields[int(prepared.rows[place])]
        return entry | ({title: fields[title]} if title and title in fields else {})
