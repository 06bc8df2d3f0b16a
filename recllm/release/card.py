"""The model card: what a release is for, what it was made of, what was measured and what it cost, from the results file."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from recllm.config import Config
from recllm.errors import MissingExtraError
from recllm.evaluation.command import kept_command
from recllm.evaluation.page import plots as drawing
from recllm.evaluation.report import LOWER_IS_BETTER, SHOWN, cells, first_binary, markdown, number, slice_groups
from recllm.model.forms_recllm import PACKAGES

FORMS = {"full": "every weight; `peft` has to be installed",
         "adapter": "adapters and new parts; the encoder is fetched, and its weights checked, when it is loaded; `peft` has to be "
                    "installed",
         "merged": "every weight, adapters added into the encoder; loads without `peft`"}


@dataclass(frozen=True)
class Training:
    """What a run cost. None where its checkpoint does not say."""

    seed: int
    seconds: float | None
    steps: int | None
    best_step: int | None
    processes: int | None
    rows: int
    trainable: int
    parameters: int


def card(config: Config, plain: dict[str, Any], found: dict[str, Any] | None, training: Training, pictures: list[str], form: str,
         name: str | None = None) -> str:
    """README.md of a release as the Hub reads it: metadata with `model-index`, then use, data, figures, limits and cost.

    `plain` is the configuration without anything of this machine, `found` the results file's content if there is one, `pictures` are file
    names beside the card, `name` its address on the Hub.
    """
    found = _publishable(found) if found else None
    parts = [_use(config, name or "THIS_FOLDER_OR_HUB_ID", form), _data(config, plain), _measured(found), _slices(found),
             _calibration(found, pictures), _limits(config, plain), _cost(training)]
    body = "\n\n".join(part for part in parts if part)
    return ModelCard(f"---\n{_metadata(config, plain, found).to_yaml()}\n---\n\n# {config.name}\n\n{body}\n").content


def plots(found: dict[str, Any] | None, say: Callable[[str], None]) -> dict[str, bytes]:
    """File name -> PNG of each outcome's calibration; none without results, or without matplotlib, which is then said."""
    made: dict[str, bytes] = {}
    try:
        for task, bins in (found or {}).get("reliability", {}).items():
            binary = _is_binary(found or {}, task)
            made[f"calibration-{len(made)}.png"] = drawing.agreement_png(bins, title=task, percent=binary, unit="" if binary else ", s")
    except MissingExtraError as error:
        say(f"the card shows calibration as a table: {error}")
        return {}
    return made


def _is_binary(found: dict[str, Any], task: str) -> bool:
    return any(r["task"] == task and r["metric"] == "logloss" for r in found["rows"])


def _publishable(found: dict[str, Any]) -> dict[str, Any]:
    """Results whose command is what may be published of it: files of earlier versions hold it as it was typed."""
    return {**found, "command": kept_command(str(found.get("command", "")))}


def _metadata(config: Config, plain: dict[str, Any], found: dict[str, Any] | None) -> ModelCardData:
    encoder = plain["model"]["encoder"]
    base = PACKAGES.get(encoder, encoder if "/" in encoder else None)  # a folder's name is no address
    return ModelCardData(model_name=config.name, library_name="transformers", pipeline_tag="other", tags=["recommendation", "recllm"],
                         base_model=base, license=config.releases.license, eval_results=_results(config, found) or None,
                         ignore_metadata_errors=False)


def _results(config: Config, found: dict[str, Any] | None) -> list[EvalResult]:
    """The release's figures of the whole test split, as the Hub's model-index has them: an interval is an argument of its metric."""
    made = []
    for (model, task, metric), row in cells(found, "fresh").items() if found else ():
        if model != "recllm" or metric not in SHOWN or not math.isfinite(row["mean"]):
            continue
        kind = "tabular-classification" if _is_binary(found or {}, task) else "tabular-regression"
        bounds = {k: row[k] for k in ("low", "high") if math.isfinite(row[k])}
        made.append(EvalResult(task_type=kind, dataset_type=config.name, dataset_name=config.name, dataset_split="test", metric_type=metric,
                               metric_value=row["mean"], metric_name=f"{task} {metric}",
                               metric_args={"outcome": task, **bounds, "rows": row["n"], "seeds": row["seeds"]}))
    return made


def _cell(text: Any) -> str:
    """A value of the log as it may stand in a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _table(rows: list[list[Any]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _use(config: Config, address: str, form: str) -> str:
    schema = config.columns
    context = ", ".join(["time", *schema.context])
    profile = f", profile ({', '.join(schema.profile)})" if schema.profile else ""
    return f"""A context-aware recommender made with recllm: it predicts {', '.join(schema.outcomes)} of a candidate item from a user's
history{profile} and moment ({context}). {config.note}

