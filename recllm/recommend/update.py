"""The day-by-day experiment: what a released model loses when it stays as it is, and what updating or retraining it costs and brings.

For each test day (UTC) the validation day is the one before it. `stale` is trained once, on everything before the first day's validation
day; `updated` is the stale release gone on with, from test day to test day, on the train rows that came since; `retrained` is trained from
the start for every test day. On the first day all three are the same model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError

from recllm.config import Config, explain
from recllm.data.prepare import prepare
from recllm.errors import ConfigError, DataError
from recllm.evaluation.command import kept_command
from recllm.evaluation.evaluator import evaluate
from recllm.evaluation.predictions import label_frame, with_model
from recllm.feed.score import score
from recllm.model.timeline_recllm import DAY
from recllm.recommend.build import recommender_of
from recllm.training import checkpoint
from recllm.training.results import commit
from recllm.training.run import run_folder, train
from recllm.training.setup import TEST, Setup

ARMS = ("stale", "updated", "retrained")
METRICS = ("auc", "gauc", "logloss")
EPOCHS, RATE, WARMUP = 1, 0.25, 10  # of an update: epochs, share of the config's learning rates, steps of warm-up at most
COSTS = ("rows_trained", "seconds", "steps")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training: the config of one test day, where it starts from, and the days that its model is tested on."""

    config: Config
    arm: str
    tested: tuple[date, ...]
    start: "Run | None" = None

    def release(self, seed: int) -> Path:
        """Where the next update finds this run's release."""
        return self.config.folder / f"release-seed-{seed}"


def read_days(days: list[str]) -> list[date]:
    """Dates in order. Raises ConfigError for one that is none, or that is not after the one before."""
    try:
        found = [date.fromisoformat(day) for day in days]
    except ValueError:
        raise ConfigError(f"--days: expected UTC dates such as 2025-03-28, found {' '.join(days)}") from None
    if any(later <= earlier for earlier, later in zip(found, found[1:], strict=False)):
        raise ConfigError(f"--days: expected each day once, in order, found {' '.join(days)}")
    return found


def day_config(config: Config, name: str, day: date, **training: Any) -> Config:
    """The config with a test day's split dates, a name of its own, no slices. Raises ConfigError for training settings that are none."""
    plain = config.model_dump(mode="json", by_alias=True)
    moments = [datetime(d.year, d.month, d.day, tzinfo=UTC).isoformat() for d in (day - timedelta(days=1), day)]
    plain["name"] = f"{config.name}-{name}"
    plain["data"]["split"] = dict(zip(("validation", "test"), moments, strict=True))
    plain["evaluation"]["slices"] = []
    plain["training"] |= training
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise explain(error, name, Config) from None


def runs(config: Config, days: list[date], epochs: int = EPOCHS, rate: float = RATE) -> list[Run]:
    """All trainings of one seed, in an order in which each finds what it starts from."""
    settings = config.training
    update = {"epochs": epochs, "learning_rate": rate * settings.learning_rate, "lora_learning_rate": rate * settings.lora_learning_rate,
              "warmup_steps": min(settings.warmup_steps, WARMUP)}  # fmt: skip
    found = [Run(day_config(config, f"stale-{days[0]}", days[0]), "stale", tuple(days))]
    chain = str(days[0])
    for day in days[1:]:
        chain += f"-{day:%m%d}"  # an update is of all updates before it
        found.append(Run(day_config(config, f"updated-{chain}", day, **update), "updated", (day,), start=found[-1]))
    return found + [Run(day_config(config, f"retrained-{day}", day), "retrained", (day,)) for day in days[1:]]


def day_frame(made: Setup, day: date) -> pd.DataFrame:
    """Labels and predictions of the binary outcomes on the scored rows of one UTC day. Raises DataError where it has none."""
    config, since = made.config, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
    examples = made.examples(TEST, since, since + DAY)
    if not len(examples):
        raise DataError(f"--days: expected scored rows on {day}, found none: choose days of the log")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.nn.Module.to(made.model, device)
    made.model.heads.shift.zero_()  # metrics are on the distribution that was sampled, see data.negatives.base_rate
    scores = score(made.model, examples, 4 * config.training.tokens_per_batch, device)
    frame = with_model(label_frame(config, examples), made.model.heads, scores, config.columns.duration)
    return frame[["user", "request", *(f"{kind}_{n}" for n in config.columns.binary for kind in ("y", "p"))]]


def update(config: Config, days: list[str], seeds: list[int], command: str, *, epochs: int = EPOCHS, rate: float = RATE,
           again: bool = False, say: Say = print) -> dict[str, Any]:
    """Everything that `scripts/update.py` writes. Finished trainings are taken from their run folders, interrupted ones go on.

    Raises ConfigError for days that are none, DataError for days that the log does not have.
    """
    dates = read_days(days)
    frames: dict[tuple[date, str], list[pd.DataFrame]] = {}
    costs: dict[tuple[date, str], list[dict[str, Any]]] = {}
    for seed in seeds:
        for run in runs(config, dates, epochs, rate):
            say(f"{run.config.name}, seed {seed}")
            prepare(run.config, say=say)
            made = train(run.config, seed=seed, again=again, init_from=run.start.release(seed) if run.start else None, say=say)
            if run.arm != "retrained":
                recommender_of(made).save_pretrained(run.release(seed), f"# {run.config.name}\n")
            position = checkpoint.position(run_folder(run.config, seed) / "best") or {}
            spent = dict(zip(COSTS, (position["rows"], position["seconds"], position["step"]), strict=True))
            for day in run.tested:
                frame, first = day_frame(made, day), day == dates[0]
                for arm in ARMS if first else (run.arm,):
                    frames.setdefault((day, arm), []).append(frame)
                    # a stale model costs nothing on later days
                    costs.setdefault((day, arm), []).append(spent if first or run.arm != "stale" else dict.fromkeys(COSTS, 0))
    rows = [row for day in dates for arm in ARMS for row in _rows(config, day, arm, seeds, frames[day, arm], costs[day, arm])]
    return {"command": kept_command(command), "commit": commit(), "config": config.name, "days": [str(d) for d in dates],
            "seeds": seeds, "update": {"epochs": epochs, "rate": rate}, "note": config.note, "rows": rows}


def _rows(config: Config, day: date, arm: str, seeds: list[int], frames: list[pd.DataFrame], costs: list[dict]) -> list[dict[str, Any]]:
    """Figures of one arm on one day, of each seed and of their mean, with intervals over users and what the arm's training cost."""
    outcomes = {n: config.columns.outcomes[n] for n in config.columns.binary}
    each: list[tuple[int | str, list[pd.DataFrame], dict]] = [(s, [f], c) for s, f, c in zip(seeds, frames, costs, strict=True)]
    each.append(("mean", frames, {name: float(np.mean([c[name] for c in costs])) for name in COSTS}))
    return [{"day": str(day), "arm": arm, "seed": seed, **{k: row[k] for k in ("task", "metric", "mean", "low", "high", "n")}, **cost}
            for seed, some, cost in each
            for row in evaluate(some, outcomes, model=arm, counters="fresh", bootstrap=config.evaluation.bootstrap)
            if row["metric"] in METRICS]  # fmt: skip
