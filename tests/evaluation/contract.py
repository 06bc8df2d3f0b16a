"""What every baseline must do. A new one gets these checks by a subclass:

    class TestMine(BaselineContract):
        name = "mine"
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recllm.evaluation import metrics
from recllm.evaluation.baselines import NAMES, create
from tests.evaluation.tables import GROUPS, OUTCOMES, table, with_labels

TRAIN, VALIDATION, TEST = table(0), table(1, rows=800), table(2, rows=800)


def unlabelled(features):
    return with_labels(features, **{name: np.full(len(features.frame), np.nan) for name in OUTCOMES})


def same(left, right):
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


class BaselineContract:
    name = ""
    predicts_duration = True
    stops_on_validation = False

    @pytest.fixture(scope="class")
    @classmethod
    def predicted(cls):
        return cls.fitted().predict(TEST)

    @classmethod
    def fitted(cls, train=TRAIN, validation=VALIDATION, seed=0):
        baseline = create(cls.name)
        baseline.fit(train, validation, OUTCOMES, seed)
        return baseline

    def test_it_is_registered_under_its_name(self):
        assert self.name in NAMES and create(self.name).name == self.name
        assert isinstance(create(self.name).reads_counters, bool)

    def test_it_predicts_every_outcome_in_its_range(self, predicted):
        expected = [name for name, outcome in OUTCOMES.items() if outcome.kind == "binary" or self.predicts_duration]
        assert sorted(predicted) == sorted(expected)
        for name, values in predicted.items():
            assert values.shape == (len(TEST.frame),) and values.dtype == np.float64
            assert values.min() >= 0 and values.max() <= (1 if OUTCOMES[name].kind == "binary" else OUTCOMES[name].clip)

    def test_it_beats_a_constant(self, predicted):
        for name, values in predicted.items():
            loss = metrics.logloss if OUTCOMES[name].kind == "binary" else metrics.mse
            known = ~np.isnan(TEST.labels[name])
            y = np.minimum(TEST.labels[name][known], OUTCOMES[name].clip)
            assert loss(y, values[known]) < 0.97 * loss(y, np.full(len(y), y.mean())), name

    def test_the_same_seed_gives_the_same_predictions(self, predicted):
        assert same(predicted, self.fitted().predict(TEST))

    def test_predictions_read_no_label(self, predicted):
        # given a test split with the labels turned round, and one with none at all
        baseline = self.fitted()
        turned = with_labels(TEST, **{name: 1 - values for name, values in TEST.labels.items()})
        assert same(predicted, baseline.predict(turned))
        assert same(predicted, baseline.predict(replace(TEST, labels={})))

    def test_a_prediction_does_not_depend_on_the_other_rows(self, predicted):
        for name, values in self.fitted().predict(TEST.take(slice(5, 25))).items():
            assert values == pytest.approx(predicted[name][5:25], abs=1e-5)

    def test_no_event_outside_of_a_rows_slice_reaches_it(self, predicted):
        # given another item, time and outcome for every event that row 7 does not see
        seen, past = TEST.sequences, np.arange(len(TEST.sequences.event_item))
        outside = (past < seen.start[7]) | (past >= seen.stop[7])
        assert 0 < seen.stop[7] - seen.start[7] < 20
        outcomes = {name: np.where(outside, 1 - np.nan_to_num(y), y) for name, y in seen.event_outcomes.items()}
        other = replace(seen, event_item=np.where(outside, 39 - seen.event_item, seen.event_item), event_outcomes=outcomes,
                        event_time=np.where(outside, 999, seen.event_time))
        for name, values in self.fitted().predict(replace(TEST, sequences=other)).items():
            assert values[7] == pytest.approx(predicted[name][7], abs=1e-5)

    def test_it_leaves_the_callers_random_state_alone(self):
        torch.manual_seed(5)
        state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
        self.fitted().predict(TEST)
        assert (torch.get_rng_state() == state).all() and (np.random.get_state()[1] == numbers).all()

    def test_nothing_is_fitted_on_validation(self, predicted):
        # given a validation split without labels, whose columns are those of another world
        blank = unlabelled(VALIDATION)
        shifted = blank.frame.assign(**{c: blank.frame[c] * 1000 + 7 for c in blank.frame.select_dtypes("number")})
        turned = {name: 1 - y for name, y in blank.sequences.event_outcomes.items()}
        other = replace(blank, frame=shifted, sequences=replace(blank.sequences, item=39 - blank.sequences.item, event_outcomes=turned))
        # then it cannot matter; and where nothing is stopped by it, neither can its labels
        assert same(self.fitted(validation=blank).predict(TEST), self.fitted(validation=other).predict(TEST))
        if not self.stops_on_validation:
            assert same(predicted, self.fitted(validation=blank).predict(TEST))

    def test_unknown_labels_are_masked_not_taken_for_zero(self):
        # given a train split in which half of the clicks are unknown
        half = np.arange(len(TRAIN.frame)) % 2 == 0
        train = with_labels(TRAIN, click=np.where(half, np.nan, TRAIN.labels["click"]))
        # then the mean prediction is still the rate of the known ones
        predicted = self.fitted(train=train).predict(TEST)["click"]
        assert predicted.mean() == pytest.approx(np.nanmean(train.labels["click"]), abs=0.06)

    def test_beyond_the_clip_a_duration_is_just_long(self, predicted):
        # given durations of 60 to 90 s under a clip of 60, and the same a thousand times as long
        seconds = [t.labels["duration"] for t in (TRAIN, VALIDATION)]
        longer = [with_labels(t, duration=np.where(s > 60, s * 1000, s)) for t, s in zip((TRAIN, VALIDATION), seconds, strict=True)]
        # then nothing changes
        assert same(predicted, self.fitted(*longer).predict(TEST))

    @pytest.mark.parametrize("label", [0.0, 1.0, np.nan])
    def test_one_class_or_none_does_not_crash(self, label):
        # given an outcome that never or always happens, or is never known, in train; and a duration that is never known
        train = with_labels(TRAIN, purchase=np.full(len(TRAIN.frame), label), duration=np.full(len(TRAIN.frame), np.nan))
        nothing = {f"{who}_purchase_{part}": 0.0 for who in ("item", "item_recent") for part in ("n", "sum")}
        predicted = self.fitted(train=train).predict(replace(TEST, frame=TEST.frame.assign(**nothing)))
        # then it predicts the rate of train, and .5 where there is none
        expected = 0.5 if np.isnan(label) else label
        assert predicted["purchase"] == pytest.approx(np.full(len(TEST.frame), expected), abs=0.01)
        assert "duration" not in predicted

    def test_empty_groups_and_absent_counters_do_not_crash(self):
        # given a log without profile, context, item fields, counters and histories
        bare = [replace(t, frame=t.frame[["age"]], groups={group: [] for group in GROUPS}, sequences=None)
                for t in (TRAIN, VALIDATION, TEST)]
        baseline = self.fitted(train=bare[0], validation=bare[1])
        predicted = baseline.predict(bare[2])
        assert np.isfinite(predicted["click"]).all()
