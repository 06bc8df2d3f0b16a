"""`datasets` ids (`format: datasets` and a name that is no local path). The only file of this folder that imports `datasets`.

A source is `owner/name`, or `owner/name?config=...&split=...&revision=...`; without `split` all splits are read, one after the other.
What an id holds is taken to stand still: name a `revision` where it does not.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa

from recllm.data.sources.arrow import write_batches
from recllm.data.stopped import stopped
from recllm.errors import DataError, MissingExtraError

BATCH = 20_000  # rows


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("format: datasets with an id needs datasets, which is not installed: pip install 'recllm[hub]'") from None
    return datasets


def _batches(tables: list[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for table in tables:
        for batch in table.with_format("arrow").iter(batch_size=BATCH):
            yield from batch.cast(schema).to_batches()


def datasets_to_parquet(source: str, target: Path) -> None:
    """Write the rows of a dataset of the Hub, or of its cache where there is no network. Raises DataError where it cannot be loaded."""
    name, _, query = source.partition("?")
    options = dict(parse_qsl(query))
    if odd := set(options) - {"config", "split", "revision"}:
        raise DataError(f"{source}: expected only config, split and revision after ?, found {', '.join(sorted(odd))}")
    try:
        loaded = _datasets().load_dataset(name, options.get("config"), split=options.get("split"), revision=options.get("revision"))
        tables = list(loaded.values()) if isinstance(loaded, dict) else [loaded]
        schema = tables[0].features.arrow_schema.remove_metadata()
        write_batches(pa.RecordBatchReader.from_batches(schema, _batches(tables, schema)), target)
    except (OSError, ValueError, RuntimeError) as error:  # the errors of datasets and of the Hub are of many kinds
        if isinstance(error, MissingExtraError):
            raise
        said = f"{source}: expected a local path or the id of a dataset, could not load it: {' '.join(str(error).split())[:300]}"
        raise stopped(error) or DataError(said) from None
