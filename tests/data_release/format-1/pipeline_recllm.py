"""`transformers.pipeline("recommendation", model=..., trust_remote_code=True)`: requests in, ranked lists out (DESIGN 7)."""

from typing import Any

from transformers import Pipeline

from .recommender_recllm import Recommender


class RecommendationPipeline(Pipeline):
    """One request (a dict) or a list of them. `top_k`, `exclude_seen` and the options of `settings_recllm.OPTIONS` (strategy, weights,
    outcome, value, retrieve, thresholds, cap, diversity, auction) override the release's settings for a call. Each entry has item_id,
    score, a probability per binary outcome, seconds and their 80% interval; in an auction also `price`."""

    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = True  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recommender = Recommender(self.model, self.feature_extractor)  # type: ignore[arg-type]

    def _sanitize_parameters(self, **pipeline_parameters: Any) -> tuple[dict, dict, dict]:
        return {}, pipeline_parameters, {}

    def preprocess(self, input_: Any, **preprocess_parameters: Any) -> dict[str, Any]:
        return {"request": input_}

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        return {"list": self.recommender.recommend(input_tensors["request"], **forward_parameters)}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> list[dict[str, Any]]:
        return model_outputs["list"]
