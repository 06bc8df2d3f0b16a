"""A config as the tasks read it: every source a local file, every rule a moment."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from recllm.config import Config
from recllm.data.settings import TABLES
from recllm.data.sources.places import shown
from recllm.data.sources.scan import ADAPTERS
from recllm.data.sources.stage import stage
from recllm.data.work import FINGERPRINT, Work
from recllm.errors import DataError

BYTES_PER_ROW = 100  # of a text file, compressed ones a fifth


@dataclass(frozen=True)
class Staged:
    """A config whose tables are local files, and the log's files as (path, name of the source)."""

    config: Config
    files: list[tuple[str, str]]


def staged(config: Config, folder: Path | None = None) -> Staged:
    """What is no file that DuckDB reads, made one in `folder` (`<config's folder>/staged`). Raises DataError for an unreadable source."""
    local, labels = {}, []
    for table in ("interactions", *TABLES):
        found = {source: [source] if config.data.format in ADAPTERS else stage(config.data, source, folder or config.folder / "staged")
                 for source in getattr(config.data, table)}
        local[table] = [path for paths in found.values() for path in paths]
        if table == "interactions":
            labels = [shown(source) if len(paths) == 1 else path for source, paths in found.items() for path in paths]
    if not local["interactions"]:
        raise DataError(f"data.interactions: expected files, found none in {', '.join(map(shown, config.data.interactions))}")
    data = config.data.model_copy(update=local)
    return Staged(config.model_copy(update={"data": data}), list(zip(local["interactions"], labels, strict=True)))


def dated(config: Config, work: Work) -> Config:
    """The config with an end of time: the day after the work began, the same for all tasks and for a run that goes on later."""
    if config.data.rules.max_time is not None:
        return config
    latest = datetime.fromtimestamp((work.folder / FINGERPRINT).stat().st_mtime, UTC) + timedelta(days=1)
    rules = config.data.rules.model_copy(update={"max_time": latest.replace(tzinfo=None).isoformat()})
    return config.model_copy(update={"data": config.data.model_copy(update={"rules": rules})})


def rows_of(path: str) -> int:
    """About how many rows a source has."""
    file = Path(path)
    files = [p for p in file.rglob("*") if p.is_file()] if file.is_dir() else [file] if file.is_file() else []
    rows = 0
    for found in files:
        try:
            rows += pq.ParquetFile(found).metadata.num_rows
        except (OSError, ValueError):
            rows += found.stat().st_size * (5 if found.suffix in (".gz", ".zst") else 1) // BYTES_PER_ROW
    return rows
