"""A prepared folder keeps the settings that it was made with, and is read with no others."""

import json
import logging

import pandas as pd
import pytest

from recllm.config import Config
from recllm.data import settings
from recllm.data.forget import forget_prepared
from recllm.data.prepare import prepare
from recllm.errors import DataError
from recllm.feed.log import load_log
from tests.conftest import small_log

SETTINGS = {"split": {"validation": 0.15, "test": 0.3}, "negatives": {"per_event": 2}, "rules": {"max_duration": 100}, "period": 7200}


def quiet(_: str) -> None:
    return None


def with_data(config: Config, **data) -> Config:
    plain = config.model_dump(mode="json", by_alias=True)
    plain["data"] |= data
    return Config.model_validate(plain)


@pytest.fixture
def config(shop):
    """Of a log that is prepared."""
    made = shop(small_log(), **SETTINGS)
    prepare(made)
    return made


# what a config says now, and what the line says of it
CHANGES = {
    "split": ({"split": {"validation": 0.05, "test": 0.05}},
              "data.split.validation is 0.05 here and 0.15 in the folder; data.split.test is 0.05 here and 0.3 in the folder: run prepare"),
    "negatives": ({"negatives": {"per_event": 3, "from": "popularity"}},
                  'data.negatives.per_event is 3 here and 2 in the folder; data.negatives.from is "popularity" here and "uniform" in the'),
    "no negatives": ({"negatives": None}, "data.negatives is null here and {.*\"per_event\": 2.*} in the folder: run prepare again"),
    "rules": ({"rules": {"max_duration": 50, "custom": [{"name": "staff", "reason": "staff", "sql": "user = 'u1'\nOR false"}]}},
              r'data.rules.max_duration is 50.0 here and 100.0 in the folder; data.rules.custom is \[\{"name": "staff".* here and null in'),
    "period": ({"period": 60}, "data.period is 60 here and 7200 in the folder: run prepare again"),
    "pseudonyms": ({"pseudonyms": {"key_env": "KEY", "items": True}}, 'data.pseudonyms is {"items": true} here and null in the folder'),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_config_with_other_settings_is_refused_in_one_line_until_it_is_prepared(config, change, monkeypatch):
    # given
    data, expected = CHANGES[change]
    monkeypatch.setenv("KEY", "k" * 64)
    other = with_data(config, **data)
    # when, then
    with pytest.raises(DataError, match=expected) as error:
        load_log(other)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{config.prepared} was prepared with other settings: ")
    prepare(other)
    load_log(other)
    with pytest.raises(DataError, match="was prepared with other settings"):
        load_log(config)


def test_more_differences_than_a_line_holds_are_counted(config):
    rules = {"max_duration": 9, "max_events_per_day": 9, "unknown_items": "drop", "unknown_users": "drop", "min_time": "2001-01-01"}
    with pytest.raises(DataError, match="data.rules.unknown_users is .*; and 2 more: run prepare again"):
        load_log(with_data(config, rules=rules, period=60, shards=3))


def test_what_does_not_decide_the_rows_may_change(config, tmp_path, caplog):
    # given a log that was moved and has grown, read with other machinery
    (tmp_path / "moved.csv").write_text((tmp_path / "log.csv").read_text() + "u9,i1,1700000000,r9,tv,Oslo,1,1,0,5\n", encoding="utf-8")
    (tmp_path / "log.csv").unlink()
    rules = SETTINGS["rules"] | {"max_dropped": 1, "confirmed": ["duration"]}
    other = with_data(config, interactions=[str(tmp_path / "moved.csv")], workers=3, memory="1GB", executor="ray", rules=rules,
                      simulate={"days": 9}, storage={"anon": True})
    # when, then
    pd.testing.assert_frame_equal(load_log(other).frame, load_log(config).frame)
    assert not caplog.records


def test_the_file_holds_no_key_and_no_path(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("A_KEY_OF_OURS", "k" * 64)
    config = shop(small_log(), pseudonyms={"key_env": "A_KEY_OF_OURS"}, storage={"secret": "hush"})
    prepare(config)
    text = (config.prepared / settings.SETTINGS).read_text(encoding="utf-8")
    assert not any(word in text for word in ("A_KEY_OF_OURS", "kkk", "hush", str(tmp_path)))
    # then who trains on it needs no key
    monkeypatch.delenv("A_KEY_OF_OURS")
    load_log(config)


def test_a_folder_of_before_loads_with_one_line_until_it_is_prepared(config, caplog):
    # given
    (config.prepared / settings.SETTINGS).unlink()
    mark = (config.prepared / "fingerprint").stat()
    other = with_data(config, period=60)
    # when
    with caplog.at_level(logging.WARNING):
        assert len(load_log(other).frame) == len(load_log(config).frame)
    # then
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "\n" not in said[0] and said[0].startswith(f"{config.prepared}: prepared by an earlier version")
    # when it is prepared with what it was made of, nothing is done again and the settings are known
    prepare(config)
    assert (config.prepared / "fingerprint").stat().st_ino == mark.st_ino
    load_log(config)
    with pytest.raises(DataError, match="data.period is 60 here and 7200 in the folder"):
        load_log(other)


@pytest.mark.parametrize("known", [True, False])
def test_forgetting_with_another_config_does_not_pass_it_off_as_the_folders_own(config, known):
    # given
    path = config.prepared / settings.SETTINGS
    before = path.read_bytes()
    if not known:
        path.unlink()
    # when
    forget_prepared(with_data(config, period=60), ["u1"], quiet)
    # then
    assert path.read_bytes() == before if known else not path.exists()
    assert "u1" not in load_log(config).users


def test_what_a_later_version_leaves_out_or_adds_is_named(config):
    path = config.prepared / settings.SETTINGS
    path.write_text(json.dumps(json.loads(path.read_text()) | {"thinned": 3}), encoding="utf-8")
    with pytest.raises(DataError, match="data.thinned is null here and 3 in the folder"):
        load_log(config)
