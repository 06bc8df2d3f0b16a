"""Configuration: strict models of every section, and the YAML files that hold them."""

from recllm.config.files import explain, load_config
from recllm.config.sections import Config, DataConfig, EvaluationConfig, ModelSettings, Negatives, Rules, Split, TrainingConfig, declared

__all__ = ["Config", "DataConfig", "EvaluationConfig", "ModelSettings", "Negatives", "Rules", "Split", "TrainingConfig", "declared",
           "explain", "load_config"]
