"""Relations against plain sets: who is a mutual friend, when, and what a request may see of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from recllm.model.relations_recllm import NAMES, NEVER, Relations

PEOPLE, ITEMS = 6, 9  # rows 0 to 5 are people, 6 to 8 groups
edges = st.lists(st.tuples(st.integers(0, PEOPLE - 1), st.integers(0, ITEMS - 1), st.integers(0, 9)), max_size=40)


def plain(pairs, moment):
    """Row -> rows it was related to before a moment."""
    found = {row: set() for row in range(ITEMS)}
    for left, right, since in pairs:
        if since < moment and left != right:
            found[left].add(right)
            found[right].add(left)
    return found


@settings(max_examples=200)
@given(pairs=edges, user=st.integers(0, PEOPLE - 1), moment=st.integers(0, 10))
def test_paths_equal_plain_sets(pairs, user, moment):
    # given relations between people and to groups, each with its first moment
    pairs = [p for p in pairs if p[0] != p[1]]
    left, right, since = (np.array([p[k] for p in pairs], dtype=np.int64) for k in range(3))
    relations = Relations.of(left, right, since, np.where(np.arange(ITEMS) < PEOPLE, -1, NEVER))
    paths = relations.paths(*relations.near(user))
    items, times = np.arange(ITEMS), np.full(ITEMS, moment)
    near = plain(pairs, moment)
    friends = {f for f in near[user] if f < PEOPLE}
    # then mutual friends are the intersection of two sets as they were before the moment
    shared = [len(friends & near[item]) for item in items]
    assert paths.between(items, times).tolist() == shared
    assert paths.related(items, times).tolist() == [item in near[user] for item in items]
    features = dict(zip(NAMES, paths.features(items, times).T, strict=True))
    assert np.allclose(features["mutual_friends_log"], np.log1p(shared) * (items < PEOPLE))
    assert np.allclose(features["friends_in_group_log"], np.log1p(shared) * (items >= PEOPLE))
    assert (features["within_two_hops"] == (np.array(shared) > 0)).all()


def test_an_item_is_a_person_from_when_on_that_is_known():
    # given the user's friends 0 and 1, of whom 1 shows to be a person at moment 5 only; both are related to 2, a group, and to 3, a person
    # from moment 7 on
    left, right = np.array([0, 0, 1, 1]), np.array([2, 3, 2, 3])
    relations = Relations.of(left, right, np.zeros(4, dtype=np.int64), np.array([-1, 5, NEVER, 7]))
    paths = relations.paths(np.array([0, 1]), np.zeros(2, dtype=np.int64))
    # then before that no step leads through 1, and 3 counts as a group until it does not
    assert paths.between(np.array([2, 2, 3]), np.array([5, 6, 6])).tolist() == [1, 2, 2]
    features = paths.features(np.array([3, 3]), np.array([7, 8]))
    assert np.allclose(features[:, :2], [[0, np.log1p(2)], [np.log1p(2), 0]])


def test_a_release_that_knew_no_moments_is_read(tmp_path):
    relations = Relations.of(np.array([0]), np.array([1]), np.array([5]), np.array([0, NEVER]))
    save_file({n: getattr(relations, n) for n in ("start", "other", "since")} | {"person": np.array([True, False])}, tmp_path / "old")
    assert Relations.load(tmp_path / "old").person.tolist() == [0, NEVER]


def test_items_outside_of_the_catalogue_have_no_relations():
    relations = Relations.of(np.array([0]), np.array([1]), np.array([5]), np.zeros(2, dtype=np.int64))
    assert (relations.paths(*relations.near(0)).features(np.array([-1, 2, 7]), np.full(3, 9)) == 0).all()


def test_a_relation_counts_from_the_moment_after_it(made):
    # given a log with relations, and one user's paths
    examples = made.examples(2)
    user = next(u for u in range(len(made.log.users)) if len(examples.relations.own(u)[0]))
    rows, since = examples.relations.own(user)
    paths = examples.relations.paths(user)
    # then nothing holds at its own moment, everything one millisecond later
    assert not paths.related(rows, since).any()
    assert paths.related(rows, since + 1).all()


def test_a_relation_changes_what_comes_after_it_and_nothing_before(made):
    # given an example of the test split with two moments, and a candidate of its first and of its last that is no friend
    examples = made.examples(2)
    index = next(k for k, g in enumerate(examples.groups) if len(np.unique(examples.timeline.time[g.row])) > 1 and len(g.row) > 2)
    group, before = examples.groups[index], examples[index]
    times = np.concatenate([examples.timeline.time[group.start : group.start + before.events], examples.timeline.time[group.row]])
    moment = int(np.sort(np.unique(examples.timeline.time[group.row]))[-1]) - 1  # just before the last request
    edges = examples.relations.edges.get(group.user, {})
    last = int(group.item[times[before.events :] > moment][0])
    try:
        # when the user becomes a friend of what the last request asks for, just before it
        examples.relations.edges[group.user] = {**edges, last: moment}
        examples.relations.made.clear()
        changed = (examples[index].num[: len(times)] != before.num[: len(times)]).any(axis=1)
        # then only that moment's rows may change, and the row of that item does
        asked = np.concatenate([before.item[: before.events], group.item])
        assert not changed[times <= moment].any() and changed[(times > moment) & (asked == last)].all()
        # and after all of them it changes nothing
        examples.relations.edges[group.user] = {**edges, last: int(times.max())}
        examples.relations.made.clear()
        assert (examples[index].num == before.num).all()
    finally:
        examples.relations.edges[group.user] = edges
        examples.relations.made.clear()


def test_moments_out_of_all_ranges_reach_no_other_row():
    # given placeholders of a careless export: the year 1, 1900, and 9999
    since = np.array([-62_135_596_800_000, -2_208_988_800_000, 253_370_764_800_000])
    relations = Relations.of(np.zeros(3, dtype=np.int64), np.array([1, 2, 3]), since, np.zeros(9, dtype=np.int64))
    paths = relations.paths(*relations.near(0))
    # then the old ones hold now, the last one does not, and nobody else is related
    assert paths.related(np.arange(9), np.full(9, 1_700_000_000_000)).tolist() == [False, True, True, False, *([False] * 5)]
