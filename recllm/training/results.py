"""Results of trained runs beside the baselines, on the same rows: `{"command", "commit", "rows", ...}` in one JSON file."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from recllm.config import Config
from recllm.config.recommend import Auction
from recllm.data.simulate import World
from recllm.errors import DataError
from recllm.evaluation.baselines import create
from recllm.evaluation.evaluator import evaluate
from recllm.evaluation.features import FeatureTable
from recllm.evaluation.predictions import label_frame, with_baseline, with_model
from recllm.evaluation.reliability import reliability
from recllm.evaluation.revenue import BLIND, revenue
from recllm.evaluation.tables import feature_table
from recllm.feed.score import score
from recllm.training.run import load_trained
from recllm.training.setup import TEST, TRAIN, VALIDATION, Setup

Say = Callable[[str], None]


def _rows(config: Config, frames: list[pd.DataFrame], model: str, counters: str) -> list[dict[str, Any]]:
    settings = config.evaluation
    return evaluate(frames, config.columns.outcomes, model=model, counters=counters, bootstrap=settings.bootstrap,
                    min_slice=settings.min_slice)


def _counter_states(made: Setup, both: bool) -> list[tuple[str, int | None]]:
    """(name, moment after which item counts are frozen). Frozen counts are what a release without a running counter service reads."""
    return [("fresh", None), *([("frozen", made.log.report.cuts[0])] if both else [])]


def model_rows(config: Config, seeds: list[int], say: Say) -> tuple[list[dict[str, Any]], Setup, list[pd.DataFrame]]:
    """(rows of the model over all seeds, the first seed's setup, the fresh prediction frames)."""
    frames: dict[str, list[pd.DataFrame]] = {}
    first: Setup | None = None
    for seed in seeds:
        made = load_trained(config, seed)
        first = first or made
        made.model.heads.shift.zero_()  # metrics are on the distribution that was sampled, see data.negatives.base_rate
        for counters, frozen in _counter_states(made, config.model.counters):
            say(f"scoring the test split, seed {seed}, counters {counters}")
            made.processor.frozen_after = frozen
            examples = made.examples(TEST)
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            torch.nn.Module.to(made.model, device)
            scores = score(made.model, examples, 4 * config.training.tokens_per_batch, device)
            frame = label_frame(config, examples)
            frames.setdefault(counters, []).append(with_model(frame, made.model.heads, scores, config.columns.duration))
        made.processor.frozen_after = None
    assert first is not None
    rows = [row for counters, parts in frames.items() for row in _rows(config, parts, "recllm", counters)]
    return rows, first, frames["fresh"]


def baseline_rows(config: Config, made: Setup, seeds: list[int], say: Say, export: Path | None = None,
                  kept: dict[str, list[pd.DataFrame]] | None = None) -> list[dict[str, Any]]:
    """Rows of the configured baselines on the model's own test rows; `export` receives their columns as Parquet, `kept` the fresh
    prediction frames of each."""
    rows: list[dict[str, Any]] = []
    examples = {s: made.examples(s) for s in (TRAIN, VALIDATION, TEST)}
    say("collecting the baselines' columns")
    tables = {s: feature_table(e) for s, e in examples.items()}
    if export is not None:
        _export(tables, export)
    made.processor.frozen_after = made.log.report.cuts[0]
    frozen = feature_table(examples[TEST])
    made.processor.frozen_after = None
    frame = label_frame(config, examples[TEST])
    for name in tqdm(config.evaluation.baselines, desc="baselines", delay=2, leave=False):
        parts: dict[str, list[pd.DataFrame]] = {}
        for seed in seeds:
            baseline = create(name)
            baseline.fit(tables[TRAIN], tables[VALIDATION], dict(config.columns.outcomes), seed)
            parts.setdefault("fresh", []).append(with_baseline(frame, baseline.predict(tables[TEST])))
            if baseline.reads_counters:
                parts.setdefault("frozen", []).append(with_baseline(frame, baseline.predict(frozen)))
        rows += [row for counters, frames in parts.items() for row in _rows(config, frames, name, counters)]
        if kept is not None:
            kept[name] = parts["fresh"]
    return rows


def _export(tables: dict[int, FeatureTable], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in ((TRAIN, "train"), (VALIDATION, "validation"), (TEST, "test")):
        labels = pd.DataFrame({f"y_{k}": v for k, v in tables[split].labels.items()})
        pd.concat([tables[split].frame, labels], axis=1).to_parquet(folder / f"{name}.parquet", index=False)


def _truth_rows(config: Config, made: Setup, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a simulation's truth.parquet that belong to the test rows of `frame`, in its order."""
    truth = pd.read_parquet(Path(config.data.interactions[0]).parent / "truth.parquet").set_index(["request_id", "item_id"])
    request = made.log.frame["request"].to_numpy()[np.concatenate([g.row for g in made.examples(TEST).groups])]
    return truth.loc[list(zip(request, np.array(made.log.items)[frame["item"]], strict=True))]


def revenue_facts(config: Config, made: Setup, frames: dict[str, list[pd.DataFrame]]) -> dict[str, Any]:
    """For a simulated log: what the click probabilities of each model (name -> a frame a seed) earn by auction on the test slates."""
    frame = frames["recllm"][0]
    truth = _truth_rows(config, made, frame)
    world = World.load(Path(config.data.interactions[0]).parent / "world.json")
    bids = pd.Series({item["item_id"]: item["bid"] for item in world.items})
    bid = bids.loc[np.array(made.log.items)[frame["item"]]].to_numpy(dtype=np.float64)
    p_true = truth["p_click"].to_numpy()
    models = {"truth": [p_true], BLIND: [truth["p_click_blind"].to_numpy()]}
    models |= {name: [f["p_click"].to_numpy() for f in seeds] for name, seeds in frames.items() if "p_click" in seeds[0]}
    auction = (config.recommend.auction or Auction()).model_dump()
    return revenue(frame["user"].to_numpy(), frame["request"].to_numpy(), bid, p_true, models, auction, config.evaluation.bootstrap)


def truth_facts(config: Config, made: Setup, frames: list[pd.DataFrame]) -> dict[str, Any] | None:
    """For a simulated log: how much of the log-loss gap between the best context-blind predictor and the truth is recovered.

    `shuffled` is the same with the context columns of the test rows permuted among them: what remains without the moment.
    """
    if config.data.format != "simulate":
        return None
    rows = _truth_rows(config, made, frames[0])
    y, p_true, p_blind = frames[0]["y_click"].to_numpy(), rows["p_click"].to_numpy(), rows["p_click_blind"].to_numpy()

    def loss(p: np.ndarray) -> float:
        return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())

    gap = loss(p_blind) - loss(p_true)
    facts: dict[str, Any] = {"n": len(y), "logloss_truth": loss(p_true), "logloss_blind": loss(p_blind), "gap": gap}
    found = [f["p_click"].to_numpy() for f in frames]
    facts["recovered"] = float(np.mean([(loss(p_blind) - loss(p)) / gap for p in found]))
    facts["mean_error"] = float(np.mean([np.abs(p - p_true).mean() for p in found]))
    return facts


def shuffled_facts(config: Config, made: Setup, facts: dict[str, Any]) -> dict[str, Any]:
    """The recovered share when every test row's moment (context fields, hour, weekday) is that of another test row."""
    examples = made.examples(TEST)
    rows = np.flatnonzero(made.log.split == TEST)
    other = np.random.default_rng(0).permutation(rows)
    slots = [*made.processor.by_group["context"], *made.processor.by_group["time"]]
    width = sum(s.width for s in slots) - 1  # the gap is no context column: it is computed from the history
    timeline = examples.timeline
    timeline.cat[rows, :width], timeline.weight[rows, :width] = timeline.cat[other, :width], timeline.weight[other, :width]
    timeline.num[rows], timeline.text[rows] = timeline.num[other], timeline.text[other]
    scores = score(made.model, examples, 4 * config.training.tokens_per_batch, made.model.device)
    frame = with_model(label_frame(config, examples), made.model.heads, scores, config.columns.duration)
    y, p = frame["y_click"].to_numpy(), frame["p_click"].to_numpy()
    loss = float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())
    return {"shuffled_context_recovered": (facts["logloss_blind"] - loss) / facts["gap"]}


def commit() -> str:
    """The repository's commit, `unknown` outside of one."""
    try:
        return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def results(config: Config, seeds: list[int], command: str, *, export: Path | None = None, say: Say = print) -> dict[str, Any]:
    """Everything that `scripts/evaluate.py` writes. Raises TrainingError where a seed is not trained."""
    for name in config.evaluation.baselines:
        create(name)  # an unknown name or a missing extra is found before anything is scored
    rows, made, frames = model_rows(config, seeds, say)
    facts = truth_facts(config, made, frames)
    if facts is not None:
        facts |= shuffled_facts(config, made, facts)
    kept = {"recllm": frames}
    rows += baseline_rows(config, made, seeds, say, export, kept)
    more = {"truth": facts, "revenue": revenue_facts(config, made, kept)} if facts else {}
    sampled = " Negatives are sampled: figures are on that distribution." if config.data.negatives else ""
    bins = reliability(frames, dict(config.columns.outcomes), config.evaluation.bootstrap)
    return {"command": command, "commit": commit(), "note": config.note + sampled, "seeds": seeds, "rows": rows, "reliability": bins,
            **more}


def _lines(rows: list[dict[str, Any]], indent: int) -> str:
    return ",\n".join(" " * indent + json.dumps(row) for row in rows)


def write(found: dict[str, Any], path: Path) -> None:
    """One row of figures, one bin of the reliability per line, so that a diff shows what moved; written aside and renamed."""
    head = {k: v for k, v in found.items() if k not in ("rows", "reliability")}
    bins = ",\n".join(f"  {json.dumps(name)}: [\n{_lines(rows, 3)}\n  ]" for name, rows in found["reliability"].items())
    text = json.dumps(head, indent=1)[:-2] + f',\n "reliability": {{\n{bins}\n }},\n "rows": [\n{_lines(found["rows"], 2)}\n ]\n}}\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote. Raises DataError where there is no such file, or another kind of file."""
    if not path.is_file():
        raise DataError(f"expected a results file at {path}, found none: scripts/evaluate.py writes one")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: expected a results file, found no JSON ({error.msg}, line {error.lineno})") from None
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list) or not found["rows"]:
        raise DataError(f'{path}: expected a results file with "rows", as scripts/evaluate.py writes it, found another JSON')
    return found
