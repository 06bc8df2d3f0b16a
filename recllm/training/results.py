"""Results of trained runs beside the baselines, on the same rows: `{"command", "commit", "weights", "rows", ...}` in one JSON file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from recllm.config import Config
from recllm.errors import DataError
from recllm.evaluation.baselines import create
from recllm.evaluation.command import kept_command
from recllm.evaluation.evaluator import evaluate
from recllm.evaluation.features import FeatureTable
from recllm.evaluation.predictions import label_frame, with_baseline, with_model
from recllm.evaluation.probes import probes
from recllm.evaluation.reliability import reliability
from recllm.evaluation.tables import feature_table
from recllm.feed.score import score
from recllm.model.files_recllm import whole_file
from recllm.training import checkpoint
from recllm.training.folder import commit
from recllm.training.run import load_trained, run_folder
from recllm.training.setup import TEST, TRAIN, VALIDATION, Setup
from recllm.training.truth import revenue_facts, truth_facts

Say = Callable[[str], None]


def _rows(config: Config, frames: list[pd.DataFrame], model: str, counters: str) -> list[dict[str, Any]]:
    settings = config.evaluation
    return evaluate(frames, config.columns.outcomes, model=model, counters=counters, bootstrap=settings.bootstrap,
                    min_slice=settings.min_slice)


def _counter_states(made: Setup, both: bool) -> list[tuple[str, int | None]]:
    """(name, moment after which item counts are frozen). Frozen counts are what a release without a running counter service reads."""
    return [("fresh", None), *([("frozen", made.log.report.cuts[0])] if both else [])]


def model_rows(config: Config, seeds: list[int], say: Say) -> tuple[list[dict[str, Any]], Setup, list[pd.DataFrame], dict[str, str]]:
    """(rows of the model over all seeds, the first seed's setup, the fresh prediction frames, seed -> hash of the weights measured)."""
    frames: dict[str, list[pd.DataFrame]] = {}
    weights: dict[str, str] = {}
    first: Setup | None = None
    for seed in seeds:
        made = load_trained(config, seed)
        weights[str(seed)] = checkpoint.weights_sum(run_folder(config, seed) / "best")
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
    return rows, first, frames["fresh"], weights


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


def _kept(row: dict[str, Any]) -> bool:
    """Whether a baseline's row is kept: all of the whole test split, and of its slices what is compared (the file would be megabytes)."""
    return row["slice"] == "all" or (row["metric"] in ("auc", "mae") and row["counters"] == "fresh")


def _also_rows(name: str, path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """recllm's rows out of another results file, under another name: the same log with something left out; and that file's facts."""
    found = read(path)
    rows = [{**row, "model": name} for row in found["rows"] if row["model"] == "recllm" and _kept(row)]
    return rows, {"command": kept_command(found["command"]), "commit": found["commit"], "seeds": found.get("seeds"),
                  "truth": found.get("truth")}


def results(config: Config, seeds: list[int], command: str, *, export: Path | None = None, also: dict[str, Path] | None = None,
            say: Say = print) -> dict[str, Any]:
    """Everything that `scripts/evaluate.py` writes; `also`: name -> results file of a variant. Raises TrainingError where a seed is not
    trained."""
    for name in config.evaluation.baselines:
        create(name)  # an unknown name or a missing extra is found before anything is scored
    columns = {name: _also_rows(name, path) for name, path in (also or {}).items()}  # a wrong file is found before anything is scored
    rows, made, frames, weights = model_rows(config, seeds, say)
    kept, more = {"recllm": frames}, dict[str, Any]()
    if config.data.format == "simulate":
        say("against the known probabilities")
        more["truth"] = truth_facts(config, made, frames)
    rows += baseline_rows(config, made, seeds, say, export, kept)
    earned = revenue_facts(config, made, kept) if config.data.format == "simulate" else {}
    more |= {"revenue": earned} if earned else {}
    if config.data.windowed:
        more["probes"] = probes(config, made.log)
    rows = [row for row in rows if row["model"] == "recllm" or _kept(row)]
    for name, (found, facts) in columns.items():
        counts = {r["n"] for r in found if r["slice"] == "all"}, {r["n"] for r in rows if r["slice"] == "all" and r["model"] == "recllm"}
        if counts[0] != counts[1]:
            raise DataError(f"--also {name}: expected figures of the same test rows ({sorted(counts[1])}), found {sorted(counts[0])}: "
                            f"evaluate the variant again")
        rows += found
        more.setdefault("also", {})[name] = facts
    sampled = " Negatives are sampled: figures are on that distribution." if config.data.negatives else ""
    bins = reliability(frames, dict(config.columns.outcomes), config.evaluation.bootstrap)
    return {"command": kept_command(command), "commit": commit(), "note": config.note + sampled, "seeds": seeds, "weights": weights,
            "rows": rows, "reliability": bins, **more}


def foreign(found: dict[str, Any], config: Config, seed: int) -> str | None:
    """Why a results file's figures are not those of a seed's trained weights, None where they are."""
    weights = found.get("weights")
    if not isinstance(weights, dict):
        return "they do not say which weights were measured"
    if str(seed) not in weights:
        return f"seed {seed} was not measured"
    if weights[str(seed)] != checkpoint.weights_sum(run_folder(config, seed) / "best"):
        return f"other weights of seed {seed} were measured, before it was trained again or under another configuration"
    return None


def _lines(rows: list[dict[str, Any]], indent: int) -> str:
    return ",\n".join(" " * indent + json.dumps(row) for row in rows)


def write(found: dict[str, Any], path: Path) -> None:
    """One row of figures, one bin of the reliability per line, so that a diff shows what moved; written aside and renamed."""
    head = {k: v for k, v in found.items() if k not in ("rows", "reliability")}
    text = json.dumps(head, indent=1)[:-2]
    if "reliability" in found:
        bins = ",\n".join(f"  {json.dumps(name)}: [\n{_lines(rows, 3)}\n  ]" for name, rows in found["reliability"].items())
        text += f',\n "reliability": {{\n{bins}\n }}'
    text += f',\n "rows": [\n{_lines(found["rows"], 2)}\n ]\n}}\n'
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


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
