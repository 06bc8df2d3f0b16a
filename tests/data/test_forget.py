"""Forgetting: the prepared folder is the one of a log without the user, nothing else names her, and a kill loses nothing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from recllm.cli import main
from recllm.data import forget as module
from recllm.data.forget import forget_prepared
from recllm.data.prepare import prepare
from recllm.data.pseudonyms import Forgotten
from recllm.data.record import fingerprint
from recllm.data.report import Report
from recllm.data.traces import Traces
from recllm.data.work import Work
from recllm.errors import DataError, StoppedError
from recllm.recommend.forget import forget
from tests.conftest import SCHEMA, small_log
from tests.data.test_prepare import read

GONE = "mallory@example"
SPLIT = {"validation": "2023-11-15T12:00:00Z", "test": "2023-11-15T18:00:00Z"}
RULES = {"max_events_per_day": 30, "max_dropped": 1}
FILES = ("item_counts", "items", "users", "segments")


def quiet(_: str) -> None:
    return None


def lines_of(user: str) -> list[str]:
    """A user's rows: kept ones, twins that are merged, an item of nobody else, an unreadable number, and one row for each reason."""
    rows = [f"{user},i{k % 7},{1_700_000_500 + k * 7_000},q{k},tv,Oslo,{k}.5,{k % 2},0,{k * 3}.125" for k in range(11)]
    rows += [f"{user},i1,1700050000,q,tv,Oslo,warm,1,1,0.5", f"{user},i1,1700050000,q,tv,Oslo,1,0,0,2.25"]
    rows += [f"{user},only-hers,1700060000,q,tv,Oslo,1,1,0,5", rows[3], f"{user},,1700000000,,tv,Oslo,1,1,0,5",
             f"  {user} ,i1,yesterday,,tv,Oslo,1,1,0,5", f"{user},i1,1700000001,,tv,Oslo,1,maybe,0,5", f"{user},i1,1700000006"]
    return rows


def with_user(user: str) -> str:
    """A log in which a user's rows stand between those of others, of whom one has dropped and merged rows as well."""
    others, theirs = small_log().splitlines(), lines_of(user)
    others += ["u1,i1,1700000003,,tv,Oslo,1,1,0,-5", "u1,i1", "u2,i1,1700050000,q,tv,Oslo,1,1,1,0.5", "u2,i1,1700050000,q,tv,Oslo,1,0,0,2"]
    return "\n".join([others[0], *theirs[:9], *others[1:80], *theirs[9:], *others[80:]]) + "\n"


def without(log: str, user: str) -> str:
    return "\n".join(line for line in log.splitlines() if not line.strip().startswith(user)) + "\n"


def both(shop, user=GONE, log="", **data):
    """(config of the log, config of the log without the user): in folders of their own, the second prepared."""
    log = log or with_user(user)
    users = [{"user_id": u, "age": 30} for u in (user, "u0", "u1", user)]
    made = []
    for name, text, table in (("with", log, users), ("without", without(log, user), [u for u in users if u["user_id"] != user])):
        config = shop(text, name=f"{name}.csv", users="".join(json.dumps(u) + "\n" for u in table),
                      **{"split": SPLIT, "rules": RULES, "schema": {"profile": {"age": {"kind": "number"}}}, **data})
        path = Path(config.data.users[0]).rename(Path(config.data.users[0]).with_name(f"{name}-users.jsonl"))
        config = config.model_copy(update={"name": name, "data": config.data.model_copy(update={"users": [str(path)]})})
        prepare(config)
        made.append(config)
    return made


def assert_same(config, other, but=(), unread=()):
    """Two prepared folders hold the same rows, tables and counts; only places in the sources differ."""
    for path in sorted((other.prepared / "data").glob("*.parquet")):
        assert (config.prepared / "data" / path.name).read_bytes() == path.read_bytes(), path.name
    for name in FILES:
        pd.testing.assert_frame_equal(*(pd.read_parquet(c.prepared / f"{name}.parquet") for c in (config, other)), check_exact=True)
    reports = [vars(Report.read_from(c.prepared)) for c in (config, other)]
    assert {k: v for k, v in reports[0].items() if k not in but} == {k: v for k, v in reports[1].items() if k not in but}
    frames = [read(c.prepared, "dropped")[["reason", "row"]].dropna() for c in (config, other)]
    kept = [f[~f["reason"].isin(["duplicate_id", *unread])].sort_values(["reason", "row"], ignore_index=True) for f in frames]
    pd.testing.assert_frame_equal(*kept)


