"""A drop is a figure outside of its committed interval on the worse side, and nothing else."""

import pytest

from recllm.errors import DataError
from recllm.evaluation.drops import drops
from tests.evaluation.results import results, row


def changed(metric, mean, **where):
    """Results in which one figure of the model is another."""
    found = results()
    for one in found["rows"]:
        if (one["metric"], one["model"], one["slice"]) == (metric, "recllm", "all") and all(one[k] == v for k, v in where.items()):
            one["mean"] = mean
    return found


@pytest.mark.parametrize(
    ("metric", "inside", "outside"),
    [("auc", 0.7301, 0.7299), ("logloss", 0.4199, 0.4201), ("coverage", 0.7701, 0.7699), ("coverage", 0.8099, 0.8101)],
)
def test_only_the_worse_side_of_an_interval_is_a_drop(metric, inside, outside):
    # given committed figures with an interval of .02 on both sides
    committed = results()
    assert drops(changed(metric, inside, counters="fresh"), committed) == []
    found = drops(changed(metric, outside, counters="fresh"), committed)
    assert [(d.figure.split()[1], d.new) for d in found] == [(f"{metric},", outside)]


@pytest.mark.parametrize(("metric", "better"), [("auc", 0.99), ("logloss", 0.01), ("mae", 1.0)])
def test_a_better_figure_is_no_drop(metric, better):
    assert drops(changed(metric, better), results()) == []


def test_the_line_holds_old_interval_and_new():
    (drop,) = drops(changed("auc", 0.6, counters="frozen"), results())
    assert drop.text() == "drop: click auc, counters frozen: committed 0.7400 [0.7200, 0.7600], now 0.6000"


def test_baselines_and_slices_do_not_count():
    # given a committed file whose baseline and slices were better, and which lacks one slice
    committed = results([{**r, "mean": 0.99, "low": 0.98} if r["model"] != "recllm" or r["slice"] != "all" else r
                         for r in results()["rows"] if r["slice"] != "place=a=b"])
    assert drops(results(), committed) == []


def test_a_file_of_other_tasks_or_metrics_is_named_from_both_sides():
    other = results([*results()["rows"], row("auc", 0.7, task="like"), row("mrr", 0.5)])
    with pytest.raises(DataError, match=r"old.json: .* It has what the .* have not: like auc, counters fresh; click mrr, counters fresh\."):
        drops(results(), other, "old.json")
    with pytest.raises(DataError, match=r"old.json: .* It lacks: like auc, counters fresh; click mrr, counters fresh\."):
        drops(other, results(), "old.json")
    with pytest.raises(DataError, match=r"It lacks: .* and 2 more; and it has what .* have not: like auc, counters fresh\."):
        drops(results(), results([row("auc", task="like")]))


@pytest.mark.parametrize(
    ("committed", "message"),
    [({"a": 1}, 'with "rows"'), (results([{"model": "recllm"}]), "row 0 lacks task, metric")],
)
def test_another_json_is_an_error(committed, message):
    with pytest.raises(DataError, match=message):
        drops(results(), committed)
