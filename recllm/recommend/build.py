"""A recommender out of a trained run, without a release folder in between."""

from recllm.model.processor_recllm import RecllmProcessor
from recllm.model.recommender_recllm import Recommender
from recllm.training.setup import Setup


def processor_of(made: Setup) -> RecllmProcessor:
    """The release's processor from a trained setup: fitted values, catalogue, counts, tokenizer, ranking settings."""
    made.processor.spec["pad_token"] = int(made.tokenizer.pad_token_id)
    return RecllmProcessor(made.processor, made.tokenizer, made.config.recommend.model_dump(mode="json"))


def recommender_of(made: Setup) -> Recommender:
    """A recommender over a trained setup, without a release folder."""
    return Recommender(made.model, processor_of(made))
