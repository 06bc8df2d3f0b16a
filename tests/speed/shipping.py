"""What a training survives, whether it is the same on many processes, what it costs to start and what it leaves. `scripts/benchmark.py
training` writes the figures, part by part."""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
Say = Callable[[str], None]


def kills(say: Say, number: int, seed: int) -> dict[str, Any]:
    """Struck runs that ended, by the same command again, with the files of an undisturbed one."""
    from tests.training.survival import kills as struck

    found = struck(number, seed)
    log = found.pop("log")
    return {**found, "kill_log": [{name: value for name, value in entry.items() if name != "said"} for entry in log]}


def bitwise(say: Say) -> dict[str, Any]:
    from tests.training.survival import bitwise as resumed

    return resumed()


def processes(say: Say) -> dict[str, Any]:
    """Distance of the weights of N processes to those of one over the distance travelled: 50 steps, float64; and in float32 the first
    step's gradients and all losses."""
    from tests.training import processes as harness

    with harness.world() as (folder, path):
        one = {dtype: harness.run(folder, path, dtype, 1) for dtype in ("float64", "float32")}
        many = {(n, nodes): harness.run(folder, path, "float64", n, nodes) for n, nodes in ((2, 1), (4, 1), (2, 2))}
        single = harness.run(folder, path, "float32", 4)
    apart = {f"{n} on {nodes}": harness.distance(one["float64"], found) for (n, nodes), found in many.items()}
    return {"process_weight_difference": max(apart.values()), "process_weight_difference_by_processes_and_nodes": apart,
            "first_gradients_float32": harness.first_gradients(one["float32"], single),
            "losses_float32": harness.losses_apart(one["float32"], single),
            "every_row_once": all(harness.once(found) for found in [*one.values(), *many.values(), single])}


def balance(say: Say) -> dict[str, Any]:
    """How much longer than an even share the fullest of four processes' is, 95th percentile over the steps of an epoch."""
    from tests.training.processes import imbalance

    return {"rank_token_imbalance": imbalance(), "rank_token_imbalance_of_1536_tokens_in_all": imbalance(budget=1_536)}


def growth(say: Say) -> dict[str, Any]:
    from tests.speed.training import growth as grown

    return grown()


def shipped(say: Say, log: Path) -> dict[str, Any]:
    """MovieLens with the real MiniLM: start to first step, a checkpoint's size, and the three forms of what a short training gives."""
    from recllm.config import load_config
    from recllm.data.prepare import prepare
    from recllm.release import release
    from recllm.training.run import run_folder, train
    from tests.speed.release import forms
    from tests.speed.training import first_step_ratio

    os.environ["RECLLM_CACHE"] = str(log.absolute().parent)
    with TemporaryDirectory() as name:
        plain = yaml.safe_load((ROOT / "configs" / "movielens.yaml").read_text(encoding="utf-8"))
        plain |= {"root": name, "training": {"minutes": 0.2, "epochs": 1}}
        path = Path(name) / "movielens.yaml"
        path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
        config = load_config(path)
        prepare(config, say=say)
        start = first_step_ratio(path)
        train(config, again=True, say=say)
        newest = max((run_folder(config, config.training.seed) / "checkpoints").iterdir())
        folder = release(config, seed=config.training.seed, folder=None, results=None, form="full", name=None, say=say)
        weights = {f"{form}_{what}": value for form, found in forms(folder).items() for what, value in found.items()}
        return {**start, "checkpoint_mb": sum(p.stat().st_size for p in newest.iterdir()) / 1e6, **weights}


def large(say: Say) -> dict[str, Any]:
    """Peak memory of one step of a BERT-large-shaped encoder with LoRA, its layers computed again or kept."""
    from tests.speed.large import large as step

    return {"bert_large_step": {"recomputed": step(), "kept": step(gradient_checkpointing=False)}}
