"""Paired rounds: what is compared runs in turn, many times over, so that a slow minute of the machine hits both sides."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

Call = Callable[[], tuple[float, float]]  # runs once and returns (seconds, units of work done)


class Rounds:
    """What rounds gave: `rates` name -> units a second, one a round."""

    def __init__(self, rates: dict[str, list[float]]) -> None:
        self.rates = rates

    def rate(self, name: str) -> float:
        """Median units a second."""
        return median(self.rates[name])

    def ratio(self, ours: str, theirs: str) -> float:
        """Median over the rounds of rate by rate: each pair ran within one round."""
        return median(a / b for a, b in zip(self.rates[ours], self.rates[theirs], strict=True))


def paired(calls: dict[str, Call], rounds: int, say: Callable[[str], None] = lambda text: None) -> Rounds:
    """Warm up every call once, then run all of them `rounds` times, every other round in the opposite order: what comes after a
    heavy neighbour finds cold caches and a warm chip, and no side should always be that one."""
    for call in calls.values():
        call()
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for k in range(rounds):
        for name in list(calls) if k % 2 == 0 else reversed(calls):
            seconds, units = calls[name]()
            rates[name].append(units / seconds)
        say(f"round {k + 1}: " + ", ".join(f"{name} {rate[-1]:.4g}" for name, rate in rates.items()))
    return Rounds(rates)


def timed(call: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Seconds of `repeats` runs, until the device has finished them."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return time.perf_counter() - started


def percentiles(seconds: list[float]) -> dict[str, float]:
    """{"p50", "p99", "requests"}; p99 is a measured value, no value between two."""
    return {"p50": float(np.quantile(seconds, 0.5)), "p99": float(np.quantile(seconds, 0.99, method="higher")), "requests": len(seconds)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
