"""What `model.encoder` may name."""

import pytest

from recllm.errors import ConfigError
from recllm.training.setup import encoder_path


def test_a_package_that_ships_an_encoder_is_asked_for_its_path(tmp_path, monkeypatch):
    (tmp_path / "shipped_encoder.py").write_text("def get_model_path():\n    return '/somewhere/model'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert encoder_path("shipped_encoder") == "/somewhere/model"
    assert encoder_path("owner/name") == "owner/name" and encoder_path("no_such_package") == "no_such_package"


@pytest.mark.parametrize("name", ["numpy", "encoder", "broken_encoder"])
def test_what_python_imports_and_ships_no_encoder_is_one_line(tmp_path, monkeypatch, name):
    # given a folder of that name without a config.json, and a package that needs another
    (tmp_path / "encoder").mkdir()
    (tmp_path / "broken_encoder.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with pytest.raises(ConfigError, match=f'model.encoder: expected .*, found "{name}", which Python imports .*: pip install') as error:
        encoder_path(name)
    assert "\n" not in str(error.value)


def test_an_encoder_in_a_folder_here_is_a_folder_though_python_could_import_it(tmp_path, monkeypatch):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert encoder_path("encoder") == "encoder"
