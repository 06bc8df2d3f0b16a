"""Predictions for a file of requests: JSON Lines in, one row per candidate in Parquet out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from recllm.errors import DataError
from recllm.model.errors_recllm import RequestError
from recllm.model.files_recllm import whole_file
from recllm.model.recommender_recllm import Recommender


def read_requests(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, request) of a JSON Lines file. Raises DataError with the line that is none."""
    if not path.is_file():
        raise DataError(f"expected a JSON Lines file of requests at {path}, found none")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                found = f"{error.msg}: {line.strip()[:80]!r}"
                raise DataError(f"{path}:{number}: expected a request as one line of JSON, found {found}") from None


def predict_file(recommender: Recommender, source: Path, target: Path) -> int:
    """Write request (its `id`, or its line), item_id and the predictions of every candidate. Returns the number of rows.

    Raises DataError or RequestError with the line at fault; then no file is written.
    """
    parts = []
    for number, request in tqdm(read_requests(source), desc="predicting", unit=" requests", delay=2, leave=False):
        try:
            found = recommender.predict([request])[0]
        except RequestError as error:
            raise RequestError(f"{source}:{number}: {error}") from None
        name = request.get("id", number) if isinstance(request, dict) else number
        parts.append(pd.DataFrame(found).assign(request=str(name)))
    if not parts:
        raise DataError(f"{source}: expected requests, found an empty file")
    table = pd.concat(parts, ignore_index=True)
    table = table[["request", *(c for c in table if c != "request")]]
    with whole_file(target) as part:
        table.to_parquet(part, index=False)
    return len(table)
