"""A search for better settings on validation (`scripts/tune.py`): trials of one configuration in an Optuna study beside its run.

Akiba et al. 2019, "Optuna: a next-generation hyperparameter optimization framework". The study is one SQLite file. A search that was
killed or stopped goes on when called again and ends as one that was not: the sampler's draws are keyed by how many trials ended before.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from recllm.config import Config
from recllm.config.files import read_yaml, validated
from recllm.config.tune import TuneConfig, is_whole, load_tune, with_settings
from recllm.data.work import FINGERPRINT
from recllm.errors import ConfigError, FullDiskError, MissingExtraError, StoppedTrainingError, TrainingError
from recllm.feed.log import Log, load_log
from recllm.model.errors_recllm import ReleaseError
from recllm.model.files_recllm import whole_file
from recllm.training.loop import Trainer
from recllm.training.record import room
from recllm.training.setup import setup
from recllm.training.stopping import Stop

try:
    import optuna
    from optuna.trial import TrialState
except ImportError:  # an extra; `tune` says how to install it
    optuna = None  # type: ignore[assignment]

STUDY, BEST = "study.db", "best.yaml"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    config: Path  # a configuration file that trains with the best settings
    value: float  # its validation loss
    settings: dict[str, Any]  # section.name -> value
    trained: int
    pruned: int

    def text(self) -> str:
        """What to do with it, in a few lines."""
        lines = [f"best validation loss {self.value:.4f} of {self.trained} trials trained to their end and {self.pruned} pruned:"]
        lines += [f"  {name}: {value}" for name, value in self.settings.items()]
        return "\n".join([*lines, f"scripts/train.py {self.config}"])


def tune(path: str | Path, overrides: list[str] | None = None, *, trials: int | None = None, again: bool = False,
         say: Say = print) -> Tuned:
    """Run a search, or go on with it until `trials` (default: the file's) have ended. Test rows play no part in it.

    Raises MissingExtraError without Optuna, ConfigError for a wrong file or no `trials`, DataError without a prepared log, TrainingError
    where the study belongs to another search, is in use, or no trial could be trained; StoppedTrainingError after a signal, and
    FullDiskError: after both the same call goes on with the trial that was struck.
    """
    if optuna is None:
        raise MissingExtraError("scripts/tune.py: optuna is not installed: pip install 'recllm[tune]'")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("scripts/tune.py: expected one process, found a launch of several: call it without accelerate launch")
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials: expected at least 1, found {trials}")
    search, raw = load_tune(path, overrides)
    config = validated(raw, search.config, Config)
    folder, log = config.folder / "tune" / Path(path).stem, load_log(config)
    with _alone(folder):
        if again:
            for name in (STUDY, BEST, "trials"):
                _remove(folder / name)
        try:
            return _Study(search, raw, config, log, folder, say).run(trials or search.trials)
        except optuna.exceptions.StorageInternalError as error:
            found = " ".join(str(error.__cause__ or error).split())[:160]
            raise FullDiskError(f"{folder / STUDY}: expected a disk that takes it, found {found}: free some room, and the same command "
                                f"goes on") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A second process would take the first one's running trial for a killed one. The lock goes with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{folder}: expected a search that nobody else runs, found another process at it: wait for it") from None
        yield


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Study:
    """One search over one log. In `folder`: the study, `trials/NNNN` of the best trial (and of one that runs), `best.yaml`."""

    def __init__(self, search: TuneConfig, raw: dict[str, Any], config: Config, log: Log, folder: Path, say: Say) -> None:
        self.search, self.raw, self.config, self.log, self.folder, self.say = search, raw, config, log, folder, say
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        pruners: dict[str, Any] = {"median": optuna.pruners.MedianPruner(n_startup_trials=search.startup),
                                   "hyperband": optuna.pruners.HyperbandPruner(), "none": optuna.pruners.NopPruner()}  # fmt: skip
        self.study = optuna.create_study(storage=f"sqlite:///{(folder / STUDY).absolute()}", study_name="tune", load_if_exists=True,
                                         pruner=pruners[search.pruner])
        self.space = {name: self._distribution(name) for name in search.space}
        self.stop: Stop | None = None  # the last trial's
        self._same_search()
        self._restore()

    def _distribution(self, name: str) -> Any:
        values = self.search.space[name]
        if values.choices is not None:  # as JSON: a study keeps plain values only, and lists are none
            return optuna.distributions.CategoricalDistribution([self._param(name, choice) for choice in values.choices])
        low, high, step = (cast(Any, end) for end in (values.low, values.high, values.step))
        if is_whole(name):
            return optuna.distributions.IntDistribution(low, high, log=values.log, step=step or 1)
        return optuna.distributions.FloatDistribution(low, high, log=values.log, step=step)

    def _param(self, name: str, value: Any) -> Any:
        """A setting as the study keeps it."""
        choices = self.search.space[name].choices
        return value if choices is None else json.dumps(choices[choices.index(value)])  # 1.0 is the choice 1

    def _settings(self, params: dict[str, Any]) -> dict[str, Any]:
        """A trial's settings as they stand in a configuration."""
        choices = {name for name, values in self.search.space.items() if values.choices is not None}
        return {name: json.loads(params[name]) if name in choices else params[name] for name in self.search.space}

    def _same_search(self) -> None:
        """Trials compare only on equal terms. Raises TrainingError naming what changed since the study began."""
        mark = self.config.prepared / FINGERPRINT
        plain = {**self.search.model_dump(mode="json", exclude={"trials", "config"}),
                 **self.config.model_dump(mode="json", include={"model": True, "training": True, "columns": True}),
                 "the prepared log": mark.read_text() if mark.is_file() else ""}  # fmt: skip
        known = self.study.user_attrs
        changed = [name for name, value in plain.items() if name in known and known[name] != value]
        if changed:
            raise TrainingError(f"{self.folder} holds a search of other settings (changed since: {', '.join(changed)}): pass --again to "
                                f"replace it, or give the file another name to keep both")
        for name, value in plain.items():
            if name not in known:
                self.study.set_user_attr(name, value)

    def _restore(self) -> None:
        """Put right what a kill left: its running trial has failed and is tried again. A new study begins with the configuration's own
        values, as far as they lie in the space."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params.keys() == self.space.keys():
                self.study.enqueue_trial(trial.params)
                self.say(f"trial {trial.number} was cut short and is tried again")
        if not self.study.trials:
            own = {name: getattr(getattr(self.config, section), key) for name in self.space for section, key in [name.split(".")]}
            self.study.enqueue_trial({n: self._param(n, v) for n, v in own.items() if self.search.space[n].holds(v)})
        self._tidy()

    def _ended(self) -> list[Any]:
        return self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))

    def run(self, trials: int) -> Tuned:
        while (ended := len(self._ended())) < trials:
            self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=self.search.startup, seed=self.search.seed + ended)
            self._trial(self.study.ask(self.space), f"trial {ended + 1} of {trials}")
            self._tidy()
            if self.stop and self.stop.heard:  # as the trial ended
                raise self.stop.error()
        states = [t.state for t in self._ended()]
        if TrialState.COMPLETE not in states:
            reasons = [t.user_attrs["stopped"] for t in self._ended() if "stopped" in t.user_attrs]
            raise TrainingError(f"{self.folder}: expected a trial that trains to its end, found none of {len(states)}: {reasons[0]}")
        best = self.study.best_trial
        return Tuned(self.folder / BEST, self.study.best_value, self._settings(best.params), states.count(TrialState.COMPLETE),
                     states.count(TrialState.PRUNED))

    def _trial(self, trial: Any, title: str) -> None:
        settings = self._settings(trial.params)
        config = validated(with_settings(self.raw, settings), self.search.config, Config)
        weights, seen = {n: o.loss_weight for n, o in config.columns.outcomes.items()}, list[float]()

        def watch(record: dict[str, Any]) -> None:
            """Compare with other trials at the same evaluation: steps are not the same with other batches."""
            seen.append(sum(weights[n] * loss for n, loss in record["validation"].items()))
            trial.report(seen[-1], len(seen))
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            trainer = Trainer(setup(config, self.log), self._place(trial.number), config.training.seed, watch=watch)
            self.stop = trainer.stop
            value = trainer.run().best
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
            outcome = f"pruned after {len(seen)} evaluations at {seen[-1]:.4f}"
        except StoppedTrainingError:  # the machine's doing, and nothing about the settings: the trial runs on in the study, for `_restore`
            raise trainer.stop.error(f" in {title}, which is tried again") from None
        except FullDiskError:
            raise
        except (TrainingError, ReleaseError) as error:  # diverged, or no model of this shape: a bad place, and the search goes on
            trial.set_user_attr("stopped", str(error))
            self.study.tell(trial, state=TrialState.PRUNED)
            outcome = f"stopped: {error}"
        else:
            self.study.tell(trial, value)
            outcome = f"validation {value:.4f}, best {self.study.best_value:.4f}"
        self.say(f"{title}: {outcome}; {', '.join(f'{n} {v}' for n, v in settings.items())}")

    def _place(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def _tidy(self) -> None:
        """Keep the best trial's run alone, and write its configuration: whole, as its file would say it, and one that loads."""
        ended = self.study.get_trials(states=(TrialState.COMPLETE,))
        best = self.study.best_trial if ended else None
        keep = self._place(best.number) if best else None
        for place in sorted((self.folder / "trials").glob("*")):
            if place != keep:
                shutil.rmtree(place)
        if best is None:
            return
        path, settings = self.folder / BEST, self._settings(best.params)
        head = f"# scripts/train.py {path}\n# trial {best.number} of {self.search.config}: validation loss {best.value:.6f}\n"
        with room(path), whole_file(path) as part:
            part.write_text(head + yaml.safe_dump(with_settings(self.raw, settings), sort_keys=False, allow_unicode=True), encoding="utf-8")
            validated(read_yaml(part), str(path), Config)
