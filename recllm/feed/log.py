"""The prepared folder in memory: all rows of all splits, each user's timeline contiguous and in order."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recllm.config import Config, declared
from recllm.data.gather import SPLITS
from recllm.data.report import Report
from recllm.data.settings import check_settings
from recllm.data.sources.remote import fetch_folder
from recllm.data.work import FINGERPRINT
from recllm.errors import DataError
from recllm.model.fields_recllm import as_list, as_text
from recllm.model.files_recllm import whole_folder
from recllm.schema import label_column


@dataclass
class Log:
    """N rows, U users, I items. `split` holds codes into SPLITS; `first` the row at which each user's timeline starts."""

    frame: pd.DataFrame  # item, time, utc_offset, known_at, pos, n_before, scored, weight, context columns, outcomes
    user: np.ndarray  # (N,) int64 user code
    item: np.ndarray  # (N,) int64 item code
    split: np.ndarray  # (N,) int8
    request: np.ndarray  # (N,) int64: rows of one user with the same request id, or else the same time
    first: np.ndarray  # (U + 1,) int64
    users: list[str]
    profiles: list[dict[str, Any]]
    items: list[str]
    item_fields: list[dict[str, Any]]
    published: np.ndarray  # (I,) int64 UTC ms, -1 unknown
    item_vectors: dict[str, list[Any]]  # precomputed vectors by field, one list of numbers or None per item
    relations: pd.DataFrame | None  # user (id), other (id), since (UTC ms), where the schema has them
    candidates: pd.DataFrame  # sampled negatives: row (of this log), item (code)
    report: Report

    def time(self) -> np.ndarray:
        return self.frame["time"].to_numpy(dtype=np.int64)

    def context_texts(self, names: list[str]) -> list[str]:
        """Distinct texts of free-text context fields, in the order of their vectors."""
        return sorted({text for name in names for text in map(as_text, self.frame[name].dropna().unique()) if text is not None})

    def outcomes(self, names: list[str]) -> np.ndarray:
        """(N, len(names)) float64, NaN unknown: what events carry, as it stood when they were known."""
        return self.frame[names].to_numpy(dtype=np.float64)

    def labels(self, names: list[str]) -> np.ndarray:
        """(N, len(names)) float64, NaN unknown: what is to be predicted; it differs from `outcomes` where an outcome has a window."""
        found = [label_column(n) if label_column(n) in self.frame else n for n in names]
        return self.frame[found].to_numpy(dtype=np.float64)


def _records(path: Path, key: str, apart: list[str]) -> tuple[list[str], list[dict[str, Any]], pd.DataFrame]:
    """(ids, known fields of each, the table); the columns `apart` are no fields."""
    table = pd.read_parquet(path)
    rest = table.drop(columns=[key, "listed", *(n for n in apart if n in table)])
    fields = []
    for record in rest.to_dict("records") if len(rest.columns) else [{}] * len(table):  # pandas before 3.1 has no record without a field
        known = {n: as_list(v) if isinstance(v, np.ndarray) else v for n, v in record.items()}
        fields.append({str(n): v for n, v in known.items() if isinstance(v, list) or not pd.isna(v)})
    return table[key].tolist(), fields, table


@contextmanager
def _one_state(folder: Path) -> Iterator[None]:
    """Around a read of several files: a preparation that replaces the folder meanwhile would give old rows beside new ones."""
    def state() -> tuple[int, int] | None:
        try:
            found = (folder / FINGERPRINT).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    before = state()
    try:
        yield
    finally:  # a file that was not found is then no wonder
        if state() != before:
            raise DataError(f"{folder}: expected a folder that stands still, found one that was prepared anew while it was read: "
                            f"call again") from None


def load_log(config: Config) -> Log:
    """Read `config.prepared`, old or new and never both. Raises DataError when it is missing, made with another schema or other data
    settings, or replaced meanwhile."""
    if config.data.out and not config.prepared.exists():  # prepared on another machine
        with whole_folder(config.prepared) as part:
            fetch_folder(config.data.out, part, config.data.storage)
    with _one_state(config.prepared):
        return _load(config)


def _load(config: Config) -> Log:
    folder = config.prepared
    if not (folder / "schema.json").is_file():
        raise DataError(f"expected a prepared log in {folder}, found none: run scripts/prepare.py with this config first")
    if declared(json.loads((folder / "schema.json").read_text())) != declared(json.loads(config.columns.model_dump_json())):
        raise DataError(f"{folder} was prepared with another schema: run scripts/prepare.py with this config again")
    check_settings(folder, config)
    parts = [pd.read_parquet(path).assign(split=code) for code, split in enumerate(SPLITS)
             for path in sorted((folder / "data").glob(f"{split}-*.parquet"))]
    frame = pd.concat([p for p in parts if len(p)], ignore_index=True).sort_values(["user", "pos"], kind="stable", ignore_index=True)
    vectors = [n for n in config.columns.item_vector]
    items, item_fields, item_table = _records(folder / "items.parquet", "item", ["published", *vectors])
    user, users = pd.factorize(frame["user"])
    first = np.append(np.flatnonzero(np.diff(user, prepend=-1)), len(frame))
    if len(first) - 1 != len(users):
        raise DataError(f"{folder}: expected each user's rows in one shard, found a user in two: prepare again")
    index = pd.Series(np.arange(len(items)), index=pd.Index(items))
    at = frame["request"].where(frame["request"].notna(), frame["time"].astype(str) + "@")
    request = frame.assign(at=at, user=user).groupby(["user", "at"], sort=False).ngroup().to_numpy()
    known_users, profiles, _ = _records(folder / "users.parquet", "user", [])
    by_user = dict(zip(known_users, profiles, strict=True))
    published = item_table["published"].fillna(-1).to_numpy(dtype=np.int64) if "published" in item_table else np.full(len(items), -1)
    frame = frame.drop(columns=["session"], errors="ignore")  # for appends only
    return Log(frame=frame.drop(columns=["user", "split"]), user=user, item=index.reindex(frame["item"]).to_numpy(dtype=np.int64),
               split=frame["split"].to_numpy(dtype=np.int8), request=request, first=first, users=list(users),
               profiles=[by_user.get(u, {}) for u in users], items=items, item_fields=item_fields, published=published,
               item_vectors={n: item_table[n].tolist() if n in item_table else [None] * len(items) for n in vectors},
               relations=pd.read_parquet(folder / "relations.parquet") if config.columns.relations else None,
               candidates=_candidates(folder, frame, index), report=Report.read_from(folder))


def _candidates(folder: Path, frame: pd.DataFrame, index: pd.Series) -> pd.DataFrame:
    files = sorted((folder / "candidates").glob("*.parquet"))
    if not files:
        return pd.DataFrame({"row": np.empty(0, dtype=np.int64), "item": np.empty(0, dtype=np.int64)})
    drawn = pd.concat([pd.read_parquet(path) for path in files])
    rows = frame[["user", "pos"]].assign(row=np.arange(len(frame)))
    joined = drawn.merge(rows, on=["user", "pos"])
    return pd.DataFrame({"row": joined["row"], "item": index.reindex(joined["item"]).to_numpy(dtype=np.int64)}).sort_values(
        ["row", "item"], ignore_index=True)
