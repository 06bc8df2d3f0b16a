"""Pseudonyms: the raw id of a user is in no file that was written, the key in none either, and nothing else changes."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recllm.cli import main
from recllm.config import Config, load_config
from recllm.data.prepare import check, prepare
from recllm.data.pseudonyms import read_key
from recllm.data.record import fingerprint
from recllm.errors import ConfigError
from tests.conftest import SCHEMA, small_log
from tests.data.test_prepare import read

KEY = "correct-horse-battery-staple-0017"
USERS = [f"Zoë.Quux-{k}@example" for k in range(6)]  # in no other word of what is written


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("RECLLM_KEY", KEY)


def named(text: str) -> str:
    """A small log with unusual ids of users, who are in the request's id as well."""
    for k, user in enumerate(USERS):
        text = text.replace(f"u{k},", f"{user},").replace(f"r{k}-", f"{user}#")
    return text


def expected(id: str) -> str:
    return hashlib.blake2b(id.encode(), key=KEY.encode(), digest_size=16).hexdigest()


def bad_rows() -> str:
    """A row for every way in which a row of the log is dropped."""
    user, good = USERS[2], named(small_log()).splitlines()[1]
    rows = [f"{user},,1700000000,q,tv,Oslo,1,1,0,5", f"{user},i1,yesterday,q,tv,Oslo,1,1,0,5", f"{user},i1,1,q,tv,Oslo,1,1,0,5",
            f"  {user}  ,i1,1700000001,q{user},tv,Oslo,1,maybe,0,5", f"{user},i1,1700000002,,tv,Oslo,1,1,0,-5",
            f"{user},i1,1700000003,,tv,Oslo,1,1,0,99999999", f"{user},i1,1700000004,,tv,Oslo,1,0,1,5", good,
            f"{user},i1,1700000006", f"{user},nowhere,1700000007,,tv,Oslo,1,1,0,5", "Zoë.Quux-stranger,i1,1700000008,,tv,Oslo,1,1,0,5"]
    rows += [f"Zoë.Quux-bot,i{k % 7},{1700000010 + k},,tv,Oslo,1,1,0,5" for k in range(40)]
    return "\n".join(rows) + "\n"


def everything_in(folder: Path) -> str:
    """All text of all files below a folder: raw bytes, names, and every cell of every Parquet file as text."""
    found = []
    for path in sorted(folder.rglob("*")):
        found.append(str(path.relative_to(folder)))
        if path.is_file():
            found.append(path.read_bytes().decode("utf-8", errors="replace"))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            found += [str(table.schema), *(str(cell) for column in table.columns for cell in column.to_pylist())]
        if path.suffix == ".arrow":
            found.append(str(pa.ipc.open_stream(path).read_all().to_pylist()))
    return "\n".join(found)


def messy(shop, **more) -> Config:
    users = "".join(json.dumps({"user_id": u, "age": 30 + k}) + "\n" for k, u in enumerate([*USERS, USERS[0], "Zoë.Quux-bot"]))
    items = "".join(json.dumps({"item_id": f"i{k}", "title": f"Thing {k}"}) + "\n" for k in range(7))
    rules = {"max_events_per_day": 30, "unknown_items": "drop", "unknown_users": "drop", "max_dropped": 1}
    return shop(named(small_log()) + bad_rows(), users=users, items=items, rules=rules, pseudonyms={"key_env": "RECLLM_KEY"},
                schema={"profile": {"age": {"kind": "number"}}, "item_text": ["title"]}, **more)


def test_no_file_holds_a_raw_id_or_the_key(shop, tmp_path):
    # given users in rows that are kept, and in rows dropped for every reason, in the log and in the users' table
    config = messy(shop)
    # when
    report = prepare(config)
    # then all of these reasons were met
    assert set(report.dropped) == {"missing_item", "bad_time", "time_out_of_range", "bad_click", "negative_duration", "absurd_duration",
                                   "purchase_without_click", "duplicate", "malformed_line", "unknown_item", "unknown_user", "bot"}
    assert report.tables["users"] == {"duplicate_id": 1}
    # and nothing that was written names a user or the key
    written = everything_in(tmp_path / "runs")
    assert len(written) > 50_000 and "Thing 3" in written
    assert "Quux" not in written and KEY not in written
    # but pseudonyms stand in their place, also in the raw rows that were dropped
    dropped = read(config.prepared, "dropped").set_index("reason")
    assert json.loads(dropped.loc["bad_click", "row"])["user_id"] == expected(USERS[2])
    assert json.loads(dropped.loc["bad_click", "row"])["click"] == "maybe"
    assert dropped.loc["malformed_line", "row"] == "" and dropped.loc["malformed_line", "line"] == 154
    assert set(pd.read_parquet(config.prepared / "users.parquet")["user"]) >= set(map(expected, USERS))


