"""Predictions to rows of figures: every outcome, every metric, every slice, with intervals over users."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from recllm.errors import DataError, did_you_mean
from recllm.evaluation import metrics
from recllm.evaluation.bootstrap import Binned, Linearised, Mean, Pairs, Statistic, interval, user_weights
from recllm.evaluation.metrics.binary import mass_bins
from recllm.evaluation.metrics.duration import covered, per_row_concordance
from recllm.evaluation.metrics.ranking import per_request_mrr, per_request_ndcg, per_user_auc
from recllm.schema import Outcome

COLUMNS = ["model", "task", "metric", "slice", "counters", "mean", "low", "high", "seeds", "n"]


@dataclass(frozen=True)
class Rows:
    """Rows of one outcome with a known label, in one slice, of one training seed. n rows, U users of the whole table."""

    y: np.ndarray  # (n,) 0 or 1, or seconds clipped
    p: np.ndarray  # (n,) probability, or seconds clipped
    user: np.ndarray  # (n,) int64 code below `users`
    request: np.ndarray  # (n,) int64
    users: int
    low: np.ndarray | None = None  # (n,) seconds clipped
    high: np.ndarray | None = None

    def take(self, keep: np.ndarray) -> "Rows":
        ends = [None if end is None else end[keep] for end in (self.low, self.high)]
        return Rows(self.y[keep], self.p[keep], self.user[keep], self.request[keep], self.users, *ends)

    def mean(self, values: np.ndarray) -> Mean:
        return Mean.of(self.user, values, self.users)

    def request_mean(self, per_request: tuple[np.ndarray, np.ndarray]) -> Mean:
        """A request belongs to one user, so the user of any of its rows will do."""
        codes, values = per_request
        found, first = np.unique(self.request, return_index=True)
        return Mean.of(self.user[first[np.searchsorted(found, codes)]], values, self.users)

    def user_mean(self, weighted: bool) -> Mean:
        codes, area, size = per_user_auc(self.y, self.p, self.user)
        return Mean.of(codes, area, self.users, size if weighted else None)

    def pair_mean(self) -> Linearised:
        right, pairs = per_row_concordance(self.y, self.p)
        return Linearised(Mean(self.mean(right).total, self.mean(pairs).total))


@dataclass(frozen=True)
class Metric:
    """`point` is what is reported; `statistic` is the same figure as a function of how often each user was drawn."""

    point: Callable[[Rows], float]
    statistic: Callable[[Rows], Statistic]


def _log_loss(rows: Rows) -> np.ndarray:
    p = np.clip(rows.p, np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)  # scikit-learn's clip
    return -np.log(np.where(rows.y > 0, p, 1 - p))


BINARY = {
    "auc": Metric(lambda r: metrics.auc(r.y, r.p), lambda r: Pairs.of(r.user, r.y, r.p)),
    "gauc": Metric(lambda r: metrics.gauc(r.y, r.p, r.user), lambda r: r.user_mean(weighted=True)),
    "uauc": Metric(lambda r: metrics.uauc(r.y, r.p, r.user), lambda r: r.user_mean(weighted=False)),
    "logloss": Metric(lambda r: metrics.logloss(r.y, r.p), lambda r: r.mean(_log_loss(r))),
    "accuracy": Metric(lambda r: metrics.accuracy(r.y, r.p), lambda r: r.mean((r.p >= 0.5) == (r.y > 0))),
    "brier": Metric(lambda r: metrics.brier(r.y, r.p), lambda r: r.mean((r.p - r.y) ** 2)),
    "ece": Metric(lambda r: metrics.ece(r.y, r.p), lambda r: Binned.of(r.user, mass_bins(r.p), r.p - r.y, r.users)),
    "ndcg@10": Metric(lambda r: metrics.ndcg(r.y, r.p, r.request), lambda r: r.request_mean(per_request_ndcg(r.y, r.p, r.request))),
    "mrr": Metric(lambda r: metrics.mrr(r.y, r.p, r.request), lambda r: r.request_mean(per_request_mrr(r.y, r.p, r.request))),
}
DURATION = {
    "mae": Metric(lambda r: metrics.mae(r.y, r.p), lambda r: r.mean(np.abs(r.p - r.y))),
    "mse": Metric(lambda r: metrics.mse(r.y, r.p), lambda r: r.mean((r.p - r.y) ** 2)),
    "xauc": Metric(lambda r: metrics.xauc(r.y, r.p), lambda r: r.pair_mean()),
}


def _covered(rows: Rows) -> np.ndarray:
    assert rows.low is not None and rows.high is not None  # `_metrics` offers coverage only then
    return covered(rows.y, rows.low, rows.high)


COVERAGE = {"coverage": Metric(lambda r: float(np.mean(_covered(r))) if len(r.y) else float("nan"), lambda r: r.mean(_covered(r)))}


def evaluate(
    predictions: list[pd.DataFrame],
    outcomes: dict[str, Outcome],
    *,
    model: str,
    counters: str,
    bootstrap: int,
    seed: int = 0,
    min_slice: int = 200,
) -> list[dict]:
    """Figures of one model: a list of rows with the keys COLUMNS.

    predictions: one frame per training seed, the same rows in the same order. Columns: `user`, `request`; `y_<outcome>` (NaN unknown);
    `p_<outcome>` (probability, or seconds), absent where the model does not predict the outcome; `low_`/`high_<duration>` (seconds),
    both or neither; `slice_<name>` (text). Requests are those of one user: equal codes of two users are two requests.
    outcomes: as in the schema. A binary outcome with `given` is evaluated on all rows with a known label.
    bootstrap: rounds; all seeds and metrics share the same draws of users.

    `mean` is over seeds; `low`, `high` the 95% percentile interval, over users, of that mean; `n` the rows with a known label, also where
    a metric leaves out users or requests of one class. Left out: metrics that are undefined, slices with fewer than `min_slice` such rows.
    Raises DataError where the frames do not fit together.
    """
    first = _check(predictions, outcomes)
    user = pd.factorize(first["user"])[0].astype(np.int64)
    request = pd.factorize(pd.MultiIndex.from_arrays([user, pd.factorize(first["request"])[0]]))[0].astype(np.int64)
    users = int(user.max(initial=-1)) + 1
    weights = user_weights(users, bootstrap, seed)
    figures = []
    for task, outcome in outcomes.items():
        if f"p_{task}" not in first:
            continue
        known = first[f"y_{task}"].notna().to_numpy()
        seeds = [_rows(frame, task, outcome, user, request, users).take(known) for frame in predictions]
        for name, members in _slices(first[known], min_slice):
            cut = [rows.take(members) for rows in seeds]
            for metric, (mean, low, high) in _figures(cut, outcome, weights):
                values = (model, task, metric, name, counters, mean, low, high, len(cut), int(members.sum()))
                figures.append(dict(zip(COLUMNS, values, strict=True)))
    return figures


def _figures(seeds: list[Rows], outcome: Outcome, weights: np.ndarray) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """(metric, (mean, low, high)) for each metric that is defined on these rows."""
    offered = BINARY if outcome.kind == "binary" else DURATION | (COVERAGE if seeds[0].low is not None else {})
    for name, metric in offered.items():
        mean = float(np.mean([metric.point(rows) for rows in seeds]))
        if not np.isfinite(mean):
            continue
        low, high = interval(np.mean([metric.statistic(rows).resample(weights) for rows in seeds], axis=0))
        if np.isfinite(low):
            yield name, (mean, low, high)


def _slices(frame: pd.DataFrame, min_slice: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, (n,) bool) for `all` and every value of every slice column; a missing value is the slice `unknown`."""
    yield "all", np.ones(len(frame), dtype=bool)
    for column in [c for c in frame if str(c).startswith("slice_")]:
        text = frame[column].astype(object).where(frame[column].notna(), "unknown").astype(str)
        codes, values = pd.factorize(text, sort=True)  # codes, since comparing 80,000 texts for every value is slow
        for code in np.flatnonzero(np.bincount(codes, minlength=len(values)) >= min_slice):
            yield f"{str(column).removeprefix('slice_')}={values[code]}", codes == code