## Use

```python
import transformers

pipe = transformers.pipeline("recommendation", model="{address}", trust_remote_code=True)
pipe({{"profile": {{}}, "history": [], "context": {{}}}}, top_k=5)
```

Without `candidates` it ranks its whole catalogue. Where recllm is installed, `recllm.Recommender.from_pretrained("{address}")` loads it
without remote code. This is the {form} form: {FORMS[form]}.

It ranks items of its own catalogue, and new ones by their text, for people like those of its log. Do not use its probabilities to decide
about a person, or on another site's traffic without calibrating them there."""


def _data(config: Config, plain: dict[str, Any]) -> str:
    split = config.data.split
    said = config.releases.data or "Its licence is not stated: set `release.data` and `release.license` in the config, and release again."
    sampled = " Negatives were sampled: probabilities are on that distribution." if config.data.negatives else ""
    encoder = plain["model"]["encoder"]
    named = PACKAGES.get(encoder)
    return f"""## Data and licences

The log `{config.name}`, split by time (validation {split.validation}, test {split.test}); what is fitted comes from the train split
alone.{sampled} {said}

Text is read by the pretrained encoder `{encoder}`{f" ({named})" if named else ""}, whose own licence applies to its weights. The folder
holds the items' catalogue, their counts by period and the fitted vocabularies (each value of a category field that train saw, be it once);
it holds no user id and no row of the log."""


def _measured(found: dict[str, Any] | None) -> str:
    if found is None:
        return "## Measured\n\nNot evaluated: run scripts/evaluate.py, then scripts/release.py again."
    rows: list[list[Any]] = [["task", "metric", "recllm", "95% interval", "rows"]]
    for (model, task, metric), row in cells(found, "fresh").items():
        if model == "recllm" and metric in SHOWN:
            better = "lower" if metric in LOWER_IS_BETTER else "near .80" if metric == "coverage" else "higher"
            rows.append([task, f"{metric} ({better} is better)", number(row["mean"], metric),
                         f"{number(row['low'], metric)} to {number(row['high'], metric)}", f"{row['n']:,}"])
    return f"## Measured\n\n{_table(rows)}\n\nBeside the baselines:\n\n{markdown(found)}"


def _slices(found: dict[str, Any] | None) -> str:
    groups = slice_groups(found, task := first_binary(found)) if found else {}
    rows = [[name, r["value"], f"{r['mean']:.4f}", f"{r['low']:.4f} to {r['high']:.4f}", f"{r['n']:,}"] for name, part in groups.items()
            for r in part]
    return f"## By slice\n\nAUC of {task}:\n\n{_table([['slice', 'value', 'AUC', '95% interval', 'rows'], *rows])}" if rows else ""


def _calibration(found: dict[str, Any] | None, pictures: list[str]) -> str:
    bins = (found or {}).get("reliability", {})
    if not bins:
        return ""
    if pictures:
        shown = "\n\n".join(f"![{_cell(task)}, observed against predicted]({file})" for task, file in zip(bins, pictures, strict=True))
    else:
        shown = _table([["task", "predicted", "observed", "95% interval", "predictions"],
                        *([task, f"{b['p']:.4g}", f"{b['y']:.4g}", f"{b['low']:.4g} to {b['high']:.4g}", f"{b['n']:,}"]
                          for task, rows in bins.items() for b in rows)])
    return f"## Calibration\n\nWhat was predicted on the test split against what was observed, in bins of equal size.\n\n{shown}"


def _limits(config: Config, plain: dict[str, Any]) -> str:
    thin = {"full": "", "daily": " They are thinned to one state a day.",
            "last": " Those of earlier moments are left out: requests before the end of the log see older counts, or none."}
    return f"""## Limits

Item counts are those at the end of the prepared log.{thin[config.releases.counts]} An item's counts of a period with a
single event say what came of it, though not whose it was. An item without text, and never seen in training, is scored from the moment and
the user alone. Probabilities are calibrated on the validation days of the log that the model was trained on. It learned what people of one
log did in one span of time, with whatever that log favoured. Settings: {plain['model']['layers']} layers, LoRA rank
{plain['model']['lora_rank']}, see `training_config.json`."""


def _cost(training: Training) -> str:
    known = {"wall clock": f"{training.seconds / 60:,.1f} minutes" if training.seconds is not None else None,
             "processes": training.processes, "optimiser steps": f"{training.steps:,}" if training.steps is not None else None,
             "step of the kept weights": f"{training.best_step:,}" if training.best_step is not None else None, "seed": training.seed,
             "scored train rows": f"{training.rows:,}", "trained parameters": f"{training.trainable:,} of {training.parameters:,}"}
    return "## Training cost\n\n" + _table([["what", "how much"], *([k, v] for k, v in known.items() if v is not None)])