def test_the_folder_is_the_one_of_a_log_without_the_user(shop):
    # given a user with kept, merged and dropped rows, who alone opened one item
    config, other = both(shop)
    before = Report.read_from(config.prepared)
    assert before.merged == 2 and set(before.dropped) >= {"missing_item", "bad_time", "bad_click", "malformed_line", "duplicate"}
    assert "only-hers" in set(pd.read_parquet(config.prepared / "items.parquet")["item"])
    # when
    found = forget_prepared(config, [GONE], quiet)
    # then rows, counts and report are those of the log without her
    assert_same(config, other)
    assert found.taken.rows == 13 and found.taken.inexact == []
    # and what a later preparation goes on from is as well
    for path in sorted((other.prepared / "done").glob("gather-*.json")):
        assert json.loads((config.prepared / "done" / path.name).read_text()) == json.loads(path.read_text()), path.name
    scattered = [json.loads((c.prepared / "done" / "scatter-0.json").read_text()) for c in (config, other)]
    assert {k: v for k, v in scattered[0].items() if k != "problems"} == {k: v for k, v in scattered[1].items() if k != "problems"}
    assert [p[1:] for p in scattered[0]["problems"]] == [p[1:] for p in scattered[1]["problems"]]
    # and the sources, which are untouched, are named
    assert {Path(source).name: n for source, n in found.raw.items()} == {"with.csv": 18, "with-users.jsonl": 2}


def test_several_users_at_once_and_twice_the_same(shop):
    config, other = both(shop)
    third = other.model_copy(update={"name": "third", "data": other.data.model_copy(update={"interactions": [other.data.interactions[0]]})})
    log = Path(other.data.interactions[0])
    log.write_text(without(without(log.read_text(), "u4,"), "u3,"))
    prepare(third)
    for _ in range(2):
        forget_prepared(config, [GONE, "u3", "u4"], quiet)
        assert_same(config, third)


def test_a_later_preparation_keeps_forgotten_users_out_and_counts_them(shop):
    # given
    config, other = both(shop)
    forget_prepared(config, [GONE], quiet)
    # then the folder is up to date
    said: list[str] = []
    prepare(config, say=said.append)
    assert said == [f"{config.prepared} is up to date"]
    # when the log is prepared again
    report = prepare(config, reuse=False)
    # then nothing of hers is in it but the number of her rows and their lines (one line could not be read, so nobody knows whose it is)
    assert report.dropped["forgotten"] == 18 and report.tables["users"]["forgotten"] == 2
    assert_same(config, other, but=("read", "dropped", "tables"), unread=["malformed_line"])
    assert report.read == Report.read_from(other.prepared).read + 19
    rows = read(config.prepared, "dropped").query("reason == 'forgotten'")["row"]
    assert len(rows) == 20 and rows.isna().all()
    assert not [path for path in config.folder.rglob("*") if path.is_file() and GONE.encode() in path.read_bytes()]


def test_pseudonyms_are_forgotten_by_the_raw_id(shop, monkeypatch):
    monkeypatch.setenv("RECLLM_KEY", "0123456789abcdef0123")
    config, other = both(shop, pseudonyms={"key_env": "RECLLM_KEY"})
    found = forget(config, [GONE], [], say=quiet)
    # a malformed line is stored without its content: her own is no different from that of others
    assert_same(config, other, but=("read", "dropped"), unread=["malformed_line"])
    assert found.left == 0 and found.prepared.taken.rows == 13
    # and another key cannot tell who was forgotten
    monkeypatch.setenv("RECLLM_KEY", "another-key-of-20-bytes")
    with pytest.raises(DataError, match="forgotten users under the key"):
        prepare(config)


