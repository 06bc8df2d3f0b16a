"""The catalogue's tables: mapped from a release's files, stacked for one request, and read by row as if they were one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recllm.model.catalogue_recllm import ARRAYS, ItemCounts, ItemTable
from recllm.model.errors_recllm import ReleaseError
from recllm.model.timeline_recllm import DAY

EXAMPLES = settings(max_examples=60)


def table(seed: int, count: int, name: str = "i") -> ItemTable:
    rng = np.random.default_rng(seed)
    return ItemTable([f"{name}{k}" for k in range(count)], [{"title": f"{name} {k}"} for k in range(count)],
                     rng.integers(0, 9, (count, 2)).astype(np.int32), rng.random((count, 2)).astype(np.float32), rng.random((count, 3)),
                     rng.random((count, 4)).astype(np.float32), rng.integers(-1, 9, count), rng.integers(0, 9, count),
                     rng.random((count, 5)).astype(np.float32))  # fmt: skip


@EXAMPLES
@given(st.integers(0, 1000), st.integers(0, 6), st.integers(1, 3))
def test_stacked_tables_read_as_one(seed, count, more):
    # given
    base, extra = table(seed, count), table(seed + 1, more, "new")
    both = base.extended(extra)
    rows = np.random.default_rng(seed).integers(0, count + more, 9)
    # then
    assert len(both) == count + more
    for name in ARRAYS:
        whole = np.concatenate([getattr(base, name), getattr(extra, name)])
        found = getattr(both, name)
        assert found.shape == whole.shape and found[rows].dtype == whole.dtype
        assert found[rows].tobytes() == whole[rows].tobytes() and found[rows[:0]].shape == whole[rows[:0]].shape
    assert [both.ids[row] for row in rows] == [(base.ids + extra.ids)[row] for row in rows]
    assert [both.fields[row] for row in rows] == [(base.fields + extra.fields)[row] for row in rows]


def test_stacking_copies_nothing_of_the_catalogue():
    base = table(0, 100)
    both = base.extended(table(1, 1, "new"))
    assert all(getattr(both, name).base is getattr(base, name) for name in (*ARRAYS, "ids", "fields"))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_table_comes_back_from_its_files_without_being_read(tmp_path, count):
    # given
    made = table(3, count)
    made.save(tmp_path)
    # when
    found = ItemTable.load(tmp_path / "catalogue.safetensors", tmp_path / "catalogue.jsonl")
    # then
    assert (found.ids, found.fields) == (made.ids, made.fields)
    for name in ARRAYS:
        assert getattr(found, name).dtype == getattr(made, name).dtype and getattr(found, name).tobytes() == getattr(made, name).tobytes()
    if count:
        lies_on = f" {(tmp_path / 'catalogue.safetensors').stat().st_ino} "
        spans = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if lies_on in line]
        assert any(int(low, 16) <= found.vector.ctypes.data < int(high, 16) for low, high in spans)


def test_a_table_can_be_saved_over_the_file_it_lies_on(tmp_path):
    # given a table that is read from a folder
    made = table(3, 50)
    made.save(tmp_path)
    found = ItemTable.load(tmp_path / "catalogue.safetensors", tmp_path / "catalogue.jsonl")
    # when it is written there again, and then a smaller one
    found.save(tmp_path)
    table(4, 2).save(tmp_path)
    # then it is still what it was
    assert all(getattr(found, name).tobytes() == getattr(made, name).tobytes() for name in ARRAYS)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    made = table(3, 3)
    made.save(tmp_path)
    (tmp_path / "catalogue.jsonl").write_text('{"item_id": "i0"}\n')
    with pytest.raises(ReleaseError, match="expected 3 items as in catalogue.safetensors, found 1: release it again"):
        ItemTable.load(tmp_path / "catalogue.safetensors", tmp_path / "catalogue.jsonl")


@EXAMPLES
@given(st.integers(0, 1000), st.integers(0, 30))
def test_item_counts_of_lately_are_what_was_added_in_that_time(seed, booked):
    # given cumulative sums of some items, by hour
    rng, hour = np.random.default_rng(seed), 3_600_000
    events = sorted({(int(row), int(end)) for row, end in zip(rng.integers(0, 4, booked), rng.integers(1, 90, booked), strict=True)})
    counts = ItemCounts(hour, np.array([r for r, _ in events], dtype=np.int64), np.array([e for _, e in events], dtype=np.int64) * hour,
                        np.array([[1.0 + sum(r == row and e < end for r, e in events)] for row, end in events]).reshape(-1, 1))  # fmt: skip
    row, time = rng.integers(-1, 5, 20), rng.integers(0, 200 * hour, 20)
    # when
    now = counts.read(row, time)
    # then a row's counts are the events up to the last whole hour, and lately is the difference to a day before, at the end of the log
    last = max((e for _, e in events), default=0) * hour
    for k in range(20):
        assert now[k, 0] == sum(r == row[k] and e <= time[k] // hour for r, e in events)
        until = min(time[k], last)
        lately = sum(r == row[k] and max((until - DAY) // hour, 0) < e <= until // hour for r, e in events)
        assert counts.recent(row, time, DAY)[k, 0] == counts.recent(row, time, DAY, now)[k, 0] == lately
