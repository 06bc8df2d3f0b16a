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


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training", "expected key=value"),
        ("schema.time.unit=s", r'"time" is .ts. in the file and has no keys'),
        ("x=[1", "expected a YAML value"),
        ("data.split.validation=March 3", "ISO 8601"),
        ("evaluation.slices=[devise]", 'found "devise".*Did you mean "device"'),
        ("recommend.weights={clik: 1}", 'found "clik".*Did you mean "click"'),
        ("schema.profile={age: {kind: number}}", "without data.users"),
        ("schema.item_text=[title]", "without data.items"),
        ("data.rules.max_duration=.inf", "finite number"),
    ],
)
def test_an_override_or_a_section_that_does_not_fit_is_named(tmp_path, override, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        load_config(write(tmp_path, GOOD), [override])
    assert "\n" not in str(error.value)


def test_natural_yaml_is_understood(tmp_path):
    text = GOOD.replace("context: [device]", "context: [device, temperature: {kind: number}]")
    text = text.replace("log.csv}", "log.csv, split: {validation: 2026-03-03, test: 2026-03-04}}")
    config = load_config(write(tmp_path, text), ["training.minutes=2"])
    assert config.columns.context["temperature"].kind == "number"
    assert config.data.split.test == "2026-03-04" and config.training.minutes == 2
