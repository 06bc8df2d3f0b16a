"""The simulated social network: its relations, its log, its truth, and that relations matter."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from recllm.config import load_config
from recllm.data.prepare import prepare
from recllm.data.simulate import SocialWorld, World, load_world, simulate
from recllm.data.simulate.common import START_MS
from recllm.data.simulate.community import make_friendships, make_people
from recllm.data.simulate.effects import DAYPART_OF_HOUR
from recllm.data.simulate.social import BASE, CITY, EFFECTS, ITEM_KINDS, KINDS, RELATED, SHARED
from recllm.errors import DataError

SMALL = {"world": "social", "seed": 3, "users": 150, "groups": 30, "days": 7, "requests_per_user": 24}
FILES = ("interactions.csv", "relations.csv", "users.jsonl", "items.jsonl", "truth.parquet", "world.json")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "social"
    world = simulate(folder, **SMALL)
    log = pd.read_csv(folder / "interactions.csv")
    return folder, world, log, pd.read_parquet(folder / "truth.parquet"), pd.read_csv(folder / "relations.csv")


def milliseconds(text):
    return pd.to_datetime(text, utc=True).dt.as_unit("ms").astype("int64").to_numpy()


def people_by_item(relations, before):
    """Item -> people related to it by a relation older than the moment, from the rows of relations.csv."""
    found = {}
    for user, other in relations.loc[milliseconds(relations.since) < before, ["user", "other"]].itertuples(index=False):
        found.setdefault(other, set()).add(user)
        if other.startswith("u"):
            found.setdefault(user, set()).add(other)
    return found


def plain_p(world, user_id, item_id, mutual, daypart, device, surface):
    """One click probability by plain arithmetic; the moment by codes."""
    user = next(u for u in world.users if u["user_id"] == user_id)
    item = next(i for i in world.items if i["item_id"] == item_id)
    kind = ITEM_KINDS.index(item["kind"])
    logit = BASE[kind] + SHARED[kind] * len({*user["interests"]} & {*item["topics"]}) + CITY[kind] * (user["city"] == item["city"])
    logit += RELATED[kind] * math.log(1 + mutual)
    logit += EFFECTS["daypart"][kind][daypart] + EFFECTS["device"][kind][device] + EFFECTS["surface"][kind][surface]
    return 1 / (1 + math.exp(-logit))


def moment_codes(row):
    daypart = DAYPART_OF_HOUR[pd.Timestamp(row.time).hour]
    return daypart, KINDS["device"].index(row.device), KINDS["surface"].index(row.surface)


def test_the_files_have_the_promised_columns_and_every_user_is_an_item(network):
    # given a simulation
    folder, _, log, truth, relations = network
    users, items = (pd.read_json(folder / name, lines=True, dtype=False) for name in ("users.jsonl", "items.jsonl"))
    # then tables, columns, rows and their order are the promised ones
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert list(log) == ["user_id", "item_id", "time", "request_id", "device", "surface", "click", "purchase", "duration"]
    assert list(truth) == ["request_id", "user_id", "item_id", "mutual", "p_click", "p_click_blind", "p_click_unrelated", "p_purchase"]
    assert list(relations) == ["user", "other", "since"] and list(users) == ["user_id", "age", "city", "interests"]
    assert list(items) == ["item_id", "kind", "about", "city", "topics", "published"]
    assert list(items.item_id[items.kind == "person"]) == list(users.user_id) and (items.kind == "group").sum() == 30
    pd.testing.assert_frame_equal(log[["request_id", "user_id", "item_id"]], truth[["request_id", "user_id", "item_id"]])
    assert len(log) == 150 * 24 * 3 and log.time.is_monotonic_increasing and log.groupby("time").request_id.nunique().max() == 1
    assert log.purchase[log.click == 0].max() == 0 and 0.08 < log.click.mean() < 0.25


def test_a_relation_stands_once_and_after_both_sides_exist(network):
    # given all relations
    folder, _, _, _, relations = network
    published = pd.read_json(folder / "items.jsonl", lines=True, dtype=False).set_index("item_id").published
    # then a pair has one line, nobody is related to himself, a group never comes first, and nothing is older than its two sides
    assert not relations.duplicated(["user", "other"]).any() and (relations.user < relations.other)[relations.other.str[0] == "u"].all()
    assert relations.user.str.startswith("u").all() and relations.other.str[0].isin(["u", "g"]).all()
    assert (relations.since >= relations.user.map(published)).all() and (relations.since >= relations.other.map(published)).all()
    assert relations.since.is_monotonic_increasing


def test_every_accepted_suggestion_is_a_relation_from_that_moment_on(network):
    # given the accepted suggestions as pairs, friendships with the smaller id first
    _, _, log, _, relations = network
    taken = log[log.purchase == 1]
    person = taken.item_id.str.startswith("u") & (taken.item_id < taken.user_id)
    pairs = pd.DataFrame({"user": taken.user_id.where(~person, taken.item_id), "other": taken.item_id.where(~person, taken.user_id),
                          "since": taken.time})
    # then each is a line of relations.csv with the moment of the suggestion
    assert len(pairs) > 50 and len(pairs.merge(relations, on=["user", "other", "since"])) == len(pairs)
    assert (relations.since < log.time.min()).mean() > 0.5 and (relations.since > log.time.min()).sum() > len(pairs)


def test_nobody_is_suggested_who_is_known_already_or_not_there_yet(network):
    # given every suggestion and since when its pair is related, if ever
    folder, _, log, _, relations = network
    since = {frozenset(pair): moment for *pair, moment in relations.itertuples(index=False)}
    known = [since.get(frozenset((u, i)), "9999") for u, i in zip(log.user_id, log.item_id, strict=True)]
    published = pd.read_json(folder / "items.jsonl", lines=True, dtype=False).set_index("item_id").published
    # then the pair is new at that moment, and nobody is suggested to himself, twice in a slate, or before he is there
    assert (np.array(known) >= log.time.to_numpy(dtype=str)).all()
    assert (log.user_id != log.item_id).all() and not log.duplicated(["request_id", "item_id"]).any()
    assert (log.item_id.map(published) <= log.time).all()


def test_mutual_friends_count_relations_of_the_past_only(network):
    # given rows of the log, first to last, and the relations as sets
    _, world, log, truth, relations = network
    for at in [*range(0, len(log), 450), len(log) - 1]:
        row, moment = log.loc[at], int(milliseconds(log.time[at : at + 1])[0])
        people = people_by_item(relations, moment)
        # when friends in common are counted by sets, then the world and the truth agree
        plain = len(people.get(row.user_id, set()) & people.get(row.item_id, set()))
        assert plain == truth.mutual[at] == world.mutual(row.user_id, row.item_id, moment)
    np.testing.assert_array_equal(world.mutual(log.user_id, log.item_id, milliseconds(log.time)), truth.mutual)


def test_a_relation_counts_for_what_comes_after_its_moment_and_not_at_it():
    # given two people with a friend in common since 100 and 200, and a group that the friend joined at 300
    person = {"kind": "person", "about": "", "city": "Ghent", "topics": ["jazz"], "published": ""}
    users = [{"user_id": name, "age": 30, "city": "Ghent", "interests": ["jazz"]} for name in ("a", "b", "c")]
    items = [person | {"item_id": name} for name in ("a", "b", "c")] + [person | {"item_id": "g", "kind": "group"}]
    world = SocialWorld(users, items, [[0, 1, 100], [1, 2, 200], [1, 3, 300]], np.ones((3, 4, 3)) / 3, np.ones((3, 4, 3)) / 3)
    # then they have one from just after the later of the two moments on
    assert [int(n) for n in world.mutual("a", "c", [100, 200, 201])] == [0, 0, 1]
    assert [int(n) for n in world.mutual("a", "g", [200, 300, 301])] == [0, 0, 1]
    assert world.mutual("c", "a", 201) == 1 and world.mutual("a", "b", 999) == 0


def test_click_and_blind_probabilities_are_those_of_plain_loops(network):
    # given rows of the log
    _, world, log, truth, _ = network
    for at in range(0, len(log), 700):
        row = log.loc[at]
        args = row.user_id, row.item_id, truth.mutual[at]
        # when they are computed by hand, blind by a loop over every context of the user, then they agree
        assert plain_p(world, *args, *moment_codes(row)) == pytest.approx(truth.p_click[at])
        weight = world.context_distribution(row.user_id)
        mean = sum(weight[hour, device, surface] * plain_p(world, *args, DAYPART_OF_HOUR[hour], device, surface)
                   for hour, device, surface in itertools.product(range(24), range(3), range(3)))
        assert weight.sum() == pytest.approx(1) and mean == pytest.approx(truth.p_click_blind[at])
    asked = {"time_ms": milliseconds(log.time), "device": log.device, "surface": log.surface}
    np.testing.assert_allclose(world.probability(log.user_id, log.item_id, **asked), truth.p_click, rtol=1e-12)
    np.testing.assert_allclose(world.purchase(log.user_id, log.item_id, truth.mutual), truth.p_purchase, rtol=1e-12)


def test_unrelated_is_the_mean_over_rows_that_are_alike_but_for_the_relations(network):
    # given how alike the two sides of every row are
    _, world, log, truth, _ = network
    user, item = ({row[key]: row for row in rows} for key, rows in (("user_id", world.users), ("item_id", world.items)))
    alike = [(item[i]["kind"], len({*user[u]["interests"]} & {*item[i]["topics"]}), user[u]["city"] == item[i]["city"])
             for u, i in zip(log.user_id, log.item_id, strict=True)]
    for at in (0, 5_000, 9_000):
        # when a row's probability is averaged over the mutual friends of all rows of its kind
        mutual = [truth.mutual[other] for other, key in enumerate(alike) if key == alike[at]]
        chance = {n: plain_p(world, log.user_id[at], log.item_id[at], n, *moment_codes(log.loc[at])) for n in set(mutual)}
        # then it is the one without relations
        assert np.mean([chance[n] for n in mutual]) == pytest.approx(truth.p_click_unrelated[at])


def test_without_relations_the_best_predictor_is_clearly_worse(network):
    # given the clicks and the truth with and without context and relations
    _, _, log, truth, _ = network
    auc = {name: roc_auc_score(log.click, truth[name]) for name in ("p_click", "p_click_blind", "p_click_unrelated")}
    part = pd.qcut(truth.p_click, 10, labels=False)
    seen, true = log.click.groupby(part).mean(), truth.p_click.groupby(part).mean()
    # then both are worth knowing, and the observed rates are those of the truth
    assert auc["p_click"] > auc["p_click_unrelated"] + 0.04
    assert auc["p_click"] > auc["p_click_blind"] + 0.03
    assert (abs(seen - true) < 4 * np.sqrt(true * (1 - true) / (len(log) / 10))).all()


def test_friendships_come_from_circles_that_city_and_interests_do_not_tell():
    # given the people of a network of the usual size and their friendships
    rng = np.random.default_rng(0)
    users, items = make_people(rng, 800)
    opened = pd.to_datetime([item["published"] for item in items]).as_unit("ms").asi8
    pairs = make_friendships(rng, users, opened, 28)
    friends = [set() for _ in users]
    for a, b in pairs:
        friends[a].add(b)
        friends[b].add(a)
    # when pairs of one city and interest are compared by whether they have friends in common
    alike = [(a, b) for a, b in itertools.combinations(range(800), 2)
             if users[a]["city"] == users[b]["city"] and {*users[a]["interests"]} & {*users[b]["interests"]}]
    mutual = np.array([len(friends[a] & friends[b]) for a, b in alike])
    friendly = np.array([b in friends[a] for a, b in alike])
    # then everybody has about twelve friends, most of them from before the log, and friends in common tell who is one
    assert 2 * len(pairs) / 800 == pytest.approx(12, abs=1.5)
    assert np.mean(np.array([*pairs.values()]) < START_MS) > 0.9
    assert friendly[mutual >= 3].mean() > 2 * friendly.mean() > 8 * friendly[mutual == 0].mean()


def test_the_same_seed_gives_the_same_bytes_and_a_finished_network_is_reused(network, tmp_path):
    # given the same settings again, and once more in the same folder
    folder, world, log, _, _ = network
    simulate(tmp_path / "again", **SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = simulate(folder, **SMALL)
    # then every file has the same bytes, and nothing is written twice; the loaded world is of the right class and answers the same
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert isinstance(again, SocialWorld) and isinstance(load_world(folder / "world.json"), SocialWorld)
    head = log.head(60)
    ids = {"user_id": head.user_id, "item_id": head.item_id}
    asked = ids | {"time_ms": milliseconds(head.time), "device": head.device, "surface": head.surface}
    np.testing.assert_array_equal(again.probability(**asked), world.probability(**asked))


def test_a_network_too_small_for_its_slates_and_another_world_are_refused(network, tmp_path):
    # given three people and one group, and a folder with a network in it
    folder, *_ = network
    # then the settings are named, and nothing is written
    with pytest.raises(DataError, match="data.simulate.slate: expected to find 3 suggestions"):
        simulate(tmp_path / "tiny", world="social", users=3, groups=1, days=3, requests_per_user=9)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="delete it or choose another path"):
        simulate(folder, seed=3)
    with pytest.raises(DataError, match="expected a simulated shop .*, found a simulated social"):
        World.load(folder / "world.json")


@pytest.mark.parametrize("bad", [{"user_id": "nobody"}, {"item_id": "g999"}, {"device": "tv"}, {"surface": "stories"}])
def test_questions_the_network_cannot_answer_are_data_errors(network, bad):
    # given one wrong argument, then the error says what was expected
    _, world, _, _, _ = network
    good = {"user_id": "u0001", "item_id": "g001", "time_ms": START_MS, "device": "mobile", "surface": "feed"}
    with pytest.raises(DataError, match="expected a known"):
        world.probability(**(good | bad))


def test_the_example_prepares_without_a_dropped_row(tmp_path, monkeypatch):
    # given the example's config over a small network
    monkeypatch.setenv("RECLLM_CACHE", str(tmp_path))
    small = [f"data.simulate.{name}={value}" for name, value in SMALL.items()]
    # when it is prepared, then every row is kept
    report = prepare(load_config("configs/social.yaml", [*small, "data.workers=1", f"root={tmp_path / 'runs'}"]))
    assert report.rows == report.read == 150 * 24 * 3 and not report.tables