def test_candidates_drawn_for_others_stay_and_hers_go(shop):
    schema = {"outcomes": {"click": {"kind": "binary", "every_row": True}}, "profile": {"age": {"kind": "number"}}}
    early = {"validation": "2023-11-15T01:00:00", "test": "2023-11-15T03:00:00"}  # everybody has seen every item by five
    config, other = both(shop, schema=schema, negatives={"per_event": 2, "window": 1}, split=early)
    before = read(config.prepared, "candidates")
    scored = read(config.prepared)[["user", "pos", "scored"]]
    # when
    forget_prepared(config, [GONE], quiet)
    # then
    after, report = read(config.prepared, "candidates"), Report.read_from(config.prepared)
    pd.testing.assert_frame_equal(after, before[before["user"] != GONE].reset_index(drop=True))
    assert report.candidates == len(after) < len(before)
    kept = read(config.prepared)[["user", "pos", "scored"]]
    pd.testing.assert_frame_equal(kept, scored[scored["user"] != GONE].reset_index(drop=True))
    assert report.unscored == (~kept["scored"]).sum()
    assert {s: f["rows"] for s, f in report.splits.items()} == {s: f["rows"] for s, f in Report.read_from(other.prepared).splits.items()}


def test_people_who_are_items_make_the_folder_again(tmp_path, shop):
    # given a social log, in which others have events with her, and relations lead to her
    people = [f"u{k}" for k in range(6)] + [GONE]
    lines = [line.split(",") for line in small_log().splitlines()]
    for cells in lines[1:]:
        cells[1] = people[int(cells[1][1:])]
    pairs = [f"{people[k]},{people[(k + 1) % 7]},1690000000" for k in range(7)]
    made = []
    for name, gone in (("with", "nobody"), ("without", GONE)):
        (tmp_path / f"{name}.csv").write_text("\n".join(",".join(c) for c in lines if c[1] != gone) + "\n")
        (tmp_path / f"{name}-r.csv").write_text("\n".join(["user,other,since", *(p for p in pairs if gone not in p)]) + "\n")
        config = shop(small_log(), split=SPLIT, shards=2)
        data = config.data.model_copy(update={"interactions": [str(tmp_path / f"{name}.csv")],
                                              "relations": [str(tmp_path / f"{name}-r.csv")],
                                              "rules": config.data.rules.model_copy(update={"max_dropped": 1})})
        schema = type(config.columns).model_validate({**SCHEMA, "relations": {}})
        made.append(config.model_copy(update={"name": name, "data": data, "columns": schema}))
        prepare(made[-1])
    # when
    found = forget(made[0], [GONE], [], say=quiet)
    # then
    assert found.prepared.again and found.left == 0
    assert_same(*made, but=("read", "dropped", "tables"))
    assert GONE not in set(pd.read_parquet(made[0].prepared / "relations.parquet").stack())


def test_without_the_sources_what_cannot_be_known_is_said(shop):
    config, other = both(shop)
    Path(config.data.interactions[0]).unlink()
    found = forget(config, [GONE], [], say=quiet)
    assert found.left == 0 and len(found.prepared.taken.inexact) == 1 and "sources not read" in found.text()
    assert_same(config, other, but=("read", "mended", "merged"))


def test_where_nothing_is_left_to_learn_the_folder_stands_and_one_line_says_so(shop):
    config, _ = both(shop)
    before = {p.name: p.read_bytes() for p in (config.prepared / "data").glob("*")}
    with pytest.raises(DataError, match="nothing is left to learn from.*at least two users.*still holds them") as error:
        forget_prepared(config, [GONE, *(f"u{k}" for k in range(5))], quiet)
    assert "\n" not in str(error.value)
    assert {p.name: p.read_bytes() for p in (config.prepared / "data").glob("*")} == before


def test_users_can_be_kept_out_before_the_first_preparation(shop):
    config = shop(with_user(GONE), split=SPLIT, rules=RULES)
    found = forget(config, [GONE], [], say=quiet)
    assert found.left == 0 and found.prepared.raw.total() == 18
    assert prepare(config).dropped["forgotten"] == 18 and GONE not in set(read(config.prepared)["user"])


