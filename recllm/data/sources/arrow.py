"""Arrow IPC files and streams (`.arrow`, `.feather`, `.ipc`), and folders of `Dataset.save_to_disk`: mapped, not copied."""

import hashlib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as arrow_dataset

from recllm.data.stopped import stopped
from recllm.data.whole import whole_file
from recllm.errors import DataError

MAGIC = b"ARROW1"  # of a file; a stream has none


def is_stream(path: Path) -> bool:
    """Streams can only be read from start to end, once."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) != MAGIC


def register(connection: duckdb.DuckDBPyConnection, key: str, table: pa.Table | arrow_dataset.Dataset) -> str:
    name = "recllm_" + hashlib.md5(key.encode()).hexdigest()[:12]  # several sources may be read in one statement
    connection.register(name, table)
    return name


def scan_arrow(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """A relation over one file (read batch by batch) or one stream (mapped). Raises DataError where it is neither."""
    try:
        if is_stream(path):
            return register(connection, str(path), pa.ipc.open_stream(pa.memory_map(str(path))).read_all())
        return register(connection, str(path), arrow_dataset.dataset(str(path), format="ipc"))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: expected Arrow IPC, could not read it: {' '.join(str(error).split())[:200]}") from None


def scan_arrows(connection: duckdb.DuckDBPyConnection, folder: Path, paths: list[Path]) -> str:
    """A relation over the streams of one `datasets` folder."""
    try:
        tables = [pa.ipc.open_stream(pa.memory_map(str(path))).read_all() for path in paths]
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{folder}: expected Arrow streams, could not read one: {' '.join(str(error).split())[:200]}") from None
    return register(connection, str(folder), pa.concat_tables(tables))


def write_batches(batches: pa.RecordBatchReader, target: Path) -> int:
    """Write batches as one Parquet file, whole or not at all, in bounded memory. Returns the number of rows."""
    import pyarrow.parquet as parquet

    rows = 0
    with whole_file(target) as part, parquet.ParquetWriter(part, batches.schema, compression="zstd") as writer:
        for batch in batches:
            if batch.num_rows:
                writer.write_batch(batch)
                rows += batch.num_rows
    return rows


def stream_to_parquet(path: Path, target: Path) -> None:
    """An Arrow stream as Parquet: a compressed stream does not fit a map, and may not fit the memory."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            write_batches(reader, target)
    except (pa.ArrowInvalid, OSError) as error:
        said = ' '.join(str(error).split())[:200]
        raise stopped(error) or DataError(f"{path}: expected an Arrow stream, could not read it to its end: {said}") from None
