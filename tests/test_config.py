"""Configuration files: every mistake ends in one line that names the key, what was found, and the nearest valid name."""

import pytest

from recllm.config import load_config
from recllm.errors import ConfigError

GOOD = """
name: shop
data: {interactions: log.csv}
schema:
  user: user_id
  item: item_id
  time: ts
  context: [device]
  outcomes: {click: {kind: binary}}
"""


def write(tmp_path, text):
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    return path


def test_short_forms_are_expanded(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config.data.interactions == ["log.csv"]
    assert config.columns.time.column == "ts"
    assert config.columns.context["device"].kind == "category"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("user: user_id", "usr: user_id", 'Did you mean "user"'),
        ("interactions:", "interaction:", 'Did you mean "interactions"'),
        ("kind: binary", "kind: binari", "outcomes.click.kind"),
        ("time: ts", "time: {column: ts, zone: Mars/Base}", "IANA"),
        ("{kind: binary}", "{kind: duration}", "at least one outcome of kind: binary"),
        ("{kind: binary}", "{kind: binary, given: buy}", "given"),
        ("context: [device]", "context: [click]", "used twice or reserved"),
    ],
)
def test_a_mistake_names_the_key_and_the_remedy(tmp_path, old, new, expected):
    assert old in GOOD
    with pytest.raises(ConfigError, match=r"shop\.yaml") as error:
        load_config(write(tmp_path, GOOD.replace(old, new)))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_environment_and_overrides(tmp_path, monkeypatch):
    text = GOOD.replace("log.csv", "'${SHOP_LOG}'")
    monkeypatch.delenv("SHOP_LOG", raising=False)
    with pytest.raises(ConfigError, match="SHOP_LOG is not set"):
        load_config(write(tmp_path, text))
    monkeypatch.setenv("SHOP_LOG", "/tmp/a.csv")
    config = load_config(write(tmp_path, text), ["training.seed=7"])
    assert config.data.interactions == ["/tmp/a.csv"]
    assert config.training.seed == 7


def test_missing_file_and_broken_yaml(tmp_path):
    with pytest.raises(ConfigError, match="found no file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(write(tmp_path, "a: [1"))
