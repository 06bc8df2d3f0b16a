"""Configuration: strict models of every section, and the YAML files that hold them."""

from recllm.config.data import CustomRule, DataConfig, Negatives, Rules, Split, utc_ms
from recllm.config.files import explain, load_config
from recllm.config.sections import Config, EvaluationConfig, ModelSettings, TrainingConfig, declared

__all__ = ["Config", "CustomRule", "DataConfig", "EvaluationConfig", "ModelSettings", "Negatives", "Rules", "Split", "TrainingConfig",
           "declared", "explain", "load_config", "utc_ms"]
