"""Relations against plain sets: who is a mutual friend, when, and what a request may see of it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.model.relations_recllm import NAMES, Relations

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


@settings(max_examples=200, deadline=None)
@given(pairs=edges, user=st.integers(0, PEOPLE - 1), moment=st.integers(0, 10))
def test_paths_equal_plain_sets(pairs, user, moment):
    # given relations between people and to groups, each with its first moment
    pairs = [p for p in pairs if p[0] != p[1]]
    left, right, since = (np.array([p[k] for p in pairs], dtype=np.int64) for k in range(3))
    relations = Relations.of(left, right, since, np.arange(ITEMS) < PEOPLE)
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


def test_items_outside_of_the_catalogue_have_no_relations():
    relations = Relations.of(np.array([0]), np.array([1]), np.array([5]), np.ones(2, dtype=bool))
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


def test_a_later_relation_changes_no_score(made):
    # given requests of the test split, and the same with every relation moved past the log's end that was younger than the request
    examples = made.examples(2)
    group = next(g for g in examples.groups if len(examples.relations.own(g.user)[0]))
    index = examples.groups.index(group)
    before = examples[index].num
    earliest = int(examples.timeline.time[group.start])
    edges = examples.relations.edges[group.user]
    try:
        examples.relations.edges[group.user] = {row: since if since < examples.timeline.time[group.row].max() else 2**40
                                                for row, since in edges.items()}
        examples.relations.made.clear()
        assert (examples[index].num == before).all()
        # and one that is older than all of the window does change them
        examples.relations.edges[group.user] = {**edges, int(group.item[0]): earliest - 1}
        examples.relations.made.clear()
        assert (examples[index].num != before).any()
    finally:
        examples.relations.edges[group.user] = edges
        examples.relations.made.clear()
