"""recllm: from a log of interactions to a context-aware, multi-task recommender on a pretrained encoder."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recllm.model.recommender_recllm import Recommender
    from recllm.recommend.fit import fit

__version__ = "0.1.0"
__all__ = ["Recommender", "fit"]
_WHERE = {"Recommender": "recllm.model.recommender_recllm", "fit": "recllm.recommend.fit"}


def __getattr__(name: str) -> Any:
    """On demand: torch and transformers take seconds to import, and the command line should answer at once."""
    if name not in _WHERE:
        raise AttributeError(f"module 'recllm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
