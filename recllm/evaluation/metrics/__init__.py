"""Pure functions over numpy arrays, each (n,) rows to one float; NaN where a metric is undefined (one class only, no rows).

Every function expects known labels only: the caller leaves out rows whose label is NaN (`evaluate` does).
"""

from recllm.evaluation.metrics.binary import accuracy, auc, brier, ece, logloss
from recllm.evaluation.metrics.duration import coverage, mae, mse, xauc
from recllm.evaluation.metrics.ranking import gauc, mrr, ndcg, uauc

__all__ = ["accuracy", "auc", "brier", "coverage", "ece", "gauc", "logloss", "mae", "mrr", "mse", "ndcg", "uauc", "xauc"]
