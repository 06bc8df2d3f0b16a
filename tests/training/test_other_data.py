"""A trained run whose data settings changed since its log was prepared: no command passes old rows off as those of the new settings."""

import yaml

from recllm.cli import main
from recllm.training.run import train
from tests.training.test_training import changed, quiet


def test_every_command_refuses_settings_that_the_prepared_log_does_not_have(tiny, tmp_path, capsys):
    # given
    config = changed(tiny, training={"epochs": 1})
    train(config, say=quiet)
    other = changed(config, data={"split": {"validation": 0.05, "test": 0.05}})
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(other.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    before = sorted(config.folder.rglob("*"))
    capsys.readouterr()
    # when, then
    for command in ("train", "evaluate", "release"):
        assert main([command, str(path)]) == 2
        said = capsys.readouterr().err.splitlines()
        assert "data.split.test is 0.05 here and " in said[-1] and said[-1].endswith("run prepare again, or put them back")
    assert sorted(config.folder.rglob("*")) == before
