"""Metrics of a probability p, (n,) in [0, 1], against a label y, (n,) 0 or 1 and known. NaN where undefined."""

import numpy as np
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

BINS = 15


def auc(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties count half. NaN with one class."""
    if len(y) == 0 or y.min() == y.max():
        return float("nan")  # scikit-learn warns here, and a warning per slice drowns the report
    return float(roc_auc_score(y, p))


def logloss(y: np.ndarray, p: np.ndarray) -> float:
    """Mean negative log-likelihood in nats. NaN without rows."""
    return float(log_loss(y, p, labels=[0, 1])) if len(y) else float("nan")


def accuracy(y: np.ndarray, p: np.ndarray) -> float:
    """Share of rows where (p >= 0.5) equals the label. NaN without rows."""
    return float(accuracy_score(y, p >= 0.5)) if len(y) else float("nan")


def brier(y: np.ndarray, p: np.ndarray) -> float:
    """Mean squared difference of probability and label (Brier 1950). NaN without rows."""
    return float(brier_score_loss(y, p, pos_label=1, labels=[0, 1])) if len(y) else float("nan")


def mass_bins(p: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bin of each row, (n,) int64 in [0, bins): equal numbers of rows as far as ties allow.

    A group of equal predictions goes whole into the bin that holds its middle row, so the bins do not depend on the order of the rows.
    With few distinct predictions some bins are empty.
    """
    _, group, size = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2
    return np.minimum((middle * bins / max(len(p), 1)).astype(np.int64), bins - 1)[group]


def ece(y: np.ndarray, p: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean over rows of |mean p - mean y| of the row's bin, `bins` bins of equal mass. NaN without rows.

    Naeini et al. 2015, 'Obtaining Well Calibrated Probabilities Using Bayesian Binning', with bins of equal mass instead of equal width.
    """
    if len(y) == 0:
        return float("nan")
    gap = np.bincount(mass_bins(p, bins), weights=p - y, minlength=bins)
    return float(np.abs(gap).sum() / len(y))
