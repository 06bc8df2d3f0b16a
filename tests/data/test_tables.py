"""The tables beside the log: relations, what is kept with an item, late quotes, and counts of the last days."""

import numpy as np
import pandas as pd
import pytest

from recllm.config import Config
from recllm.data.prepare import check, prepare
from recllm.errors import DataError
from recllm.feed.fit import fit
from recllm.feed.log import load_log
from recllm.model.catalogue_recllm import ItemCounts
from tests.conftest import SCHEMA, small_log
from tests.data.test_prepare import read


def test_a_quoted_field_that_first_appears_late_is_read(shop):
    # given a long log whose only quoted fields come after what any sniffer samples
    lines = small_log().splitlines()
    plain = [lines[0], *(lines[1:] * 200)]
    late = [line.replace("Oslo", '"Oslo, by the ""fjord"""').replace("u0", "late") for line in lines[1:4]]
    config = shop("\n".join([*plain, *late]) + "\n", schema={"request": None},
                  rules={"confirmed": ["duplicate"]})  # the log is long because it repeats itself
    # then nothing is malformed
    report = prepare(config)
    assert "malformed_line" not in report.dropped and len(plain) > 20_480
    assert 'Oslo, by the "fjord"' in set(read(config.prepared)["place"])


def test_what_is_kept_with_an_item_is_no_input_of_the_model(shop, tiny_encoder):
    # given bids that are declared as item_info
    items = "".join(f'{{"item_id": "i{i}", "bid": {i}.5}}\n' for i in range(7))
    config = shop(small_log(), items=items, schema={"item_info": ["bid"]})
    prepare(config)
    log = load_log(config)
    processor = fit(config, log)
    # then they are in the catalogue, and in nothing that the model reads
    assert processor.items.fields[3]["bid"] == "3.5"
    assert processor.items.num.shape[1] == processor.items.cat.shape[1] == 0
    assert "bid" not in [*processor.number_names(), *processor.spec["item_text"], *(s.name for s in processor.slots)]


def test_counts_of_the_last_days_are_what_closed_within_them():
    # given one item with events booked at the ends of hours 1, 5 and 30
    hour = 3_600_000
    counts = ItemCounts(hour, np.zeros(3, dtype=np.int64), np.array([1, 5, 30]) * hour, np.array([[1.0], [3.0], [4.0]]))
    times = np.array([0, 1, 5, 24, 25, 29, 30, 54]) * hour
    # then the last day holds what was booked after its start, up to now; past the end of the log, what was the last day then
    found = counts.recent(np.zeros(len(times), dtype=np.int64), times, 24 * hour)[:, 0]
    assert found.tolist() == [0, 1, 3, 3, 2, 0, 1, 1]


def test_relations_are_checked_counted_and_kept_with_their_reason(shop, tmp_path):
    # given relations with a missing id, moments that are none or out of all ranges, oneself, and a line of another length
    lines = ["user,other,since", "u0,u1,2023-11-01", "u0,u1,2023-10-01", "u1,,2023-11-01", "u1,u2,soon", "u2,u3,0001-01-01",
             "u3,u3,2023-11-01", "u4,u5,2023-11-01,and,more"]
    (tmp_path / "relations.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = shop(small_log(), schema={"relations": {}}, relations=str(tmp_path / "relations.csv"))
    report = prepare(config)
    # then each is counted and kept beside the log, and a pair holds from its first moment on
    assert report.tables["relations"] == {"bad_since": 2, "missing_id": 1, "self": 1, "malformed_line": 1}
    assert len(pd.read_parquet(config.prepared / "dropped" / "relations.parquet")) == 5
    kept = pd.read_parquet(config.prepared / "relations.parquet")
    assert kept["user"].tolist() == ["u0"] and pd.Timestamp(kept["since"][0], unit="ms") == pd.Timestamp("2023-10-01")


def test_a_missing_relations_file_or_column_is_found_by_check(shop, tmp_path):
    (tmp_path / "relations.csv").write_text("user,friend,since\nu0,u1,2023-11-01\n", encoding="utf-8")
    for path, expected in ((tmp_path / "none.csv", "expected a file at"), (tmp_path / "relations.csv", 'column "other" is not in')):
        with pytest.raises(DataError, match=expected):
            check(shop(small_log(), schema={"relations": {}}, relations=str(path)))


def test_the_same_malformed_line_of_two_files_is_two_lines(shop, tmp_path):
    files = []
    for k in (1, 2):
        path = tmp_path / f"items{k}.csv"
        path.write_text(f"item_id,title\ni{k},One\nbroken\n", encoding="utf-8")
        files.append(str(path))
    config = shop(small_log())
    data, schema = config.data.model_copy(update={"items": files}), {**SCHEMA, "item_text": ["title"]}
    report = prepare(Config.model_validate({"name": "shop", "data": data.model_dump(), "schema": schema}))
    assert report.tables["items"]["malformed_line"] == 2
