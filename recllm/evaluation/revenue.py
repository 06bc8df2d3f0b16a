"""What a model's click probabilities earn: one place a request, sold by auction among the slate's bids.

The platform knows its own predictions only: the winner is who has the greatest bid x predicted P(click), and it pays by them. What the
place earns in truth is that price x the true P(click) of the winner.

At the first price that is the worth of the clicks sold, bid x true P(click), and no predictor earns more than the truth does. The second
price depends on the runner-up too: a predictor that rates it too high charges more, so it can earn more than the truth while it sells
clicks of less worth. Both are reported; the first price says how good the probabilities are.
"""

from typing import Any

import numpy as np

from recllm.evaluation.bootstrap import by_user, interval, user_weights
from recllm.model.auction_recllm import PAYMENTS
from recllm.model.strategy_recllm import ranked

BLIND = "context-blind"


def slate_revenue(request: np.ndarray, bid: np.ndarray, p: np.ndarray, p_true: np.ndarray, auction: dict[str, Any]) -> np.ndarray:
    """Expected revenue of each request, by ascending request code, in the bids' unit; 0 where no bid reaches the floor.

    All (n,) rows of slates: request codes, bid per click (NaN: none), predicted and true P(click). auction: payment and floor.
    """
    order = np.argsort(request, kind="stable")
    cuts = np.flatnonzero(np.diff(request[order])) + 1
    settings = {"strategy": "expected_value", "auction": auction}
    earned = []
    for rows in np.split(order, cuts) if len(order) else []:
        found = ranked(settings, {"click": p[rows]}, bid[rows], "click", 1)
        price = found.price if found.price is not None else np.zeros(0)
        earned.append(float((price * p_true[rows[found.places]]).sum()))
    return np.array(earned)


def revenue(user: np.ndarray, request: np.ndarray, bid: np.ndarray, p_true: np.ndarray, models: dict[str, list[np.ndarray]],
            auction: dict[str, Any], rounds: int) -> dict[str, Any]:
    """{"payment", "floor", "requests", "rows"}, a row {"model", "payment", "per_1000", "ratio", "low", "high", "seeds"} for each model
    and payment; `payment` outside is the configured one.

    models: name -> predicted P(click) (n,) of each seed; one of them is BLIND. per_1000: true expected revenue of 1,000 requests, mean
    over seeds; ratio: to BLIND's, with its 95% interval by bootstrap over users. A request belongs to one user.
    """
    _, first = np.unique(request, return_index=True)
    codes = np.unique(user[first], return_inverse=True)[1]
    count = int(codes.max(initial=-1)) + 1
    weights = user_weights(count, rounds, 0)
    rows = []
    for payment in PAYMENTS:
        terms = {**auction, "payment": payment}
        earned = {name: np.mean([slate_revenue(request, bid, p, p_true, terms) for p in seeds], axis=0) for name, seeds in models.items()}
        base = weights @ by_user(codes, earned[BLIND], count)
        for name, values in earned.items():
            own = weights @ by_user(codes, values, count)
            low, high = interval(np.divide(own, base, out=np.full(len(own), np.nan), where=base > 0))
            ratio = float(values.sum() / earned[BLIND].sum()) if earned[BLIND].sum() > 0 else float("nan")
            rows.append({"model": name, "payment": payment, "per_1000": float(values.mean() * 1000), "ratio": ratio, "low": low,
                         "high": high, "seeds": len(models[name])})
    return {**auction, "requests": len(first), "rows": rows}


def sentence(found: dict[str, Any]) -> str:
    """The figures of both payments in one line: recllm, the truth, and the best baseline; the first price, which measures the predictions,
    first. At the second price a model that overrates the runner-up charges more: that is no merit, and is said."""
    said = []
    for payment in ("first", "second"):
        rows = {row["model"]: row for row in found["rows"] if row["payment"] == payment}
        others = sorted((r for name, r in rows.items() if name not in (BLIND, "recllm", "truth")), key=lambda r: -r["per_1000"])
        shown = [r for r in (rows.get("recllm"), rows.get("truth"), *others[:1]) if r]
        shares = ", ".join(f"{r['model']} {r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in shown)
        said.append(f"at the {payment} price {shares} times the best context-blind predictor's {rows[BLIND]['per_1000']:.1f}")
    return (f"true expected revenue by auction (bid x P(click), floor {found['floor']:g}) of 1,000 test requests: {'; '.join(said)} (the "
            f"second price rewards overrating the runner-up: compare predictors at the first)")
