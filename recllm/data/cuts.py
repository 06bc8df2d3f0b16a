"""The moments at which validation and test begin."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recllm.config import Split, utc_ms
from recllm.data.engine import connect
from recllm.data.partition import HOUR
from recllm.errors import DataError


def _date(moment: int) -> str:
    return str(connect().execute(f"SELECT strftime(make_timestamp({moment * 1000}), '%Y-%m-%d %H:%M')").fetchall()[0][0])


def ranked(hours: dict[int, int], files: Sequence[Path], rank: int) -> int:
    """The kept moment of that rank (from 0), in UTC ms. `hours`: kept rows by hour since 1970; `files`: all moments as int64."""
    seen = 0
    for hour in sorted(hours):
        if seen + hours[hour] > rank:
            break
        seen += hours[hour]
    inside = []
    for file in files:
        moments = np.memmap(file, dtype=np.int64, mode="r") if file.stat().st_size else np.empty(0, dtype=np.int64)
        inside.append(moments[(moments >= hour * HOUR) & (moments < (hour + 1) * HOUR)])
    return int(np.partition(np.concatenate(inside), rank - seen)[rank - seen])


def cut(split: Split, hours: dict[int, int], files: Sequence[Path]) -> tuple[int, int, int]:
    """First moments of validation and test, of the kept rows by fraction or as declared, and the log's last moment: UTC milliseconds.

    A share q of n rows ends at the row of rank ceil(q n) - 1, SQL's discrete quantile. Raises DataError where a split would be empty.
    """
    rows = sum(hours.values())
    first, last = ranked(hours, files, 0), ranked(hours, files, rows - 1)
    if isinstance(split.validation, str):
        validation, test = utc_ms(split.validation), utc_ms(str(split.test))
    else:
        shares = (1 - split.validation - float(split.test), 1 - float(split.test))
        validation, test = (ranked(hours, files, max(rows - int(np.floor(rows - share * rows)), 1) - 1) for share in shares)
    if not first < validation < test <= last:
        raise DataError(f"data.split: expected first row < validation < test <= last row, found a log from {_date(first)} to "
                        f"{_date(last)}, validation from {_date(validation)} and test from {_date(test)}: change data.split, or give a "
                        f"longer log")
    return validation, test, last