def test_only_the_ids_differ_from_a_preparation_without_pseudonyms(shop):
    # given
    hidden = messy(shop)
    plain = hidden.model_copy(update={"data": hidden.data.model_copy(update={"pseudonyms": None}), "name": "plain"})
    # when
    reports = [prepare(config) for config in (plain, hidden)]
    # then counts are equal, and so are the rows with each id mapped
    assert reports[0] == reports[1]
    frames = [read(config.prepared) for config in (plain, hidden)]
    frames[0]["user"], frames[0]["request"] = (frames[0][n].map(expected, na_action="ignore") for n in ("user", "request"))
    a, b = (f.sort_values(["user", "pos"], ignore_index=True) for f in frames)
    pd.testing.assert_frame_equal(a, b)
    pd.testing.assert_frame_equal(*(pd.read_parquet(c.prepared / "item_counts.parquet") for c in (plain, hidden)))


def test_people_who_are_items_are_hidden_as_items_too(tmp_path):
    # given a social log: items are users, and relations lead from users to users
    lines = [line.split(",") for line in named(small_log()).splitlines()]
    for cells in lines[1:]:
        cells[1] = USERS[int(cells[1][1:]) % 6]
    (tmp_path / "log.csv").write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")
    pairs = [f"{USERS[k]},{USERS[(k + 1) % 6]},1690000000" for k in range(6)] + [f"{USERS[0]},{USERS[0]},1690000000", f"{USERS[1]},,1"]
    (tmp_path / "relations.csv").write_text("\n".join(["user,other,since", *pairs, USERS[3]]) + "\n", encoding="utf-8")
    (tmp_path / "people.csv").write_text("\n".join(["item_id,about", *(f"{u},text {k}" for k, u in enumerate(USERS))]) + "\n",
                                         encoding="utf-8")
    data = {"interactions": str(tmp_path / "log.csv"), "relations": str(tmp_path / "relations.csv"), "items": str(tmp_path / "people.csv"),
            "pseudonyms": {"key_env": "RECLLM_KEY"}, "rules": {"max_dropped": 1}, "encoding": None}
    config = Config.model_validate({"name": "social", "data": data, "schema": {**SCHEMA, "relations": {}, "item_text": ["about"]}})
    # when
    prepare(config)
    # then
    written = everything_in(tmp_path / "runs")
    assert "Quux" not in written and "text 3" in written
    relations = pd.read_parquet(config.prepared / "relations.parquet")
    people = set(map(expected, USERS))
    assert len(relations) == 6 and set(relations["user"]) == set(relations["other"]) == people
    assert set(pd.read_parquet(config.prepared / "items.parquet")["item"]) == people == set(read(config.prepared)["item"])


def test_staged_sources_go_when_the_folder_stands(shop, tmp_path):
    # given a log in another encoding, which is transcoded into the run's folder
    config = shop(named(small_log()), pseudonyms={"key_env": "RECLLM_KEY"}, encoding="latin-1")
    (tmp_path / "log.csv").write_text(named(small_log()), encoding="latin-1")
    # when
    prepare(config)
    # then
    assert not (config.folder / "staged").exists() and "Quux" not in everything_in(tmp_path / "runs")
    assert expected(USERS[0]) in set(read(config.prepared)["user"])


def test_checking_a_log_prints_no_raw_id(shop):
    for _, result in check(messy(shop)):
        assert len(result.problems) == 8 and not [row for _, _, row in result.problems if "Quux" in (row or "")]


