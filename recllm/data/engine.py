"""DuckDB as preparation uses it: one thread a task (equal bytes on every run), a memory limit, a folder to spill to."""

import os
from pathlib import Path

import duckdb

from recllm.data.sources.files import literal

MIB = 2**20
LEAST = 96 * MIB  # below this a sort of one bucket cannot even spill
PROCESS = 200 * MIB  # of a worker without its data: interpreter, DuckDB, Arrow, batches in flight


def machine_memory() -> int:
    """Bytes that this process may use: the machine's, or its control group's limit where that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def connect(zone: str = "UTC", threads: int = 1, memory: int | None = None, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database that reads naive times in `zone`, within `memory` bytes, and spills to the folder `spill`."""
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone={literal(zone)}; SET threads={threads}; SET enable_progress_bar=false")
    if memory is not None:
        connection.execute(f"SET memory_limit='{max(memory, LEAST) // MIB}MiB'")
    if spill is not None:
        connection.execute(f"SET temp_directory={literal(spill)}")
    return connection


def share(memory: int | None, workers: int) -> int:
    """Bytes of one worker's database, of the whole run's `memory` (default: half of the machine)."""
    whole = memory or machine_memory() // 2
    return max((whole - (workers + 1) * PROCESS) // workers, LEAST)
