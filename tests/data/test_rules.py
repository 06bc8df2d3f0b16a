"""Cleaning rules of one's own, and the stop where a rule would drop a great part of the log."""

import pytest

from recllm.config import load_config
from recllm.data.prepare import check, prepare
from recllm.data.rules import OTHER_RULES, reasons, row_rules
from recllm.errors import ConfigError, DataError
from tests.conftest import small_log
from tests.data.test_prepare import read
from tests.data.test_shapes import SHOP, daily, log_of, visit


def with_rule(shop, sql, name="internal", log=None, **rules):
    """A log and a rule of the user's own."""
    return shop(log or small_log(), rules={"custom": [{"name": name, "reason": "staff accounts", "sql": sql}], **rules})


def test_a_rule_of_ones_own_drops_counts_and_explains_its_rows(shop):
    # given a log with rows of staff
    lines = small_log().splitlines()
    log = "\n".join([*lines, *(line.replace("u1,", "staff-1,") for line in lines[30:36])]) + "\n"
    config = with_rule(shop, "\"user\" LIKE 'staff%' AND duration >= 0", log=log)
    report = prepare(config)
    # then they are dropped under its name, and kept beside the shards
    assert report.dropped == {"internal": 6} and report.rows == 144
    assert set(read(config.prepared, "dropped")["reason"]) == {"internal"}
    assert "internal: staff accounts" in report.text(config) and reasons(config.columns, config.data.rules)["internal"] == "staff accounts"
    # and a check says so too
    assert check(config)[0][1].dropped == {"internal": 6}


@pytest.mark.parametrize("sql", [
    "user LIKE 'u1%'", "hour(make_timestamp(time * 1000)) < 0", "device IN ('fridge', 'toaster')", "coalesce(temperature, 0) > 1e6",
    "CASE WHEN click = 1 THEN duration < -1 END", "item BETWEEN 'x' AND 'y' -- of old", "regexp_matches(item, '[;]')", "device = 'a;b'",
    "list_contains(list_transform([1, 2], lambda x: x + 1), 7)", "nullif(duration, 0) IS NULL AND false", "item COLLATE nocase = 'ZZ'"])
def test_conditions_over_a_row_are_rules(shop, sql):
    config = with_rule(shop, sql, confirmed=["internal"])
    assert prepare(config).read == 144


@pytest.mark.parametrize(("sql", "expected"), [
    ("usr = 'a'", 'Referenced column "usr" not found'),
    ("user LIKE", "expected one SQL condition over a row"),
    ("duration", "true or false, found 'duration' of type DOUBLE"),
    ("true; DROP TABLE typed", "expected one SQL condition"),
    ("true); COPY (SELECT 1) TO 'x.csv' --", "expected one SQL condition"),
    ("true) FROM read_csv('/etc/passwd') WHERE (true", "found a statement of its own"),
    ("true) UNION SELECT (false", "found a statement of its own"),
    ("true), (false", "found a statement of its own"),
    ("user IN (SELECT content FROM read_text('/etc/passwd'))", "found a subquery"),
    ("EXISTS (SELECT 1)", "found a subquery"),
    ("count(*) > 3", 'found "count_star"'),
    ("row_number() OVER () > 3", "found a window"),
    ("random() < 0.5", 'found "random"'),
    ("time > epoch_ms(now())", 'found "now"'),
    ("user = current_setting('home_directory')", 'found "current_setting"'),
    ("user = getenv('HOME')", 'found "getenv"'),
    ("device = main.lower(device)", 'found "lower"'),
    ("nextval('s') = 1", 'found "nextval"'),
    ("user = $1", "expected"),
    ("lower(click, 3)", "No function matches"),
])
def test_anything_else_is_refused_before_a_row_is_read(shop, sql, expected):
    config = with_rule(shop, sql)
    for call in (prepare, check):
        with pytest.raises(ConfigError, match=expected) as error:
            call(config)
        assert "\n" not in str(error.value) and "data.rules.custom.internal" in str(error.value)
    assert not config.folder.exists() or not any(config.folder.iterdir())


def test_a_row_for_which_a_condition_cannot_be_computed_is_kept(shop):
    # given a condition that divides text of which some is no number
    log = small_log().replace(",tv,", ",7,")
    assert prepare(with_rule(shop, "CAST(device AS INTEGER) = 7", log=log, confirmed=["internal"])).dropped == {"internal": 72}


