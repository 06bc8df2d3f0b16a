"""A search for settings: what it reads, that it goes on after a kill, that test rows play no part, what it leaves behind."""

import copy
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from recllm.cli import main
from recllm.config import load_config
from recllm.config.tune import known_settings, load_tune
from recllm.data.prepare import prepare
from recllm.errors import ConfigError, DataError, FullDiskError, MissingExtraError, StoppedTrainingError, TrainingError
from recllm.training import checkpoint
from recllm.training import tune as module
from recllm.training.loop import Trainer
from recllm.training.run import run_folder, train
from recllm.training.setup import TEST, Setup
from recllm.training.tune import tune
from tests.worlds import rich_config

ROOT = Path(__file__).parents[2]
SPACE = {
    "training.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "model.layers": {"choices": [1, 2]},
    "model.recent_days": {"choices": [[], [1, 7]]},
}


def quiet(_: str) -> None:
    return None


@pytest.fixture
def search(tmp_path, tiny_encoder):
    """search(**changes) -> path of a search over a prepared log: three trials of two epochs."""
    config = rich_config(tmp_path, tiny_encoder)
    plain = json.loads(config.model_dump_json(by_alias=True))
    plain["model"]["encoder"], plain["training"]["tokens_per_batch"] = "${TINY}", 384
    (tmp_path / "rich.yaml").write_text("# scripts/train.py rich.yaml\n" + yaml.safe_dump(plain), encoding="utf-8")
    prepare(config)

    def make(name: str = "space", **changes) -> Path:
        path = tmp_path / f"{name}.yaml"
        whole = {"config": str(tmp_path / "rich.yaml"), "trials": 3, "startup": 2, "space": SPACE, **changes}
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        return path

    return make


@pytest.fixture(autouse=True)
def _encoder(monkeypatch, tiny_encoder):
    monkeypatch.setenv("TINY", tiny_encoder)


def folder_of(name: str = "space") -> Path:
    return Path(os.environ["RECLLM_RUNS"]) / "rich" / "tune" / name


def trials(folder: Path):
    """(state, settings, value, values at each evaluation) of every trial of a study."""
    import optuna

    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / 'study.db'}")
    return [(t.state.name, t.params, t.value, t.intermediate_values) for t in study.trials]


def ended(folder: Path):
    return [t for t in trials(folder) if t[0] in ("COMPLETE", "PRUNED")]


# ---- a whole search


def test_its_best_configuration_trains_to_the_value_that_was_found(search, tmp_path):
    found = tune(search(pruner="none"), say=quiet)
    folder = folder_of()
    # then the first trial is the configuration as it is, and the best is the least
    done = trials(folder)
    assert [t[0] for t in done] == ["COMPLETE"] * 3
    assert done[0][1] == {"training.learning_rate": 2e-3, "model.layers": "2", "model.recent_days": "[1.0, 7.0]"}
    assert found.value == min(t[2] for t in done) and found.trained == 3
    # and nothing is left of the others
    best = int(np.argmin([t[2] for t in done]))
    assert [p.name for p in (folder / "trials").iterdir()] == [f"{best:04d}"]
    assert sorted(p.name for p in folder.iterdir()) == ["best.yaml", "lock", "study.db", "trials"]
    # when the file that it names is trained, as it stands
    text = (folder / "best.yaml").read_text()
    assert text.startswith(f"# scripts/train.py {folder / 'best.yaml'}\n") and "${TINY}" in text
    config = load_config(folder / "best.yaml")
    for name, value in found.settings.items():
        section, key = name.split(".")
        assert getattr(getattr(config, section), key) == value
    assert main(["train", str(folder / "best.yaml")]) == 0
    # then it gets to where the trial got
    assert checkpoint.position(run_folder(config, config.training.seed) / "best")["best"] == pytest.approx(found.value, abs=1e-6)


