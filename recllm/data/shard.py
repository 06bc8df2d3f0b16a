"""Rows of a bucket as one Arrow table, and the finished shard out of it: SQL says which rows, in what order; here they are only carried.

Texts are dictionaries of codes here: moving and writing them costs half of the CPU that joining and sorting whole rows in SQL does.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recllm.data.whole import whole_file
from recllm.schema import Schema, label_column

BATCH = 122_880  # rows
ROW_GROUP = 1_048_576  # rows; a dictionary is written once in each
POOL = pa.system_memory_pool()  # keeps what it was given: Arrow's own pool hands large arrays back to the system and faults them in again


def _batches(paths: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pa.memory_map(str(path)) as source:
            yield from pa.ipc.open_stream(source, memory_pool=POOL)


def coded(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """All rows in one chunk, each column of text as codes into its distinct values: batch by batch, so that the texts of a user with a
    third of the log never stand in memory together."""
    parts: dict[str, list[pa.Array]] = {name: [] for name in schema.names}
    for batch in batches:
        for name, column in zip(schema.names, batch.columns, strict=True):
            parts[name].append(pc.dictionary_encode(column, memory_pool=POOL) if pa.types.is_string(column.type) else column)
    columns = {}
    for field in schema:
        kind = pa.dictionary(pa.int32(), pa.string()) if pa.types.is_string(field.type) else field.type
        chunks = pa.chunked_array(parts.pop(field.name), kind)
        column = chunks.unify_dictionaries(memory_pool=POOL).combine_chunks(memory_pool=POOL)
        columns[field.name] = _sorted(column) if pa.types.is_dictionary(kind) else column
    return pa.table(columns)


def _sorted(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same values, coded in their order: a file is then equal wherever its rows came from."""
    order = pc.array_sort_indices(column.dictionary)
    rank = np.empty(len(order), dtype=np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(rank).take(column.indices), column.dictionary.take(order))


def bucket_table(paths: list[Path], since: int | None = None) -> pa.Table:
    """The rows that scatter put into one bucket, in the order of files and lines, with their place `id` in this table.

    since: UTC ms; older rows are left out."""
    batches, schema = _batches(paths), pa.ipc.open_stream(str(paths[0])).schema
    table = coded(batches if since is None else (batch.filter(pc.field("time") >= since) for batch in batches), schema)
    return table.append_column("id", pa.array(np.arange(len(table), dtype=np.int64)))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def plain_schema(rows: pa.Schema, but: tuple[str, ...] = ()) -> pa.Schema:
    """Columns with texts as texts."""
    return pa.schema([(name, _plain(rows.field(name).type)) for name in rows.names if name not in but])


def shard_schema(schema: Schema, rows: pa.Schema) -> pa.Schema:
    """Columns of a finished shard. `schema` is the lowered one, `rows` are the bucket's columns."""
    kinds = {name: _plain(rows.field(name).type) for name in rows.names}
    kinds |= {"known_at": pa.int64(), "pos": pa.int64(), "n_before": pa.int32(), "scored": pa.bool_()}
    kinds = {"request": pa.string(), "weight": pa.float64()} | kinds
    outcomes = [n for name, spec in schema.outcomes.items() for n in ([name, label_column(name)] if spec.window else [name])]
    kinds |= dict.fromkeys(outcomes, pa.float64())
    names = ["user", "item", "time", "utc_offset", "request", "weight", "known_at", "pos", "n_before", *schema.extra, *schema.context,
             *outcomes, *(["session"] if schema.session else []), "scored"]
    return pa.schema([(name, kinds[name]) for name in names])


def _used(column: pa.ChunkedArray) -> pa.Array:
    """A coded column with the values that occur in it only, in their order: a file must not name whom it has no row of."""
    codes = column.combine_chunks(memory_pool=POOL)
    known = codes.indices.is_valid().to_numpy(zero_copy_only=False)
    places = codes.indices.fill_null(0).to_numpy()
    there = np.zeros(len(codes.dictionary), dtype=bool)
    there[places[known]] = True
    moved = np.cumsum(there, dtype=np.int32) - np.int32(1)
    indices = pa.array(moved[places] if len(there) else places, mask=None if known.all() else ~known)
    return pa.DictionaryArray.from_arrays(indices, codes.dictionary.filter(pa.array(there)))


def _row_group(rows: pa.Table, order: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows at `order.id`, with the columns that `order` brings."""
    taken = rows.select([n for n in schema.names if n in rows.column_names and n not in order.column_names])
    taken = pc.take(taken, order.column("id"), memory_pool=POOL)
    columns = {}
    for field in schema:
        if field.name in order.column_names:
            columns[field.name] = order.column(field.name).cast(field.type)
        elif field.name == "scored":
            columns["scored"] = pc.greater(taken.column("scored"), 0) if "scored" in taken.column_names else pa.repeat(True, len(order))
        elif field.name in taken.column_names:
            column = taken.column(field.name)
            columns[field.name] = _used(column) if pa.types.is_dictionary(column.type) else column
        else:
            columns[field.name] = pa.repeat(1.0, len(order)) if field.name == "weight" else pa.nulls(len(order), field.type)
    return pa.table(columns)


def _coded_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(f.name, pa.dictionary(pa.int32(), pa.string()) if pa.types.is_string(f.type) else f.type) for f in schema])


def _writer(path: Path, stored: pa.Schema) -> pq.ParquetWriter:
    # without the Arrow schema in the file, or readers would find dictionaries where texts are meant
    return pq.ParquetWriter(path, stored, compression="zstd", store_schema=False)


def write_rows(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Write finished rows again, out of batches of ROW_GROUP: byte by byte what `write_shard` makes of the same rows."""
    stored = _coded_schema(schema)
    with whole_file(path) as part, _writer(part, stored) as out:
        for batch in batches:
            out.write_table(coded([batch], schema).cast(stored), row_group_size=ROW_GROUP)


def write_shard(path: Path, rows: pa.Table, orders: Iterable[pa.RecordBatch], schema: pa.Schema, booked: list[str]) -> list[pa.Table]:
    """Write the rows that `orders` name (id, known_at, pos, n_before, labels), in their order. Returns their columns `booked`."""
    stored = _coded_schema(schema)
    written = [stored.empty_table().select(booked)]
    with whole_file(path) as part, _writer(part, stored) as out:
        for batch in orders:
            table = _row_group(rows, pa.Table.from_batches([batch]), schema).cast(stored)
            out.write_table(table, row_group_size=ROW_GROUP)
            written.append(table.select(booked))
    return written
