"""Counters as features: running sums of (events, and for each measured outcome: rows where it is known, its sum) to numbers.

One function serves user, item and category counters, so that the three cannot drift apart.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .timeline_recllm import log_odds


@dataclass
class CounterSpec:
    """What is counted. `priors` are train rates (binary), shares given the condition (conditional), mean log seconds (duration)."""

    binary: list[str]  # measured binary outcomes
    given: dict[str, str]  # outcome -> the outcome it is given
    duration: str | None  # measured duration, None if there is none or it is derived
    priors: dict[str, float]

    @property
    def outcomes(self) -> list[str]:
        """Order of the counted outcomes; sums have 1 + 2 * len(outcomes) columns: events, then (known, sum) of each."""
        return [*self.binary, *([self.duration] if self.duration else [])]

    @property
    def names(self) -> list[str]:
        """Names of the feature columns of one kind of counter."""
        rates = [part for name in self.binary for part in (f"{name}_log_n", f"{name}_log_odds")]
        rates += [f"{name}_per_{condition}_log_odds" for name, condition in self.given.items()]
        return ["log_events", *rates, *([f"{self.duration}_log_mean"] if self.duration else [])]

    def booked(self, outcomes: dict[str, np.ndarray]) -> np.ndarray:
        """What each event adds to the sums (n, 1 + 2k). An event with no known outcome adds nothing, not even itself."""
        columns = [np.zeros(len(next(iter(outcomes.values()))))]
        for name in self.outcomes:
            known = ~np.isnan(outcomes[name])
            columns += [known.astype(float), np.where(known, outcomes[name], 0.0)]
        sums = np.stack(columns, axis=1)
        sums[:, 0] = (sums[:, 1::2] > 0).any(axis=1)
        return sums

    def features(self, sums: np.ndarray) -> np.ndarray:
        """Sums (n, 1 + 2k) -> features (n, len(names)), float64: log counts, smoothed log-odds, smoothed log mean seconds."""
        at = {name: 1 + 2 * i for i, name in enumerate(self.outcomes)}
        columns = [np.log1p(sums[:, 0])]
        for name in self.binary:
            columns += [np.log1p(sums[:, at[name]]), log_odds(sums[:, at[name] + 1], sums[:, at[name]], self.priors[name])]
        for name, condition in self.given.items():
            bought, clicked = sums[:, at[name] + 1], sums[:, at[condition] + 1]
            # a shop may log purchases without their clicks: the smoothed share stays inside (0, 1)
            columns.append(log_odds(np.minimum(bought, clicked), clicked, self.priors[f"{name}|{condition}"]))
        if self.duration:
            n, total = sums[:, at[self.duration]], sums[:, at[self.duration] + 1]
            mean = (total + 10 * self.priors[self.duration]) / (n + 10)
            columns.append(np.log1p(mean) - np.log1p(self.priors[self.duration]))
        return np.stack(columns, axis=1)

    def plain(self) -> dict[str, Any]:
        return {"binary": self.binary, "given": self.given, "duration": self.duration, "priors": self.priors}
