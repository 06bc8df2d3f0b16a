"""What each command does. Heavy modules are imported where they are used: `recllm prepare --check` needs no torch."""

from recllm.commands.lists import predict, recommend, showcase
from recllm.commands.logs import forget, prepare, pseudonym, schema
from recllm.commands.models import evaluate, release, replay, train, tune, update

__all__ = ["evaluate", "forget", "predict", "prepare", "pseudonym", "recommend", "release", "replay", "schema", "showcase", "train", "tune",
           "update"]