def test_a_trial_that_falls_behind_is_pruned_and_leaves_no_run(search, monkeypatch):
    # given a third trial whose losses are far above those of the others
    evaluate, runs = Trainer.run, []

    def worse(self):
        runs.append(self)
        if len(runs) == 3:
            watch = self.watch
            self.watch = lambda record: watch({**record, "validation": {n: v + 9 for n, v in record["validation"].items()}})
        return evaluate(self)

    monkeypatch.setattr(Trainer, "run", worse)
    said = []
    found = tune(search(), say=said.append)
    # then it ends after its first evaluation, and the best is among the others
    states = trials(folder_of())
    assert [t[0] for t in states] == ["COMPLETE", "COMPLETE", "PRUNED"] and len(states[2][3]) == 1
    assert found.pruned == 1 and "pruned after 1 evaluations" in said[-1] and "0002" not in os.listdir(folder_of() / "trials")


def test_a_trial_that_diverges_is_a_bad_place_and_the_search_goes_on(search, monkeypatch):
    run, runs = Trainer.run, []

    def diverges(self):
        runs.append(self)
        if len(runs) == 2:
            raise TrainingError("validation loss is nan at step 7")
        return run(self)

    monkeypatch.setattr(Trainer, "run", diverges)
    said = []
    assert tune(search(), say=said.append).pruned == 1
    assert "stopped: validation loss is nan at step 7" in said[1]
    # and where all of them do, the first reason is told
    monkeypatch.setattr(Trainer, "run", lambda self: (_ for _ in ()).throw(TrainingError("validation loss is nan at step 3")))
    with pytest.raises(TrainingError, match="found none of 2: validation loss is nan at step 3"):
        tune(search("other", trials=2), say=quiet)


def test_a_model_that_the_encoder_has_no_room_for_is_a_bad_place(search):
    found = tune(search(space={"model.stride": {"choices": [8, 500]}}, startup=3, seed=1, pruner="hyperband"), say=quiet)
    assert found.settings == {"model.stride": 8}


# ---- kills