def _rows(frame: pd.DataFrame, task: str, outcome: Outcome, user: np.ndarray, request: np.ndarray, users: int) -> Rows:
    """All rows of one frame for one outcome; seconds are clipped here, once."""
    clip = outcome.clip if outcome.kind == "duration" else np.inf

    def column(kind: str) -> np.ndarray | None:
        name = f"{kind}_{task}"
        return np.minimum(frame[name].to_numpy(dtype=np.float64), clip) if name in frame else None

    y, p = column("y"), column("p")
    assert y is not None and p is not None  # `_check` saw to it
    return Rows(y, p, user, request, users, column("low"), column("high"))


def _check(predictions: list[pd.DataFrame], outcomes: dict[str, Outcome]) -> pd.DataFrame:
    """The first frame, after making sure that all frames hold the same rows and finite predictions."""
    if not predictions or any(len(frame) == 0 for frame in predictions):
        raise DataError("expected at least one frame of predictions with rows, found none: is the test split empty?")
    first = predictions[0]
    known = [f"p_{name}" for name in outcomes]
    for column in [c for c in first if str(c).startswith("p_") and c not in known]:
        raise DataError(f'predictions have a column "{column}", which is no declared outcome.{did_you_mean(str(column), known)}')
    kinds = [f"{kind}_{name}" for name in outcomes if f"p_{name}" in first for kind in ("y", "p")]
    ends = [f"{kind}_{name}" for name in outcomes if f"low_{name}" in first or f"high_{name}" in first for kind in ("low", "high")]
    for number, frame in enumerate(predictions):
        missing = [c for c in ["user", "request", *kinds, *ends] if c not in frame]
        if missing:
            raise DataError(f"predictions of seed {number} lack the columns {missing} (have: {', '.join(map(str, frame.columns))})")
        same = [c for c in first if not str(c).startswith(("p_", "low_", "high_"))]
        if set(frame.columns) != set(first.columns) or not frame[same].reset_index(drop=True).equals(first[same].reset_index(drop=True)):
            raise DataError(f"predictions of seed {number} and seed 0 differ in rows, order or labels: expected the same rows in all seeds")
        _check_values(frame, outcomes, number)
    return first.reset_index(drop=True)


def _check_values(frame: pd.DataFrame, outcomes: dict[str, Outcome], number: int) -> None:
    for name, outcome in outcomes.items():
        for column in [f"{kind}_{name}" for kind in ("p", "low", "high") if f"{kind}_{name}" in frame]:
            values = frame[column].to_numpy(dtype=np.float64)
            top = 1.0 if outcome.kind == "binary" else np.inf
            bad = ~np.isfinite(values) | (values > top) | (values < (0.0 if outcome.kind == "binary" else -np.inf))
            if bad.any():
                what = "probabilities" if outcome.kind == "binary" else "finite seconds"
                raise DataError(f'expected {what} in "{column}" of seed {number}, found {values[bad][0]} ({bad.sum()} such rows)')
