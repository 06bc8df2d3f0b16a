"""Histories and recent counts of a prepared log, against plain loops over it; what the baselines that read them see and do not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import recllm.evaluation.tables
from recllm.evaluation.baselines import NAMES, create
from recllm.evaluation.baselines.lightgbm_text import POWER, text_columns
from recllm.evaluation.baselines.sasrec import HALF, Network, Windows
from recllm.evaluation.features import Sequences
from recllm.evaluation.tables import feature_table
from recllm.feed.examples import Group
from recllm.model.timeline_recllm import DAY, window_start
from recllm.schema import Outcome
from recllm.training.setup import TEST, TRAIN, VALIDATION


@pytest.fixture(scope="module")
def tables(made):
    return [feature_table(made.examples(split)) for split in (TRAIN, VALIDATION, TEST)]


@pytest.fixture(scope="module")
def fitted(made, tables):
    """Every baseline by name, fitted on the log's train split."""
    baselines = {name: create(name) for name in NAMES}
    for baseline in baselines.values():
        baseline.fit(tables[0], tables[1], dict(made.config.columns.outcomes), 0)
    return baselines


def rows_of(examples):
    return np.concatenate([group.row for group in examples.groups])


def test_a_rows_events_are_the_visible_ones_of_its_window(made, tables):
    # given rows of all splits
    log, spec = made.log, made.processor.spec
    for split, table in zip((TRAIN, VALIDATION, TEST), tables, strict=True):
        found, rows = table.sequences, rows_of(made.examples(split))
        assert (found.item == log.item[rows]).all() and (found.time == log.time()[rows]).all() and found.items == len(log.items)
        lengths, seen = [], set()
        for k, row in enumerate(rows):
            n = int(log.frame["n_before"][row])
            first = log.first[log.user[row]]
            events = np.arange(first + window_start(n, spec["stride"], spec["overlap"]), first + n)
            # then the slice holds their items, times and outcomes, in order
            own = slice(found.start[k], found.stop[k])
            assert (found.event_item[own] == log.item[events]).all() and (found.event_time[own] == log.time()[events]).all()
            for name, y in found.event_outcomes.items():
                np.testing.assert_array_equal(y[own], log.frame[name].to_numpy(dtype=float)[events])
            assert (found.event_time[own] < found.time[k]).all()
            lengths.append(len(events))
            seen |= set(range(found.start[k], found.stop[k]))
        assert min(lengths) < 8 <= max(lengths)
        # and events that no row of the split sees are not there
        assert seen == set(range(len(found.event_item)))
    assert (tables[0].sequences.event_time <= log.time()[log.split == TRAIN].max()).all()
    np.testing.assert_array_equal(np.flatnonzero(found.in_train), np.unique(log.item[log.split == TRAIN]))