def test_killed_and_called_again_it_ends_as_one_that_was_not_killed(search, tmp_path):
    """A real kill, in the middle of the second trial."""
    expected = tune(search("whole"), say=quiet)
    path = search("killed")
    code = f"""
        import os, signal
        from recllm.training.loop import Trainer
        from recllm.training.tune import tune
        evaluate, calls = Trainer._evaluate, []
        def killed(self):
            calls.append(1)
            evaluate(self)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        Trainer._evaluate = killed
        tune({str(path)!r})
    """
    (tmp_path / "killed.py").write_text("\n".join(line[8:] for line in code.splitlines()), encoding="utf-8")
    done = subprocess.run([sys.executable, tmp_path / "killed.py"], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert [t[0] for t in trials(folder_of("killed"))] == ["COMPLETE", "RUNNING"]
    assert len(os.listdir(folder_of("killed") / "trials")) == 2
    # when the same command is given again
    said = []
    found = tune(path, say=said.append)
    # then the trial that ran has failed, was tried again with the same settings, and all ends as it would have
    assert [t[0] for t in trials(folder_of("killed"))][:3] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert said[0] == "trial 1 was cut short and is tried again"
    assert ended(folder_of("killed")) == ended(folder_of("whole")) and len(ended(folder_of("whole"))) == 3
    assert found.settings == expected.settings and found.value == expected.value
    assert len(os.listdir(folder_of("killed") / "trials")) == 1


def at_step(monkeypatch, n, act):
    """`act` as the n-th step of all trials begins. A trial has six."""
    step, steps = Trainer._step, []

    def counted(self, *given):
        steps.append(1)
        if len(steps) == n:
            act()
        step(self, *given)

    monkeypatch.setattr(Trainer, "_step", counted)


def full(_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("kind", "status"), [("SIGTERM", 143), ("disk", 2)])
def test_a_signal_or_a_full_disk_within_a_trial_ends_the_search_and_the_same_command_goes_on(search, monkeypatch, capsys, kind, status):
    found, path = tune(search("whole"), say=quiet), search("struck")
    # given a second trial that is struck
    with monkeypatch.context() as patch:
        number = getattr(signal, kind, None)
        at_step(patch, 8, lambda: os.kill(os.getpid(), number) if number else patch.setattr(checkpoint, "flush", full))
        assert main(["tune", str(path)]) == status
    # then it says so, spends no other trial, and holds nothing against the settings
    said = capsys.readouterr().err
    expected = "found No space left" if kind == "disk" else f"stopped by {kind} in trial 2 of 3, which is tried again: the same command"
    assert expected in said and "is written" not in said and said.count("recllm: ") == 1 and "Traceback" not in said
    assert [t[0] for t in trials(folder_of("struck"))] == ["COMPLETE", "RUNNING"]
    # when the same command is given again, then it ends as one that was not struck
    assert main(["tune", str(path)]) == 0
    assert ended(folder_of("struck")) == ended(folder_of("whole")) and len(ended(folder_of("whole"))) == 3
    assert tune(path, say=quiet).value == found.value and len(os.listdir(folder_of("struck") / "trials")) == 1


def test_a_signal_as_a_trial_ends_is_heard_by_the_search(search, monkeypatch):
    tune(search("whole"), say=quiet)
    finish = Trainer._finish

    def late(self):
        finish(self)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_finish", late)
        with pytest.raises(StoppedTrainingError, match="stopped by SIGTERM: the same command goes on"):
            tune(search("late"), say=quiet)
    # then what the trial found stands
    assert [t[0] for t in trials(folder_of("late"))] == ["COMPLETE"] and (folder_of("late") / "best.yaml").is_file()
    tune(search("late"), say=quiet)
    assert trials(folder_of("late")) == trials(folder_of("whole"))


def test_a_disk_that_does_not_take_the_study_is_named_by_its_file(search, monkeypatch):
    limits, run = resource.getrlimit(resource.RLIMIT_FSIZE), Trainer.run

    def filled(self):
        done = run(self)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", filled)
        try:
            with pytest.raises(FullDiskError, match=r"study.db: expected a disk that takes it, found .*: free some room, and the same"):
                tune(search(), say=quiet)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [t[0] for t in trials(folder_of())] == ["RUNNING"]
    assert tune(search(), say=quiet).trained + tune(search(), say=quiet).pruned == 3


@pytest.mark.parametrize("trials", ["0", "-1"])
def test_fewer_trials_than_one_are_refused(search, capsys, trials):
    assert main(["tune", str(search()), "--trials", trials]) == 2
    assert capsys.readouterr().err == f"recllm: --trials: expected at least 1, found {trials}\n"


def test_more_trials_go_on_and_as_many_are_done_at_once(search, monkeypatch):
    path = search()
    assert main(["tune", str(path), "--trials", "1"]) == 0
    first = trials(folder_of())
    found = tune(path, trials=2, say=quiet)
    assert trials(folder_of())[0] == first[0] and len(trials(folder_of())) == 2
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("nothing is left to do"))
    assert tune(path, trials=2, say=quiet) == found


# ---- what it may not read, and what it refuses


def test_test_rows_play_no_part(search, monkeypatch):
    expected = tune(search("plain"), say=quiet)
    # given a log whose test rows have other labels, items and contexts, and a split that nobody may take
    load, examples = module.load_log, Setup.examples

    def poisoned(config):
        log = copy.deepcopy(load(config))
        test = log.split == TEST
        assert test.sum() > 50
        for name in ("click", "purchase"):
            log.frame.loc[test, name] = 1 - log.frame.loc[test, name].fillna(0)
        log.frame.loc[test, "duration"] = 599.0
        log.frame.loc[test, "device"] = "fridge"
        log.item[test] = log.item[test][::-1]
        return log

    def guarded(self, split, since=None, until=None):
        assert split != TEST
        return examples(self, split, since, until)

    monkeypatch.setattr(module, "load_log", poisoned)
    monkeypatch.setattr(Setup, "examples", guarded)
    found = tune(search("poisoned"), say=quiet)
    # then nothing changes, to the last digit
    assert [t[1:] for t in trials(folder_of("poisoned"))] == [t[1:] for t in trials(folder_of("plain"))]
    assert (found.value, found.settings) == (expected.value, expected.settings)


