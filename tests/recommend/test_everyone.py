"""Lists for all users: those of one user at a time, whole or nothing, and the same after a kill; vectors that give retrieval's order."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from recllm.cli import main
from recllm.data.prepare import prepare
from recllm.errors import DataError
from recllm.recommend import everyone as module
from recllm.recommend.build import recommender_of
from recllm.recommend.everyone import Everyone, recommend_all, write_vectors
from recllm.recommend.parts import parts_folder
from recllm.recommend.users import request_for
from recllm.release import portable

ROOT = Path(__file__).parent.parent.parent
MOMENT = {"time": "2023-11-16T08:00:00+01:00", "device": "tv"}


@pytest.fixture(scope="module")
def released(made, tmp_path_factory):
    """(setup, recommender, release folder); lists leave out what was seen and carry titles."""
    recommender = recommender_of(made)
    recommender.processor.recommend |= {"title": "title", "exclude_seen": False}
    folder = recommender.save_pretrained(tmp_path_factory.mktemp("everyone") / "release", "# card\n", portable(made.config))
    return made, recommender, folder


@pytest.fixture
def everyone(released, monkeypatch):
    """All eight users, three a part."""
    made, recommender, folder = released
    monkeypatch.setattr(module, "USERS_PER_PART", 3)
    return Everyone(made.config, made.log, recommender, folder, MOMENT)


def test_every_users_list_is_the_one_that_a_request_of_theirs_gets(everyone, tmp_path):
    # when
    found = recommend_all(everyone, tmp_path / "lists.parquet", 4)
    # then
    table = pd.read_parquet(tmp_path / "lists.parquet")
    assert list(table) == ["user", "rank", "item_id", "score", "click", "purchase", "duration", "duration_low", "duration_high", "title"]
    assert (found.users, found.nothing, found.made) == (len(everyone.log.users), 0, len(everyone.log.users))
    assert list(dict.fromkeys(table["user"])) == everyone.log.users
    for user, rows in table.groupby("user"):
        entries = everyone.recommender.recommend(request_for(everyone.log, everyone.recommender.processor.rows, user, MOMENT), top_k=4)
        assert rows["rank"].tolist() == [1, 2, 3, 4] and rows["item_id"].tolist() == [e["item_id"] for e in entries]
        np.testing.assert_allclose(rows["click"], [e["click"] for e in entries], rtol=1e-12)
        np.testing.assert_allclose(rows["duration_high"], [e["duration_interval"][1] for e in entries], rtol=1e-12)
        assert rows["title"].fillna("").tolist() == [e.get("title", "") for e in entries]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lists.parquet"]


def test_an_auction_has_its_prices_in_the_file_too(everyone, tmp_path, monkeypatch):
    # given a release that ships an auction over prices as bids
    terms = {"strategy": "expected_value", "outcome": "click", "value": "price", "auction": {"payment": "second", "floor": 1.0}}
    monkeypatch.setattr(everyone.recommender.processor, "recommend", {**everyone.recommender.processor.recommend, **terms})
    recommend_all(everyone, tmp_path / "lists.parquet", 3)
    # then every row has what its click costs
    table = pq.read_table(tmp_path / "lists.parquet").to_pandas()
    assert len(table) and (table["price"] >= 1.0).all()


def test_a_user_for_whom_nothing_is_left_has_no_row_and_is_counted(everyone, tmp_path, monkeypatch):
    # given a catalogue in which people are not published yet, and a user who has seen all the rest
    items = everyone.recommender.processor.rows.items
    later = np.array([item.startswith("u") for item in items.ids])
    monkeypatch.setattr(items, "published", np.where(later, 2**60, items.published))
    monkeypatch.setattr(everyone.recommender.processor.rows.relations, "start", np.zeros(len(items) + 1, dtype=np.int64))
    monkeypatch.setattr(everyone.raw, "social", lambda user: {})
    everyone.recommender.processor.recommend["exclude_seen"] = True
    try:
        found = recommend_all(everyone, tmp_path / "lists.parquet", 4)
    finally:
        everyone.recommender.processor.recommend["exclude_seen"] = False
    # then
    listed = set(pd.read_parquet(tmp_path / "lists.parquet")["user"])
    expected = {u for c, u in enumerate(everyone.log.users)
                if {i for i in everyone.log.items if i[0] != "u"} - {e["item_id"] for e in everyone.request(c)["history"]}}  # fmt: skip
    assert listed == expected and found.nothing == len(everyone.log.users) - len(expected) > 0
    assert f"nothing was left for {found.nothing}" in found.text()


def test_an_interrupted_run_leaves_whole_parts_and_goes_on_to_the_same_file(everyone, tmp_path, monkeypatch):
    # given a run that is interrupted in its second part
    recommend_all(everyone, tmp_path / "whole.parquet", 4)
    out, real, calls = tmp_path / "lists.parquet", everyone.recommender.recommend, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(everyone.recommender, "recommend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recommend_all(everyone, out, 4)
    assert not out.exists() and [p.name for p in parts_folder(out).glob("part-*")] == ["part-000000.parquet"]
    # when it is called with other settings, then they are named
    monkeypatch.setattr(everyone.recommender, "recommend", real)
    with pytest.raises(DataError, match=r"lists.parquet.parts was begun with another top_k 4 \(now 5\): give the same again"):
        recommend_all(everyone, out, 5)
    with pytest.raises(DataError, match=r"begun with another moment 1700118000000 \(now 1700121600000\)"):
        recommend_all(replace(everyone, context={**MOMENT, "time": "2023-11-16T09:00:00+01:00"}), out, 4)
    # when the same call is made again
    found = recommend_all(everyone, out, 4)
    # then the first part was not made again, and the file is the same
    assert found.made == len(everyone.log.users) - 3
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole.parquet")) and not parts_folder(out).exists()


def test_a_killed_process_goes_on(released, tmp_path, monkeypatch):
    made, _, folder = released
    path = tmp_path / "rich.yaml"
    path.write_text(yaml.safe_dump(made.config.model_dump(mode="json", by_alias=True), sort_keys=False), encoding="utf-8")
    out = tmp_path / "lists.parquet"
    prepare(made.config)
    code = ("import sys, time; from recllm.recommend import everyone; everyone.USERS_PER_PART = 1; from recllm.cli import main\n"
            "real = everyone._rows\n"
            "def slow(*a):\n    time.sleep(0.5)\n    return real(*a)\n"
            "everyone._rows = slow; sys.exit(main(sys.argv[1:]))")
    command = ["recommend", str(path), "--all-users", str(out), "--release", str(folder), "--top-k", "2", "--device", "tv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    limit = time.monotonic() + 120
    while not list(parts_folder(out).glob("part-*")) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    whole = [pq.read_table(p) for p in sorted(parts_folder(out).glob("part-*"))]
    assert 0 < len(whole) < len(made.log.users)
    monkeypatch.setattr(module, "USERS_PER_PART", 1)
    assert main(command) == 0
    assert set(pd.read_parquet(out)["user"]) == set(made.log.users)
    assert main([*command[:3], str(tmp_path / "again.parquet"), *command[4:]]) == 0
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "again.parquet"))


def test_vectors_give_retrievals_own_order(everyone, tmp_path):
    # when
    assert write_vectors(everyone, tmp_path / "vectors") == (len(everyone.log.items), len(everyone.log.users))
    # then
    items, users = (pd.read_parquet(tmp_path / "vectors" / name) for name in ("items.parquet", "users.parquet"))
    assert sorted(p.name for p in (tmp_path / "vectors").iterdir()) == ["items.parquet", "users.parquet"]
    content, queries = np.stack(items["vector"]), np.stack(users["vector"])
    assert content.dtype == queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-5)
    published = everyone.recommender.processor.rows.items.published
    for code, user in enumerate(users["user"]):
        request = everyone.request(code)
        prepared = everyone.recommender.reader.read(request)
        places = np.flatnonzero(published <= prepared.time)
        near = content[places] @ queries[code]
        np.testing.assert_allclose(near, everyone.recommender.nearness(prepared, places), atol=1e-6)
        # and a list is chosen from what is within two hops, filled up with the nearest others
        _, eligible = everyone.recommender.eligible(request, exclude_seen=False)
        first = prepared.paths.between(eligible, np.full(len(eligible), prepared.time)) > 0
        order = np.lexsort((-(content[eligible] @ queries[code]), ~first))
        expected = set(items["item_id"][eligible[order[: max(5, first.sum())]]])
        served = everyone.recommender.recommend(request, top_k=50, retrieve=5)
        assert expected == {e["item_id"] for e in served}, user


def test_bad_paths_are_one_line(everyone, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="expected the name of a Parquet file to write, found a folder"):
        recommend_all(everyone, tmp_path / "folder", 3)
    with pytest.raises(DataError, match="expected an existing folder to write into, found no .*nowhere"):
        recommend_all(everyone, tmp_path / "nowhere" / "lists.parquet", 3)
    with pytest.raises(DataError, match="expected at least 1, found 0"):
        recommend_all(everyone, tmp_path / "lists.parquet", 0)
    with pytest.raises(DataError, match="found a file: choose another"):
        write_vectors(everyone, tmp_path / "file")
    with pytest.raises(DataError, match="expected an existing folder to make it in"):
        write_vectors(everyone, tmp_path / "nowhere" / "vectors")
    (tmp_path / "lists.parquet.parts").mkdir()
    with pytest.raises(DataError, match="expected no such folder, or one with the parts of lists.parquet"):
        recommend_all(everyone, tmp_path / "lists.parquet", 3)
