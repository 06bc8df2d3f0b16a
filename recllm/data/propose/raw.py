"""A source as preparation reads it, for a sample: staged in a folder of a few moments, its encoding guessed where none is declared."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from recllm.config import DataConfig
from recllm.data.sources.scan import ADAPTERS, scan
from recllm.data.sources.stage import stage
from recllm.errors import DataError

FILES = 32  # of a source of more, so many are looked at, evenly out of all
SPACED = ("utf-16-le", "utf-16-be")  # what has a zero in every few bytes
WESTERN = ("cp1252", "latin-1")  # what is not UTF-8: the second reads any bytes


@dataclass(frozen=True)
class Source:
    """`relation`: a table expression over the files; `size`: bytes of all of them; `guessed`: the encoding, where nobody declared it."""

    relation: str
    size: int
    guessed: str | None = None


@contextmanager
def opened(connection: duckdb.DuckDBPyConnection, data: DataConfig, path: str, table: str) -> Iterator[Source]:
    """The source while its staged form stands. Raises DataError, with the source's name and not that of its staged form."""
    if data.format in ADAPTERS:
        yield Source(scan(connection, path, format=data.format, table=table), _bytes(path))
        return
    with TemporaryDirectory(prefix="recllm-schema-") as folder:
        files, guessed = _staged(data, path, Path(folder))
        looked_at = files[::-(-len(files) // FILES)]
        try:
            parts = [scan(connection, file, format=data.format, delimiter=data.delimiter, table=table) for file in looked_at]
            relation = parts[0] if len(parts) == 1 else f"({' UNION ALL BY NAME '.join(f'SELECT * FROM {part}' for part in parts)})"
            yield Source(relation, sum(map(_bytes, looked_at)), guessed)
        except DataError as error:
            message = str(error)
            for file in looked_at:
                message = message.replace(file, path) if file.startswith(folder) else message
            raise DataError(message) from None


def _staged(data: DataConfig, path: str, folder: Path) -> tuple[list[str], str | None]:
    """The local files, and the encoding that was guessed for them: the first in which every byte is a character."""
    try:
        return stage(data, path, folder), None
    except DataError as error:
        if data.encoding or "expected UTF-8 text" not in str(error):
            raise
        guesses = SPACED if "a zero in every few bytes" in str(error) else WESTERN
        refused = error
    for encoding in guesses:
        try:
            return stage(data.model_copy(update={"encoding": encoding}), path, folder), encoding
        except DataError:
            continue
    raise refused


def _bytes(path: str) -> int:
    files = [Path(path)] if Path(path).is_file() else Path(path).rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