def test_a_line_of_a_runs_log_goes_without_the_run(shop):
    config, _ = both(shop)
    (config.folder / "seed-0").mkdir()
    (config.folder / "seed-0" / "mark").write_text("trained")
    (config.folder / "seed-0" / "log.jsonl").write_text(f'{{"step": 1}}\n{{"step": 2, "of": "{GONE}"}}\n')
    assert forget(config, [GONE], [], say=quiet).left == 0
    assert (config.folder / "seed-0" / "log.jsonl").read_text() == '{"step": 1}\n' and (config.folder / "seed-0" / "mark").exists()


KILL = """
import os, signal, sys
from pathlib import Path
import recllm.data.forget as module, recllm.data.surgery, recllm.data.work as work
from recllm.config import load_config
{patch}
module.forget_prepared(load_config(sys.argv[1]), [sys.argv[2]], print)
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
PATCHES = {  # where the process dies
    "after the list": f"module.Surgery.run = lambda self: {DIE}",
    "between shards": f"module.Surgery._inputs = lambda self: {DIE}",
    "before the folder is put in place": f"work.Work.finish = lambda self, keep: {DIE}",
    "between the two renames": f"old = Path.rename\ndef rename(self, to):\n    made = old(self, to)\n"
                               f"    if str(to).endswith('.old'): {DIE}\n    return made\nPath.rename = rename",
    "before the fingerprint": f"finish = work.Work.finish\ndef late(self, keep):\n    finish(self, keep); {DIE}\nwork.Work.finish = late",
}  # fmt: skip


@pytest.mark.parametrize("where", PATCHES)
def test_a_kill_leaves_the_old_or_the_new_folder_and_the_same_call_ends_it(shop, tmp_path, where):
    # given
    config, other = both(shop)
    path = tmp_path / "with.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json", by_alias=True)))
    # when
    killed = subprocess.run([sys.executable, "-c", KILL.format(patch=PATCHES[where]), str(path), GONE], capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # then the list keeps her out already, and the same call leaves what an uninterrupted one leaves
    assert Forgotten.read(config).holds(GONE)
    found = forget(config, [GONE], [], say=quiet)
    assert found.left == 0 and not [p for p in config.folder.iterdir() if p.name.startswith(".")]
    assert_same(config, other)
    assert (config.prepared / "fingerprint").read_text().splitlines()[0] == fingerprint(config)


def test_two_runs_on_one_folder_refuse_each_other(shop):
    config, _ = both(shop)
    with Work(config.prepared, "another"), pytest.raises(StoppedError, match="another run is writing it"):
        forget_prepared(config, [GONE], quiet)
    assert not (config.folder / "forgotten.json").exists()


def planted(folder: Path) -> dict[str, Path]:
    """Files of every kind that holds the user, and what else it holds."""
    users, header = [GONE, "u0", "u0"], json.dumps({"requests": [GONE]})
    made = {name: folder / name for name in ("lists.parquet", "log.jsonl", "notes.csv", "report.html", "state.json", "weights.safetensors",
                                             "pool.npz", "table.arrow", "blob.bin", "nested.parquet")}
    pq.write_table(pa.table({"user": users, "rank": [1, 2, 3]}), made["lists.parquet"])
    made["log.jsonl"].write_text(f'{{"user": "{GONE}"}}\n{{"user": "u0"}}\n')
    made["notes.csv"].write_text(f"a,b\n1,{GONE}\n2,x{GONE}x\n")
    made["report.html"].write_text("<p>user A</p>")
    made["state.json"].write_text(json.dumps({"last": GONE}))
    save_file({"x": np.zeros(2, np.float32)}, made["weights.safetensors"], metadata={"of": header})
    np.savez_compressed(made["pool.npz"], items=np.array(users))
    with pa.ipc.new_file(str(made["table.arrow"]), pa.schema({"user": pa.string()}),
                         options=pa.ipc.IpcWriteOptions(compression="zstd")) as out:
        out.write_table(pa.table({"user": users}))
    made["blob.bin"].write_bytes(b"\x00\xff" + GONE.encode() + b"\x00")
    pq.write_table(pa.table({"k": [1, 2], "tags": [["a", GONE], ["b"]]}), made["nested.parquet"])
    return made


def test_every_kind_of_output_is_cleaned_searched_and_told(shop, tmp_path):
    # given outputs in the run's folder and outside of it, and a run and a release that were trained with her
    config, _ = both(shop)
    (tmp_path / "out").mkdir()
    inside, outside = planted(config.folder), planted(tmp_path / "out")
    for name, file in (("seed-0", "mark"), ("release", "processor_spec.json"), ("release-of-people", "processor_spec.json")):
        (config.folder / name).mkdir()
        (config.folder / name / file).write_text(GONE if "people" in name else "{}")
    # when
    found = forget(config, [GONE], [tmp_path / "out"], say=quiet)
    # then rows and lines are gone, files that are nothing without them too, and nothing is left
    for files in (inside, outside):
        assert pq.read_table(files["lists.parquet"]).column("rank").to_pylist() == [2, 3]
        assert files["log.jsonl"].read_text() == '{"user": "u0"}\n' and files["notes.csv"].read_text() == f"a,b\n2,x{GONE}x\n"
        assert pq.read_table(files["nested.parquet"]).column("k").to_pylist() == [2]
        gone = ("report.html", "state.json", "weights.safetensors", "pool.npz", "table.arrow", "blob.bin")
        assert not [name for name in gone if files[name].exists()]
    assert found.left == 0 and found.searched["parquet"] > 10
    text = found.text()
    assert "0 hits left" in text and GONE not in text.replace(f"x{GONE}x", "") and "18 rows of" in text
    # and what was trained with her is named, but nothing that came later
    assert found.trained == [f"release {config.folder / 'release'}", f"trained run {config.folder / 'seed-0'}"]
    assert not (config.folder / "release-of-people").exists()
    (config.folder / "seed-0" / "mark").write_text("trained again")
    assert forget(config, [GONE], [], say=quiet).trained == [f"release {config.folder / 'release'}"]


def test_the_search_finds_what_was_left(shop, monkeypatch):
    # given a forgetting that cleans nothing beside the prepared folder
    config, _ = both(shop)
    planted(config.folder)
    monkeypatch.setattr("recllm.recommend.forget._clean", lambda *_: None)
    # then every planted file is named, but the page, which holds no id
    found = forget(config, [GONE], [], say=quiet)
    assert {path.name for path in found.hits} == {*planted(config.folder)} - {"report.html"}
    assert "report.html" not in {path.name for path in found.hits} and found.left >= 9


@pytest.mark.parametrize(("id", "text", "hit"), [("u1", '"u1"', True), ("u1", '"u12" x_u1 au1', False), ("17", '{"user": 17}', True),
                                                 ("17", '{"item": 17, "n": 17}', False), ("17", '{"user_id": " 17 "}', True),
                                                 ("17", '{"user": 175}', False),
                                                 ("a b", "x a b,", True), ("é", json.dumps("é"), True), ("<x>", "<p>&lt;x&gt;</p>", True)])
def test_an_id_is_a_word_and_a_number_needs_a_key(tmp_path, id, text, hit):
    (tmp_path / "a.json").write_text(text)
    traces = Traces((id,), (id,), user_columns=("user", "user_id"))
    assert bool(traces.count(tmp_path / "a.json")) == hit


def test_the_command_ends_with_0_and_says_what_it_did(shop, tmp_path, capsys):
    config, _ = both(shop)
    path = tmp_path / "with.yaml"
    path.write_text(json.dumps(config.model_dump(mode="json", by_alias=True)))
    assert main(["forget", str(path), GONE]) == 0
    printed = capsys.readouterr().out
    assert "taken out of the prepared log: 13 rows" in printed and "0 hits left" in printed and "still in the source: 18 rows of" in printed


def test_a_number_of_a_user_is_no_item_of_the_same_number(shop):
    # given a user called 5, as an item is
    log = with_user("5").replace(",i1,", ",5,")
    config, other = both(shop, user="5", log=log)
    found = forget(config, ["5"], [], say=quiet)
    assert_same(config, other)
    assert found.left == 0 and "5" in set(pd.read_parquet(config.prepared / "items.parquet")["item"])
    assert module.written_id(config, "5") == "5"
