"""Auctions for the places of a list: who may take part, and what the winner of a place pays per click."""

import numpy as np

PAYMENTS = ("second", "first")
DEFAULTS = {"payment": "second", "floor": 0.0}


def bidders(bid: np.ndarray, floor: float) -> np.ndarray:
    """(c,) bool: candidates whose bid per click is known and at least the floor; the others are left out of the list."""
    return np.nan_to_num(bid, nan=-np.inf) >= floor


def prices(needed: np.ndarray, p: np.ndarray, bid: np.ndarray, payment: str, floor: float) -> np.ndarray:
    """What each winner pays per click (k,), between the floor and its bid.

    needed: score (bid x P(click)) at which each would have tied for its place (`lists_recllm.Arranged`); p: its own P(click).
    `second` is the generalised second price (Edelman, Ostrovsky & Schwarz 2007, 'Internet Advertising and the Generalized Second-Price
    Auction: Selling Billions of Dollars Worth of Keywords') over bids weighed by click probability: next score / own P(click), the
    least bid that keeps the place. The last pays the floor. `first` is the bid.
    """
    if payment == "first":
        return bid.astype(np.float64)
    least = np.divide(needed, p, out=np.full(len(p), -np.inf), where=(p > 0) & np.isfinite(needed))
    return np.clip(least, floor, bid)
