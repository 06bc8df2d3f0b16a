"""`scripts/release.py`: a trained run as one folder with its model card, and that folder on the Hub (DESIGN 7).

The writing itself is the recommender's, so that a notebook does the same.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recllm.config import Config
from recllm.data.sources.places import shown
from recllm.model.push_recllm import listing, push_folder
from recllm.recommend.build import recommender_of
from recllm.release.card import Training, card, plots
from recllm.training import checkpoint
from recllm.training.results import foreign, read
from recllm.training.run import load_trained, run_folder
from recllm.training.setup import TRAIN, Setup, encoder_label

Say = Callable[[str], None]


def release(config: Config, *, seed: int | None = None, folder: Path | None = None, results: Path | None = None,
            form: str | None = None, name: str | None = None, say: Say = lambda _: None) -> Path:
    """Write the release of a finished run and return its folder; `form` goes before the config's `release.form`, `name` is the card's
    address on the Hub. Raises TrainingError where there is no such run, ReleaseError where the folder or the form will not do, DataError
    where `results` is no results file; figures of other weights are left out, and that is said."""
    made = load_trained(config, seed)
    found = _measured(config, config.training.seed if seed is None else seed, results, say)
    drawn = plots(found, say)
    plain, form = portable(config), form or config.releases.form
    text = card(config, plain, found, training_facts(made, seed), list(drawn), form, name)
    counts = config.releases.counts
    return recommender_of(made).save_pretrained(folder or config.release, text, plain, form=form, counts=counts, plots=drawn)


def _measured(config: Config, seed: int, results: Path | None, say: Say) -> dict[str, Any] | None:
    """The results of the weights that are released, None without any."""
    path = results or config.folder / "results.json"
    found = read(path) if results or path.is_file() else None  # a file that was asked for must be there
    if found and (why := foreign(found, config, seed)):
        say(f"the card says \"Not evaluated\": expected figures of the weights that are released in {path}, found others ({why}): run "
            f"scripts/evaluate.py with this config and --seeds {seed}, then scripts/release.py again")
        return None
    return found


def training_facts(made: Setup, seed: int | None) -> Training:
    """What a run cost, as its checkpoint and its model say."""
    seed = made.config.training.seed if seed is None else seed
    position = checkpoint.position(run_folder(made.config, seed) / "best") or {}
    parameters, log = list(made.model.parameters()), made.log
    rows = (log.split == TRAIN) & log.frame["scored"].to_numpy(dtype=bool)
    if made.kept:
        rows &= log.time() >= made.kept.trained_until
    return Training(seed=seed, seconds=position.get("seconds"), steps=position.get("step"), best_step=position.get("best_step"),
                    processes=position.get("world_size"), rows=int(rows.sum()),
                    trainable=sum(p.numel() for p in parameters if p.requires_grad), parameters=sum(p.numel() for p in parameters))


def push(folder: Path, repo_id: str, *, private: bool = False, revision: str | None = None, dry_run: bool = False,
         say: Say = lambda _: None) -> str:
    """Upload a written release and return where it is; a dry run lists names and bytes and uploads nothing."""
    if dry_run:
        files = listing(folder)
        lines = [f"{size:>13,}  {name}" for name, size in files]
        tag = f", tag {revision}" if revision else ""
        lines.append(f"{sum(size for _, size in files):>13,}  bytes in {len(files)} files would go to {repo_id}"
                     f"{' (private)' if private else ''}{tag}; nothing was uploaded")
        return "\n".join(lines)
    return push_folder(folder, repo_id, private=private, revision=revision, say=say)


def portable(config: Config) -> dict[str, Any]:
    """The training configuration without paths of this machine, addresses and keys."""
    plain = config.model_dump(mode="json", by_alias=True, exclude={"root": True, "data": {"storage", "out", "executor_options"}})
    for key in ("interactions", "users", "items", "relations"):
        plain["data"][key] = [Path(shown(p)).name for p in plain["data"][key]]
    if plain["data"]["pseudonyms"]:  # where the key lies is nobody's business
        plain["data"]["pseudonyms"] = {"items": config.pseudonymous_items}
    plain["model"]["encoder"] = encoder_label(plain["model"]["encoder"])
    return plain


__all__ = ["portable", "push", "release", "training_facts"]