def test_the_key_decides_the_fingerprint_and_where_it_lies_does_not(shop, tmp_path, monkeypatch):
    config = messy(shop)
    (tmp_path / "key").write_text(KEY + "\n")
    of_file = config.data.model_copy(update={"pseudonyms": config.data.pseudonyms.model_copy(update={"key_env": None,
                                                                                                  "key_file": str(tmp_path / "key")})})
    first = fingerprint(config)
    assert fingerprint(config.model_copy(update={"data": of_file})) == first
    monkeypatch.setenv("RECLLM_KEY", KEY[::-1])
    assert fingerprint(config) != first


@pytest.mark.parametrize("settings", [{"key_env": "RECLLM_NO_SUCH"}, {"key_file": "nowhere"}, {"key_env": "SHORT"}, {"key_env": "LONG"},
                                      {"key_file": "runs/shop/key"}])  # fmt: skip
def test_a_key_that_cannot_be_used_is_one_line_without_the_key(shop, tmp_path, monkeypatch, settings):
    monkeypatch.setenv("SHORT", "swordfish")
    monkeypatch.setenv("LONG", "swordfish" * 20)
    monkeypatch.chdir(tmp_path)
    config = shop(named(small_log()), pseudonyms=settings)
    config.folder.mkdir(parents=True)
    (config.folder / "key").write_text(KEY)
    with pytest.raises(ConfigError, match=r"^data\.pseudonyms\.key_(env|file): expected") as error:
        prepare(config)
    assert "\n" not in str(error.value) and "swordfish" not in str(error.value) and KEY not in str(error.value)


@pytest.mark.parametrize("line", ["{key: '${RECLLM_KEY}'}", "{key_env: '${RECLLM_KEY}'}", "'${RECLLM_KEY}'", "{key_env: A, key_file: B}"])
def test_a_key_in_the_configuration_itself_is_refused_without_being_said(tmp_path, line):
    path = tmp_path / "shop.yaml"
    path.write_text(f"name: shop\ndata: {{interactions: log.csv, pseudonyms: {line}}}\n"
                    "schema: {user: u, item: i, time: t, outcomes: {click: {kind: binary}}}\n")
    with pytest.raises(ConfigError, match="pseudonyms") as error:
        load_config(path)
    assert KEY not in str(error.value) and "horse" not in str(error.value)


def test_a_field_that_would_write_the_id_is_refused(shop):
    with pytest.raises(ValueError, match="context.who reads the column of an id"):
        shop(named(small_log()), pseudonyms={"key_env": "RECLLM_KEY"}, schema={"context": {"who": {"column": "user_id"}}})


def test_a_user_finds_her_pseudonym(shop, tmp_path, capsys):
    config = messy(shop)
    path = tmp_path / "shop.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json", by_alias=True)))
    assert main(["pseudonym", str(path), USERS[0], USERS[1]]) == 0
    assert capsys.readouterr().out.split() == [expected(USERS[0]), expected(USERS[1])]
    assert read_key(config).of(USERS[0]) == expected(USERS[0])


def test_rows_that_are_kept_for_an_append_cannot_be_tried_out_without_the_key(shop):
    # given one log prepared with pseudonyms and without: rows are compared by a hash of all that they say, ids included
    def contents(config: Config) -> set[int]:
        prepare(config)
        tails = sorted((config.prepared / "partial").glob("tail-*.arrow"))
        return {n for tail in tails for n in pa.ipc.open_stream(tail.read_bytes()).read_all().column("content").to_pylist()}

    dates = {"split": {"validation": "2023-11-15T06:00:00", "test": "2023-11-15T10:00:00"}}
    plain = contents(shop(named(small_log()), name="log.csv", **dates))
    hidden = contents(shop(named(small_log()), name="log.csv", pseudonyms={"key_env": "RECLLM_KEY"}, **dates))
    # then what stands there says nothing to who has no key, and tells as many rows apart
    assert len(plain) == len(hidden) > 10 and not plain & hidden


def test_a_password_is_not_in_the_record(monkeypatch):
    from recllm.data import record

    monkeypatch.setattr(record, "source_state", lambda data, source: (0, "state"))
    data = Config.model_validate({"name": "x", "schema": SCHEMA, "data": {"interactions": "postgresql://me:hunter2@host/db?table=t"}}).data
    assert record.sources_of(data, data.interactions) == [("postgresql://me:***@host/db?table=t", "state")]