def test_names_of_rules_are_those_that_there_are(shop):
    with pytest.raises(ConfigError, match="expected a name that no other rule has"):
        prepare(with_rule(shop, "true", name="bad_click"))
    with pytest.raises(ConfigError, match="expected a name that no other rule has"):
        prepare(with_rule(shop, "true", name="duplicate"))
    with pytest.raises(ConfigError, match='Did you mean "duplicate"'):
        prepare(shop(small_log(), rules={"confirmed": ["duplicates"]}))
    with pytest.raises(ValueError, match="pattern"):
        with_rule(shop, "true", name="not a name")


# ---- the stop

def test_a_rule_that_drops_too_much_stops_before_anything_is_replaced(shop):
    # given a prepared log
    config = shop(small_log())
    prepare(config)
    before = {path: path.read_bytes() for path in config.prepared.rglob("*") if path.is_file()}
    # when the next one says 40 times what no one can read
    worse = small_log() + "".join(f"u1,i1,never{k},,tv,Oslo,1,1,0,5\n" for k in range(40))
    with pytest.raises(DataError) as error:
        prepare(shop(worse))
    # then one line says which rule, how many, the first lines, and what to do
    text = str(error.value)
    assert "bad_time (time is empty or unreadable): 40 of 184, 21.7%" in text and "at most 20%" in text and "\n" not in text
    assert text.count("log.csv:") == 3 and "log.csv:146: {" in text and "never2" in text and "never3" not in text
    assert "data.rules.confirmed: [bad_time]" in text
    # and the old folder is as it was; what was read is kept, for the case that the rule is confirmed
    assert {path: path.read_bytes() for path in config.prepared.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in config.folder.iterdir()) == [".prepared.work", "prepared"]
    # and it runs where that is confirmed, or more is allowed
    assert prepare(shop(worse, rules={"confirmed": ["bad_time"]})).dropped == {"bad_time": 40}
    assert prepare(shop(worse, rules={"max_dropped": 0.25}), reuse=False).dropped == {"bad_time": 40}
    # a rule that is just at the limit passes
    assert prepare(shop("".join(worse.splitlines(keepends=True)[:-4]))).dropped == {"bad_time": 36}


@pytest.mark.parametrize(("more", "rule"), [("".join(small_log().splitlines(keepends=True)[1:60]), "duplicate"),
                                            ("broken\n" * 60, "malformed_line")])
def test_copies_and_lines_that_no_reader_takes_count_as_well(shop, more, rule):
    with pytest.raises(DataError, match=rf"found {rule} \(.*log\.csv:\d+: "):
        prepare(shop(small_log() + more))
    assert prepare(shop(small_log() + more, rules={"confirmed": [rule]})).rows == 144


def test_what_odd_roles_drop_counts_as_well(tmp_path):
    rows = [*daily(visit), *(("u1", "i1", 1_700_000_000 + k, "hover") for k in range(60))]
    config = log_of(tmp_path, "user,item,ts,event", rows, SHOP)
    with pytest.raises(DataError, match=r"unknown_event_type \(the type is not in schema.event_type.values\): 60 of 150, 40.0%"):
        prepare(config)


def test_a_confirmation_is_given_on_the_command_line_and_changes_no_prepared_folder(tmp_path, shop):
    # given a folder that was prepared with a confirmation
    import yaml

    config = shop(small_log() + "broken\n" * 60, rules={"confirmed": ["malformed_line"]})
    prepare(config)
    # then it stands, whether the confirmation is repeated or not
    said: list[str] = []
    plain = config.model_dump(mode="json", by_alias=True)
    plain["data"]["rules"]["confirmed"] = []
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(plain))
    confirmed = load_config(tmp_path / "shop.yaml", ["data.rules.confirmed=[malformed_line]"])
    assert confirmed.data.rules.confirmed == ["malformed_line"]
    for again in (confirmed, load_config(tmp_path / "shop.yaml")):
        prepare(again, say=said.append)
    assert said == [f"{config.prepared} is up to date"] * 2
    # and a rule of one's own makes another log of it
    with pytest.raises(DataError, match="malformed_line"):
        prepare(load_config(tmp_path / "shop.yaml", ["data.rules.custom=[{name: a, reason: b, sql: 'false'}]"]))


def test_every_rule_has_a_reason(shop):
    config = shop(small_log(), schema={"time": {"column": "ts", "zone_column": "tz"}})
    rules = row_rules(config.columns, config.data.rules)
    assert all(rule.reason and rule.sql for rule in rules) and all(OTHER_RULES.values())
    assert len({rule.name for rule in rules} | {*OTHER_RULES}) == len(rules) + len(OTHER_RULES)