def test_other_settings_under_the_same_name_are_refused(search):
    tune(search(trials=1), say=quiet)
    with pytest.raises(TrainingError, match=r"changed since: space\): pass --again"):
        tune(search(trials=1, space={"model.dropout": {"low": 0, "high": 0.3}}), say=quiet)
    with pytest.raises(TrainingError, match=r"changed since: training\)"):
        tune(search(trials=1), ["training.epochs=1"], say=quiet)
    # when it is to be replaced
    found = tune(search(trials=1, space={"model.dropout": {"low": 0, "high": 0.3}}), again=True, say=quiet)
    assert found.settings == {"model.dropout": 0.1}


def test_a_second_process_is_refused_while_one_is_at_it(search):
    folder_of().mkdir(parents=True)
    with (folder_of() / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TrainingError, match="found another process at it"):
            tune(search(), say=quiet)


def test_a_launch_of_several_an_absent_extra_and_a_log_that_is_not_prepared_are_named(search, monkeypatch):
    path = search()
    with pytest.raises(DataError, match="run scripts/prepare.py"):
        tune(path, ["name=elsewhere"], say=quiet)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="without accelerate launch"):
        tune(path, say=quiet)
    monkeypatch.setattr(module, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recllm\[tune\]'"):
        tune(path, say=quiet)


@pytest.mark.parametrize(("changes", "expected"), [
    ({"space": {"training.learning_rat": {"low": 1, "high": 2}}}, 'found "training.learning_rat". Did you mean "training.learning_rate"?'),
    ({"space": {"training.learning_rate": {"lwo": 1, "high": 2}}}, 'Did you mean "low"?'),
    ({"space": {"training.learning_rate": {"low": 1}}}, "expected low and high, or choices"),
    ({"space": {"training.learning_rate": {"low": 2, "high": 1}}}, "expected low below high"),
    ({"space": {"training.learning_rate": {"low": 0, "high": 1, "log": True}}}, "expected low above 0"),
    ({"space": {"model.layers": {"low": 1, "high": 2.5}}}, "model.layers: expected whole numbers, found 1 to 2.5"),
    ({"space": {"model.layers": {"low": 1, "high": 2, "choices": [1, 2]}}}, "expected either choices, or low and high"),
    ({"space": {"model.layers": {"choices": [2, 2]}}}, "expected each choice once"),
    ({"space": {"model.layers": {"choices": [0, 2]}}}, 'space.model.layers: 0 is none that the configuration allows'),
    ({"space": {"model.dropout": {"low": 0.5, "high": 1.5}}}, '"model.dropout": Input should be less than 1'),
    ({"space": {"model.encoder": {"low": 1, "high": 2}}}, "model.encoder: expected choices, found low and high"),
    ({"space": {"model.duration_bins": {"low": 6, "high": 9}}}, "model.duration_bins cannot be searched: losses over another number"),
    ({"space": {"training.seed": {"low": 0, "high": 9}}}, "training.seed cannot be searched"),
    ({"space": {}}, '"space"'),
    ({"trails": 3}, 'unknown key "trails"'),
    ({"config": "nowhere.yaml"}, "expected a YAML configuration at nowhere.yaml"),
])
def test_a_mistake_in_the_file_names_the_key_and_the_remedy(search, changes, expected):
    with pytest.raises(ConfigError) as error:
        load_tune(search(**changes))
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_minutes_of_the_search_are_each_trials(search):
    _, raw = load_tune(search(minutes=2))
    assert raw["training"]["minutes"] == 2
    assert "training.minutes" not in known_settings()


def test_the_search_of_the_repository_loads_and_says_its_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "configs" / "tune").glob("*.yaml")):
        assert path.read_text(encoding="utf-8").startswith(f"# scripts/tune.py configs/tune/{path.name}\n")
        search, _ = load_tune(path)
        assert set(search.space) <= set(known_settings())


def test_every_evaluation_is_shown_to_who_watches(search, tmp_path):
    """The hook is all that a search needs of the loop; `train` itself goes without."""
    from recllm.feed.log import load_log
    from recllm.training.setup import setup

    config = load_config(tmp_path / "rich.yaml")
    records = []
    progress = Trainer(setup(config, load_log(config)), tmp_path / "watched", 0, watch=records.append).run()
    assert records == progress.history and len(records) == 2
    assert train(config, say=quiet).log
