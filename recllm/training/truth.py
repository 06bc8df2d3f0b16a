"""Against a simulated log's known probabilities: how near a model comes, what each part of the moment is worth, what clicks earn."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recllm.config import Config
from recllm.config.recommend import Auction
from recllm.data.simulate import World, load_world
from recllm.evaluation import metrics
from recllm.evaluation.predictions import with_model
from recllm.evaluation.revenue import BLIND, revenue
from recllm.feed.examples import Examples
from recllm.feed.score import score
from recllm.training.setup import TEST, Setup

PREFIX = "p_click"  # columns of truth.parquet: the truth, and the best that lacks something (p_click_blind: the whole moment)
BLIND_COLUMN = f"{PREFIX}_blind"


def truth_rows(config: Config, made: Setup, item: np.ndarray) -> pd.DataFrame:
    """The rows of truth.parquet of the test rows, whose item codes (n,) are given, in their order."""
    truth = pd.read_parquet(Path(config.data.interactions[0]).parent / "truth.parquet").set_index(["request_id", "item_id"])
    request = made.log.frame["request"].to_numpy()[np.concatenate([g.row for g in made.examples(TEST).groups])]
    return truth.loc[list(zip(request, np.array(made.log.items)[item], strict=True))]


def truth_facts(config: Config, made: Setup, frames: list[pd.DataFrame]) -> dict[str, Any]:
    """How much of the log-loss gap between the best context-blind predictor and the truth is recovered, mean over seeds.

    `ideal` are AUC and log loss of the truth and of the best predictors that lack something. `shuffled` is the share recovered by the
    first seed when one field of the test rows is permuted among them, `missing` when an input is unknown in every test row.
    """
    rows = truth_rows(config, made, frames[0]["item"].to_numpy())
    y, p_true, p_blind = frames[0]["y_click"].to_numpy(), rows[PREFIX].to_numpy(), rows[BLIND_COLUMN].to_numpy()
    best, blind = metrics.logloss(y, p_true), metrics.logloss(y, p_blind)
    facts: dict[str, Any] = {"n": len(y), "logloss_truth": best, "logloss_blind": blind, "gap": blind - best}
    found = [f["p_click"].to_numpy() for f in frames]
    facts["recovered"] = float(np.mean([(blind - metrics.logloss(y, p)) / (blind - best) for p in found]))
    facts["mean_error"] = float(np.mean([np.abs(p - p_true).mean() for p in found]))
    facts["ideal"] = {name.removeprefix(PREFIX).strip("_") or "truth": {"auc": metrics.auc(y, rows[name].to_numpy()),
                                                                        "logloss": metrics.logloss(y, rows[name].to_numpy())}
                      for name in rows if str(name).startswith(PREFIX)}
    tries = {"shuffled": shuffles(made), "missing": absences(made)}
    for kind, examples in tries.items():
        facts[kind] = {name: _recovered(config, made, ready, y, facts) for name, ready in examples.items()}
    return facts | {"shuffled_context_recovered": facts["shuffled"]["everything"]["recovered"]}


def _recovered(config: Config, made: Setup, examples: Examples, y: np.ndarray, facts: dict[str, Any]) -> dict[str, float]:
    """{"recovered", "auc"} of the model on changed test examples."""
    scores = score(made.model, examples, 4 * config.training.tokens_per_batch, made.model.device)
    p = with_model(pd.DataFrame(index=range(len(y))), made.model.heads, scores, config.columns.duration)["p_click"].to_numpy()
    return {"recovered": (facts["logloss_blind"] - metrics.logloss(y, p)) / facts["gap"], "auc": metrics.auc(y, p)}


def shuffles(made: Setup) -> dict[str, Examples]:
    """Test examples in which one context field, the time of day, or the whole moment is that of another test row."""
    rows = np.flatnonzero(made.log.split == TEST)
    other = np.random.default_rng(0).permutation(rows)
    slots = [*made.processor.by_group["context"], *made.processor.by_group["time"]]
    ends = np.cumsum([0, *(s.width for s in slots)])
    columns = {s.name: list(range(a, b)) for s, a, b in zip(slots, ends, ends[1:], strict=False)}
    columns.pop("gap")  # no column of the moment: it is computed from the history
    clock = [c for s in made.processor.by_group["time"] if s.name in columns for c in columns.pop(s.name)]
    columns |= {"time of day and week": clock}
    plain, found = made.examples(TEST), {}  # encoded once: a change copies the columns, not the work
    for name in [*columns, *made.processor.texts, "everything"]:
        examples = copy.copy(plain)
        examples.timeline = timeline = copy.deepcopy(plain.timeline)
        chosen = np.array(sorted(c for n, cs in columns.items() if name in (n, "everything") for c in cs), dtype=np.int64)
        for part in (timeline.cat, timeline.weight):
            part[np.ix_(rows, chosen)] = part[np.ix_(other, chosen)]
        for column, text in enumerate(made.processor.texts):
            if name in (text, "everything"):
                timeline.text[rows, column] = timeline.text[other, column]
        if name == "everything":
            timeline.num[rows] = timeline.num[other]
        found[name] = examples
    return found


def absences(made: Setup) -> dict[str, Examples]:
    """Test examples without the precomputed item vectors, and without any relation, where the log has them."""
    found = {}
    sizes = made.processor.spec["item_vectors"]
    if sizes:
        examples = made.examples(TEST)
        vector = made.processor.items.vector.copy()
        vector[:, -sum(sizes.values()) :] = 0.0
        examples.processor = copy.copy(made.processor)
        examples.processor.items = replace(made.processor.items, vector=vector)
        found["item vectors"] = examples
    if made.log.relations is not None:
        examples = made.examples(TEST)
        assert examples.relations is not None
        examples.relations.edges = {}
        found["relations"] = examples
    return found


def revenue_facts(config: Config, made: Setup, frames: dict[str, list[pd.DataFrame]]) -> dict[str, Any]:
    """What the click probabilities of each model (name -> a frame a seed) earn by auction on the test slates; {} without bids."""
    frame, world = frames["recllm"][0], load_world(Path(config.data.interactions[0]).parent / "world.json")
    if not isinstance(world, World):
        return {}
    truth = truth_rows(config, made, frame["item"].to_numpy())
    bids = pd.Series({item["item_id"]: item["bid"] for item in world.items})
    bid = bids.loc[np.array(made.log.items)[frame["item"]]].to_numpy(dtype=np.float64)
    models = {"truth": [truth[PREFIX].to_numpy()], BLIND: [truth[BLIND_COLUMN].to_numpy()]}
    models |= {name: [f["p_click"].to_numpy() for f in seeds] for name, seeds in frames.items() if "p_click" in seeds[0]}
    auction = (config.recommend.auction or Auction()).model_dump()
    return revenue(frame["user"].to_numpy(), frame["request"].to_numpy(), bid, truth[PREFIX].to_numpy(), models, auction,
                   config.evaluation.bootstrap)