def test_text_vectors_are_those_of_the_tower_alone(made, tables):
    found = tables[0].sequences.vectors
    assert found.shape == (len(made.log.items), made.model.config.encoder["hidden_size"])
    length = np.linalg.norm(found, axis=1)
    assert ((abs(length - 1) < 1e-5) | (length == 0)).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_recent_counts_equal_a_loop_over_the_log(made, frozen, monkeypatch):
    # given item counts by the hour, running on or frozen at the end of train, and 3 hours for the 7 days: this log has no more
    span = 3 * 3_600_000
    assert recllm.evaluation.tables.RECENT == 7 * DAY
    monkeypatch.setattr(recllm.evaluation.tables, "RECENT", span)
    log, period = made.log, made.processor.counts.period
    end = log.report.cuts[0] if frozen else None
    made.processor.frozen_after = end
    examples = made.examples(TEST)
    table = feature_table(examples)
    made.processor.frozen_after = None
    closed = (log.frame["known_at"].to_numpy(dtype=np.int64) // period + 1) * period
    names = [name for name in made.config.columns.outcomes]
    labels = {name: log.frame[name].to_numpy(dtype=float) for name in names}
    anything = ~np.isnan(np.stack(list(labels.values()))).all(axis=0)
    older = counted = 0
    for k, row in enumerate(rows_of(examples)):
        now = log.time()[row] if end is None else min(log.time()[row], end)
        # then they are what was booked in the periods that closed within that span before the request
        booked = (log.item == log.item[row]) & anything & (closed // period <= now // period)
        recent = booked & (closed // period > (now - span) // period)
        assert table.frame["item_recent_events"][k] == recent.sum()
        older, counted = older + booked.sum() - recent.sum(), counted + recent.sum()
        for name, y in labels.items():
            assert table.frame[f"item_recent_{name}_n"][k] == (~np.isnan(y[recent])).sum()
            assert table.frame[f"item_recent_{name}_sum"][k] == pytest.approx(np.nansum(y[recent]), abs=1e-9)
    assert older > 0 < counted


def test_text_columns_equal_a_plain_loop(made, tables):
    found, outcomes = tables[2].sequences, dict(made.config.columns.outcomes)
    columns = text_columns(found, outcomes)
    stepped = np.round(found.vectors.astype(float) * 2048) / 2048
    assert {"text_max", "text_click_max", "text_duration_mean"} <= set(columns) and "text_duration_max" not in columns
    for k in range(len(found.item)):
        own = range(found.start[k], found.stop[k])
        weights = [max(float(stepped[found.item[k]] @ stepped[found.event_item[j]]), 0.0) ** POWER for j in own]
        assert columns["text_max"][k] == pytest.approx(max(weights, default=0.0))
        for name, y in found.event_outcomes.items():
            pairs = [(w, min(y[j], outcomes[name].clip)) for w, j in zip(weights, own, strict=True) if not np.isnan(y[j])]
            n, total = sum(w for w, _ in pairs), sum(w * v for w, v in pairs)
            assert columns[f"text_{name}_n"][k] == pytest.approx(n) and columns[f"text_{name}_sum"][k] == pytest.approx(total)
            assert columns[f"text_{name}_mean"][k] == pytest.approx(total / n if n else np.nan, nan_ok=True)
            if outcomes[name].kind == "binary":
                assert columns[f"text_{name}_max"][k] == pytest.approx(max((w for w, v in pairs if v == 1), default=0.0))


@pytest.mark.parametrize("name", NAMES)
def test_a_logged_item_scores_the_same_among_the_whole_catalogue(made, tables, fitted, name):
    # given every 10th test row once per item of the catalogue
    examples, items = made.examples(TEST), len(made.log.items)
    plain = rows_of(examples)
    chosen, groups = np.zeros(len(plain), dtype=bool), []
    for group in examples.groups:
        for row in group.row[::10]:
            chosen[np.flatnonzero(plain == row)[0]] = True
            groups.append(Group(group.user, group.start, np.full(items, row), np.arange(items), np.zeros(items, dtype=bool)))
    examples.ask(groups)
    whole = fitted[name].predict(feature_table(examples))
    at = np.arange(len(groups)) * items + made.log.item[plain[chosen]]
    # then the prediction of the item that was logged is that of the plain table
    for outcome, values in fitted[name].predict(tables[2]).items():
        assert len(whole[outcome]) == len(groups) * items
        assert whole[outcome][at] == pytest.approx(values[chosen], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_visible_in_the_log_changes_nothing(made, tables, fitted, name):
    # given the log with another item and outcome in every row from the first invisible one of a user on
    examples = made.examples(TEST)
    rows = rows_of(examples)
    k = int(np.argsort(made.log.frame["n_before"].to_numpy()[rows])[len(rows) // 2])
    invisible = np.arange(made.log.first[made.log.user[rows[k]]] + made.log.frame["n_before"][rows[k]], len(made.log.item))
    timeline = examples.timeline
    timeline.item, timeline.outcomes = timeline.item.copy(), timeline.outcomes.copy()
    timeline.item[invisible] = (timeline.item[invisible] + 1) % len(made.log.items)
    timeline.outcomes[invisible] = 1 - np.nan_to_num(timeline.outcomes[invisible])
    assert len(invisible) > 1 and tables[2].sequences.stop[k] > tables[2].sequences.start[k]
    # then the row's predictions stay
    changed = fitted[name].predict(feature_table(examples))
    for outcome, values in fitted[name].predict(tables[2]).items():
        assert changed[outcome][k] == pytest.approx(values[k], abs=1e-6)


def long_history(events=330):
    """One user's 330 events of 20 items, two of three positive; a row after each of them, and one before."""
    rng = np.random.default_rng(0)
    click, n = (np.arange(events) % 3 > 0).astype(float), events + 1
    return Sequences(rng.integers(0, 20, n), np.arange(n), np.zeros(n, dtype=np.int64), np.arange(n), rng.integers(0, 20, events),
                     np.arange(events), {"click": click}, np.zeros((20, 2), dtype=np.float32), np.arange(20) != 3)


def test_sasrec_reads_the_last_visible_positives_in_order():
    sequences = long_history()
    windows = Windows.of(sequences, "click", most=7)
    seen = set()
    for window in range(len(windows.begin)):
        rows, (runs, where, count, item) = windows.load(np.array([window]))
        assert len(rows) <= 7 and (where == 0).all()
        for k, row in enumerate(rows):
            past = sequences.event_item[: sequences.stop[row]][sequences.event_outcomes["click"][: sequences.stop[row]] == 1]
            expected = np.where(past == 3, 0, past + 1)[len(past) - int(count[k]) :]  # item 3 was never seen in train
            # then the run up to the row's own count is its past, at least HALF of it where there is so much
            assert runs[0, : int(count[k])].tolist() == expected.tolist()
            assert min(len(past), HALF) <= count[k] < 2 * HALF
            assert item[k] == (0 if sequences.item[row] == 3 else sequences.item[row] + 1)
            seen.add(int(row))
    assert len(seen) == len(sequences.item)


def test_sasrecs_state_has_read_nothing_behind_it():
    # given two runs that part at the 5th positive
    torch.manual_seed(0)
    network = Network(20, 0.0).eval()
    first = torch.randint(1, 21, (1, 12))
    second = torch.cat([first[:, :5], (first[:, 5:] % 20) + 1], dim=1)
    with torch.no_grad():
        one, other = network.states(first)[0], network.states(second)[0]
    # then the states of up to 5 positives are equal and the later ones are not
    assert torch.allclose(one[:6], other[:6], atol=1e-6) and not torch.allclose(one[6], other[6], atol=1e-3)
    # and order matters
    turned = first.flip(1)
    with torch.no_grad():
        assert not torch.allclose(one[-1], network.states(turned)[0, -1], atol=1e-3)


@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_an_item_that_train_never_saw_is_the_zero_vector(made, tables, fitted, name):
    # given test rows whose candidates are all unseen: which of them it is cannot matter
    sequences = replace(tables[2].sequences, in_train=np.zeros(len(made.log.items), dtype=bool))
    one, other = (replace(tables[2], sequences=replace(sequences, item=np.full(len(sequences.item), i))) for i in (0, 1))
    assert (fitted[name].predict(one)["click"] == fitted[name].predict(other)["click"]).all()
    network = fitted[name].network if name == "din" else fitted[name].networks["click"]
    assert (network.items.weight[0] == 0).all()


@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_a_log_without_any_history_is_learned_too(tables, name):
    # given rows that see nothing
    bare = []
    for table in tables:
        nothing = np.zeros(len(table.frame), dtype=np.int64)
        seen = table.sequences
        empty = replace(seen, start=nothing, stop=nothing, event_item=nothing[:0], event_time=nothing[:0],
                        event_outcomes={n: np.zeros(0) for n in seen.event_outcomes})
        bare.append(replace(table, sequences=empty))
    baseline = create(name)
    baseline.fit(bare[0], bare[1], {"click": Outcome(kind="binary")}, 0)
    # then the item alone decides
    predicted = baseline.predict(bare[2])["click"]
    known = np.where(seen.in_train[seen.item], seen.item, -1)
    assert all(np.ptp(predicted[known == item]) < 1e-6 for item in np.unique(known)) and np.ptp(predicted) > 1e-3
