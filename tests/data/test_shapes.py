"""Logs of every shape become plain rows: event types, lists in one cell, decimal commas, weights, show positions."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recllm.config import Config
from recllm.data.prepare import check, prepare
from recllm.data.scatter import connect
from recllm.data.shapes import is_odd, lowered, shape
from recllm.data.shapes.numbers import with_point
from recllm.errors import DataError
from tests.conftest import SCHEMA, small_log
from tests.data.test_prepare import read

HOUR, DAY = 3_600, 86_400
START = 1_700_000_000
CUTS = {"validation": "2023-11-20T00:00:00Z", "test": "2023-11-22T00:00:00Z"}  # the logs below run for ten days from 14 November


def log_of(tmp_path, header, rows, schema, name="log.csv", **data) -> Config:
    """A configuration over a log that is written by hand: cells as CSV."""
    (tmp_path / name).write_text("\n".join([header, *(",".join(f'"{cell}"' if "," in str(cell) else str(cell) for cell in row)
                                                      for row in rows)]) + "\n", encoding="utf-8")
    plain = {"name": "odd", "data": {"interactions": str(tmp_path / name), "workers": 1, "shards": 2, "split": CUTS, **data},
             "schema": {"user": "user", "item": "item", "time": {"column": "ts", "unit": "s"},
                        "outcomes": {"click": {"kind": "binary"}}, **schema}}  # fmt: skip
    return Config.model_validate(json.loads(json.dumps(plain)))


def daily(row, days=10):
    """Rows of every day for two users, so that each split has both labels: `row(user, moment, day)` gives a list of them."""
    return [line for day in range(days) for user in ("u1", "u2") for line in row(user, START + day * DAY + (user == "u2"), day)]


# ---- what an event type says

TYPES = {"column": "event", "values": {"view": {"scored": True, "click": 0}, "cart": {"click": 1}, "buy": {"click": 1, "purchase": 1}}}
SHOP = {"event_type": TYPES, "outcomes": {"click": {"kind": "binary", "window": 1},
                                          "purchase": {"kind": "binary", "given": "click", "window": 1}}}


def visit(user, moment, day):
    """Three things are shown; the first is put into the cart two minutes later, and bought ten minutes after on even days."""
    rows = [(user, f"i{k}", moment + 30 * k, "view") for k in range(3)] + [(user, "i0", moment + 120, "cart")]
    return rows + ([(user, "i0", moment + 720, "buy")] if day % 2 == 0 else [])


def test_views_carts_and_purchases_give_the_labels_that_a_shop_expects(tmp_path):
    # given a log of event types, in which a cart is a click and a purchase implies one
    config = log_of(tmp_path, "user,item,ts,event", daily(visit), SHOP)
    report = prepare(config)
    rows = read(config.prepared)
    shown = rows[rows["scored"]]
    known = shown[shown["click_within"].notna()]  # the others are too near to their split's end
    # then views alone are scored, and a view's label is what came of it within a day
    assert report.dropped == {} and len(rows) == report.read and len(shown) == 60 and len(known) == 42
    bought = (known["time"] // 1000 - START) // DAY % 2 == 0
    assert (known["click_within"] == (known["item"] == "i0")).all()
    assert (known["purchase_within"] == ((known["item"] == "i0") & bought)).all()
    # and each event carries what it says itself: a view 0 of both, never unknown, a cart nothing about a purchase
    assert (shown["click"] == 0).all() and (shown["purchase"] == 0).all()
    later = rows[~rows["scored"]]
    assert (later["click"] == 1).all() and set(later["purchase"].dropna()) == {1} and later["purchase"].isna().sum() == 20


def test_a_type_that_is_not_listed_is_dropped_with_its_reason_or_kept_as_history(tmp_path):
    # given a log with hovers, which nobody declared, and a row without a type
    rows = [*daily(visit), ("u1", "i1", START + 5, "hover"), ("u1", "i1", START + 6, "")]
    config = log_of(tmp_path, "user,item,ts,event", rows, SHOP)
    # then they are dropped, counted, and kept beside the shards with their lines
    assert prepare(config).dropped == {"unknown_event_type": 2}
    assert sorted(read(config.prepared, "dropped")["line"]) == [len(rows), len(rows) + 1]
    # or, where that is declared, they are events of which nothing is known
    config = log_of(tmp_path, "user,item,ts,event", rows, {**SHOP, "event_type": {**TYPES, "other": "history"}})
    assert prepare(config).dropped == {}
    kept = read(config.prepared).query("time == @START * 1000 + 5000")
    assert not kept["scored"].any() and kept["click"].isna().all() and len(kept) == 1


@pytest.mark.parametrize(
    ("types", "outcomes", "expected"),
    [
        ({"view": {"click": 0}}, {}, "expected at least one type with scored: true"),
        ({"view": {"scored": True, "clik": 0}}, {}, '"clik" is no outcome'),
        ({"view": {"scored": True, "click": 2}}, {}, "0 or 1"),
        ({"view": {"scored": True, "click": 0}, "cart": {"click": 1}}, {"click": {"kind": "binary"}}, "give it a window"),
        ({"view": {"scored": True, "click": 0}}, {"click": {"kind": "binary", "column": "x"}}, "since event_type says it"),
        ({**TYPES["values"], "buy": {"purchase": 1}}, {}, "purchase is given click: add click: 1"),
        (TYPES["values"], {"purchase": {"kind": "binary", "given": "click", "window": 7}}, r"expected at most that of click \(1 days\)"),
    ],
)
def test_types_that_cannot_give_the_labels_are_refused(tmp_path, types, outcomes, expected):
    schema = {"event_type": {"column": "event", "values": types}, "outcomes": {**SHOP["outcomes"], **outcomes}}
    with pytest.raises(ValueError, match=expected):
        log_of(tmp_path, "user,item,ts,event", [], schema)


def test_types_are_text_whatever_yaml_makes_of_them(tmp_path):
    # given a log in which 1 is shown and 2 is opened: YAML reads the keys as numbers
    config = log_of(tmp_path, "user,item,ts,event", daily(lambda u, t, d: [(u, "a", t, 1), (u, "b", t + 1, 1), (u, "b", t + 2, 2)]), {
        "event_type": {"column": "event", "values": {1: {"scored": True, "click": False}, 2: {"click": True}}},
        "outcomes": {"click": {"kind": "binary", "window": 0.5}}})
    assert prepare(config).rows == 60


# ---- lists of candidates in one cell

MIND = {"impressions": {"column": "shown", "separator": " ", "label": "-", "ordered": True}}
SLATE = {"impressions": {"column": "slate", "clicked": "chosen"}}


def test_a_list_with_labels_is_one_request_with_its_candidates(tmp_path):
    # given MIND's lists, of items whose names hold the sign before the label too
    lists = daily(lambda user, moment, day: [(user, moment, "N1-1 N-2-0  N3-0"), (user, moment, "N4-0 N5-1")])
    config = log_of(tmp_path, "user,ts,shown", lists, MIND)
    report = prepare(config)
    rows = read(config.prepared)
    # then each entry is a row with its label and place, and a line is a request, also where two share a second
    assert report.read == report.rows == 100 and report.dropped == {}
    first = rows[(rows["user"] == "u1") & (rows["time"] == START * 1000)].set_index("item")
    assert first["click"].to_dict() == {"N1": 1, "N-2": 0, "N3": 0, "N4": 0, "N5": 1}
    assert first["position"].to_dict() == {"N1": 1, "N-2": 2, "N3": 3, "N4": 1, "N5": 2}
    assert first.groupby("request").groups.keys() == set(first["request"]) and first["request"].nunique() == 2
    assert first.loc["N1", "request"] == first.loc["N3", "request"] != first.loc["N4", "request"]


def test_a_list_with_the_chosen_one_named_elsewhere(tmp_path):
    # given lists of which nothing, one or two entries were chosen, one of them as JSON
    def shown(user, moment, day):
        return [(user, moment, "a|b|c", "b"), (user, moment + 60, "a|d", ""), (user, moment + 120, "a|b|c", "a|c")]

    log = "\n".join(json.dumps({"user": u, "ts": t, "slate": s.split("|"), "chosen": c}) for u, t, s, c in daily(shown))
    for name, config in (("csv", log_of(tmp_path, "user,ts,slate,chosen", daily(shown), SLATE)),
                         ("jsonl", log_of(tmp_path, "", [], SLATE, name="log.jsonl"))):
        if name == "jsonl":
            (tmp_path / "log.jsonl").write_text(log)
        prepare(config)
        rows = read(config.prepared)
        # then the label says which, and the request's rows share its id
        day = rows[(rows["user"] == "u1") & (rows["time"] < (START + HOUR) * 1000)]
        found = [frozenset(group.loc[group["click"] == 1, "item"]) for _, group in day.groupby("time")]
        assert found == [{"b"}, frozenset(), {"a", "c"}], name
        assert day.groupby("time")["request"].nunique().tolist() == [1, 1, 1] and "position" not in rows


def test_every_entry_that_cannot_be_read_is_counted_and_kept_with_its_line(tmp_path):
    # given an empty list, an empty entry, entries without item, without label, with another label
    bad = [("u1", START + 7, ""), ("u1", START + 8, "x-1  "), ("u1", START + 9, "-1 y-0 y2 z-7")]
    good = daily(lambda user, moment, day: [(user, moment, "a-1 b-0")])
    config = log_of(tmp_path, "user,ts,shown", [*bad, *good], MIND)
    report = prepare(config)
    # then nothing is lost: what is read is kept or dropped
    assert report.dropped == {"empty_impressions": 1, "bad_impression": 3} and report.read == report.rows + 4
    dropped = read(config.prepared, "dropped").sort_values("line", kind="stable")
    assert dropped["line"].tolist() == [2, 4, 4, 4] and sorted(json.loads(r)["shown"] for r in dropped["row"][1:]) == ["-1", "y2", "z-7"]
    # and an empty entry between bars, or a chosen one that was not shown, likewise
    bad = [("u1", START + 7, "a||b|", "b"), ("u1", START + 8, "a|b", "q"), ("u1", START + 9, "[1, {", "")]
    config = log_of(tmp_path, "user,ts,slate,chosen", [*bad, *daily(lambda u, t, d: [(u, t, "a|b", "a")])], SLATE)
    assert prepare(config).dropped == {"bad_impression": 2, "clicked_not_listed": 1, "empty_impressions": 1}


def test_an_exact_copy_of_a_line_is_a_duplicate_of_all_of_its_entries(tmp_path):
    lists = daily(lambda user, moment, day: [(user, moment, "a-1 b-0")])
    assert prepare(log_of(tmp_path, "user,ts,shown", [lists[0], *lists], MIND)).dropped == {"duplicate": 2}


def test_lists_need_one_kind_of_label_and_their_columns(tmp_path):
    for impressions, expected in (({"column": "shown"}, "expected either label"),
                                  ({"column": "shown", "label": "-", "outcome": "buy"}, "a binary outcome"),
                                  ({"column": "shown", "label": "-", "clicked": "c"}, "expected either label")):
        with pytest.raises(ValueError, match=expected):
            log_of(tmp_path, "user,ts,shown", [], {"impressions": impressions})
    with pytest.raises(DataError, match=r'column "slate" is not in .*Schema: impressions'):
        prepare(log_of(tmp_path, "user,ts,shown", [("u1", START, "a-1")], SLATE))


# ---- numbers with a decimal comma

@pytest.mark.parametrize(("written", "expected"), [("1.234,56", 1234.56), ("0,5", 0.5), (",5", 0.5), ("-1.000", -1000), ("12", 12),
                                                   ("1 234,5", 1234.5),
                                                   ("1\u202f234", 1234), ("1e3", 1000), ("1,5E-2", 0.015), ("1.5", None), ("1.23,4", None),
                                                   ("1,234.56", None), ("one", None), ("", None), ("nan", None)])  # fmt: skip
def test_a_decimal_comma_is_read_as_it_is_written(written, expected):
    found = connect().execute(f"SELECT TRY_CAST({with_point('n')} AS DOUBLE) FROM (SELECT ? AS n)", [written]).fetchall()[0][0]
    assert found == expected


def test_decimal_commas_reach_every_number_of_the_log_and_the_tables_beside_it(tmp_path):
    # given a log from where the decimal mark is a comma
    rows = daily(lambda u, t, d: [(u, "a", t, "4,5", "1.234,5", "21,5", "0,5", "21,5"), (u, "b", t + 1, "3,9", "0,25", "-1,5", "2", "x")])
    rows += [("u1", "b", START + 9, "4,0", "1.5", "3,0", "1", "x"), ("u1", "b", START + 10, "4", "1", "3.0", "1", "x")]
    (tmp_path / "items.csv").write_text('item,price,label\na,"1.000,5","9,9"\nb,"0,75",\n')
    (tmp_path / "friends.csv").write_text("user,other,since\nu1,a,1700000000\n")  # a table without a number
    (tmp_path / "users.csv").write_text('user,age\nu1,"30,5"\nu2,?\n')
    config = log_of(tmp_path, "user,item,ts,stars,seconds,warmth,w,label", rows, {
        "decimal": ",", "weight": "w", "relations": {}, "context": {"warmth": {"kind": "number"}, "place": {"column": "label"}},
        "profile": {"age": {"kind": "number"}}, "item_number": ["price"], "item_text": ["label"],
        "outcomes": {"click": {"kind": "binary", "column": "stars", "at_least": 4}, "duration": {"kind": "duration", "column": "seconds"}},
    }, items=str(tmp_path / "items.csv"), users=str(tmp_path / "users.csv"), relations=str(tmp_path / "friends.csv"))  # fmt: skip
    report = prepare(config)
    found = read(config.prepared).query("time < (@START + 5) * 1000 and user == 'u1'").set_index("item")
    # then numbers, weights, durations and thresholds are what they say, and text is left as it is
    assert found.loc["a", ["click", "duration", "warmth", "weight"]].tolist() == [1, 1234.5, 21.5, 0.5]
    assert found.loc["b", ["click", "duration", "warmth", "weight"]].tolist() == [0, 0.25, -1.5, 2] and found.loc["a", "place"] == "21,5"
    items = pd.read_parquet(config.prepared / "items.parquet").set_index("item")
    assert items["price"].to_dict() == {"a": 1000.5, "b": 0.75} and items.loc["a", "label"] == "9,9"
    assert pd.read_parquet(config.prepared / "users.parquet").set_index("user").loc["u1", "age"] == 30.5
    # and a number that is written with a point is none: its row is dropped where a duration needs it, and mended where a field does
    assert report.dropped == {"bad_duration": 1} and report.mended == {"unreadable_warmth": 1}


# ---- weights and show positions

def test_a_weight_reaches_the_loss(tmp_path, tiny_encoder):
    import torch
    from transformers import AutoTokenizer

    from recllm.feed.examples import Examples
    from recllm.feed.fit import fit
    from recllm.feed.log import load_log
    from recllm.model.configuration_recllm import RecllmConfig
    from recllm.model.heads_recllm import Heads
    from recllm.training.losses import binary_loss

    # given rows of weight 3 where something was clicked, and an unreadable weight, which counts as one
    lines = small_log().splitlines()
    rows = [f"{line},{3 if line.split(',')[7] == '1' else 'x'}" for line in lines[1:]]
    (tmp_path / "log.csv").write_text("\n".join([lines[0] + ",w", *rows]))
    config = Config.model_validate({"name": "w", "schema": {**SCHEMA, "weight": "w"},
                                    "data": {"interactions": str(tmp_path / "log.csv"), "workers": 1, "shards": 2}})
    prepare(config)
    log = load_log(config)
    examples = Examples(log, fit(config, log), AutoTokenizer.from_pretrained(tiny_encoder), np.arange(len(log.frame)))
    labels, weight, _ = examples.targets(0)
    click = torch.from_numpy(labels[:, examples.names.index("click")])[None]
    assert set(weight[click[0].numpy() == 1]) == {3} and set(weight[click[0].numpy() == 0]) == {1}
    # then the loss of a clicked row counts three times: at a logit of 0 each row's loss is log 2
    heads, raw = Heads(RecllmConfig(binary=["click"]), 8), {"click": torch.zeros_like(click)}
    even, weighted = (float(binary_loss(heads, raw, "click", click, w)) for w in (torch.ones_like(click), torch.from_numpy(weight)[None]))
    assert weighted == pytest.approx(even + 2 * float((click == 1).sum()) * np.log(2), rel=1e-6) and weighted > even


def test_a_show_position_is_kept_with_the_row_and_is_no_field_of_the_moment(tmp_path):
    # given positions from 1 on, one that is missing and some that are none
    rows = daily(lambda u, t, d: [(u, "a", t, 1, 1), (u, "b", t + 1, 0, 2)])
    rows += [("u1", "c", START + 5 + k, 0, rank) for k, rank in enumerate(["", 0, "top", 1.5])]
    config = log_of(tmp_path, "user,item,ts,click,rank", rows, {"position": "rank"})
    report = prepare(config)
    found = read(config.prepared)
    assert report.dropped == {} and report.mended == {"unreadable_position": 3} and str(found["position"].dtype) in ("Int32", "float64")
    assert found.groupby("item")["position"].agg(lambda p: p.iloc[0]).to_dict()["b"] == 2 and found["position"].isna().sum() == 4


# ---- a plain log

def test_a_plain_schema_leaves_the_relation_as_it_is():
    schema = Config.model_validate({"name": "plain", "data": {"interactions": "x.csv"}, "schema": SCHEMA}).columns
    assert not is_odd(schema) and shape(connect(), "raw", schema) == "raw" and lowered(schema) == schema


def test_a_check_counts_what_a_preparation_would(tmp_path):
    config = log_of(tmp_path, "user,item,ts,event", [*daily(visit), ("u1", "i1", START, "hover")], SHOP)
    (_, found), = check(config)
    assert found.dropped == {"unknown_event_type": 1} and found.rows == len(daily(visit)) + 1
    # and an odd schema survives being written and read
    again = Config.model_validate(json.loads(config.model_dump_json(by_alias=True)))
    assert again == config


PIECES = st.sampled_from(["a-1", "b-0", "c-1", "-", "-1", "d", "e-2", "f--0", "g-h-1", " ", "", "é-0", "[", '"', "i-", "0-0"])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cells=st.lists(st.lists(PIECES, max_size=5).map(" ".join), max_size=8))
def test_lists_of_anything_equal_a_plain_loop(tmp_path, cells):
    # given lists of whatever people write, a second apart, beside good ones
    rows = [("u1", START + 60 + k, cell.replace('"', '""')) for k, cell in enumerate(cells)]
    good = daily(lambda user, moment, day: [(user, moment, "a-1 b-0")])
    config = log_of(tmp_path, "user,ts,shown", [], MIND, rules={"max_dropped": 1})
    lines = ["user,ts,shown", *(f'{user},{moment},"{cell}"' for user, moment, cell in [*rows, *good])]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    report = prepare(config, reuse=False)
    # then what a plain loop reads is kept, and everything else is counted
    kept, lost = {}, 0
    for k, cell in enumerate(cells):
        entries = [] if cell.strip().startswith("[") else cell.split()  # what looks like a JSON list and is none holds nothing
        lost += not entries
        for entry in entries:
            item, sign, label = entry.rpartition("-")
            if sign and item and label in ("0", "1"):
                kept[k, item] = max(int(label), kept.get((k, item), 0))
            else:
                lost += 1
    rows = read(config.prepared)
    found = rows[(rows["time"] >= (START + 60) * 1000) & (rows["time"] < (START + 70) * 1000)]
    assert {((r.time // 1000 - START - 60), r.item): int(r.click) for r in found.itertuples()} == kept
    assert sum(n for rule, n in report.dropped.items() if rule != "duplicate") == lost
    assert report.read == report.rows + sum(report.dropped.values()) + report.merged
