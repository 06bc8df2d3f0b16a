"""Text files as UTF-8: other encodings are transcoded while they stream through, gzip and zstd are checked to be whole."""

import codecs
import gzip
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from recllm.data.stopped import stopped
from recllm.data.whole import whole_file
from recllm.errors import DataError

CHUNK = 2**20  # bytes
UTF8 = ("utf-8", "utf-8-sig", "ascii")
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
CUT = (EOFError, OSError, zlib.error)  # what gzip and pyarrow raise for a compressed stream that ends too early, or is none


def open_plain(path: Path) -> IO[bytes] | Any:
    """The file's bytes, decompressed while they are read."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return pa.CompressedInputStream(str(path), "zstd") if path.suffix == ".zst" else path.open("rb")


def _cut(path: Path, error: BaseException) -> DataError:
    if full := stopped(error):
        return full
    if getattr(error, "errno", None):  # the disk, and no cut stream
        return DataError(f"{path}: could not be read or copied: {' '.join(str(error).split())}")
    return DataError(f"{path}: could not be read to its end ({' '.join(str(error).split())}): it may be half-written, get it again")


def encoding_of(path: Path, declared: str | None) -> str | None:
    """The codec to transcode from; None for UTF-8, which needs no copy.

    Raises DataError where the first MiB is neither UTF-8 nor declared to be anything else.
    """
    if declared is not None:
        return None if codecs.lookup(declared).name in UTF8 else declared
    try:
        with open_plain(path) as stream:
            head = stream.read(CHUNK)
    except CUT as error:
        raise _cut(path, error) from None
    for mark, codec in MARKS.items():
        if head.startswith(mark):
            return codec
    _require_utf8(path, head)
    return None


def _require_utf8(path: Path, head: bytes) -> None:
    """Bad bytes among good UTF-8 are lines to drop; without a single good character beyond ASCII they are another encoding."""
    hint = "declare data.encoding, such as latin-1, cp1252 or utf-16-le"
    if head.count(0) * 4 > len(head):
        raise DataError(f"{path}: expected UTF-8 text, found a zero in every few bytes: {hint}")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut at the end
    except UnicodeDecodeError as error:
        if head.decode("utf-8", errors="ignore").isascii():
            raise DataError(f"{path}: expected UTF-8 text, found the byte 0x{head[error.start]:02x} on line "
                            f"{head.count(10, 0, error.start) + 1}: {hint}") from None


def transcode(path: Path, encoding: str, target: Path) -> None:
    """Write the file as UTF-8, uncompressed, a MiB at a time. Raises DataError for bytes that are not in the encoding."""
    decoder, done = codecs.getincrementaldecoder(encoding)(), 0
    try:
        with open_plain(path) as stream, whole_file(target) as part, part.open("wb") as out:
            while chunk := stream.read(CHUNK):
                out.write(decoder.decode(chunk).removeprefix("\ufeff" if done == 0 else "").encode("utf-8"))
                done += len(chunk)
            out.write(decoder.decode(b"", final=True).encode("utf-8"))
    except UnicodeError as error:
        where = f"near byte {done + getattr(error, 'start', 0)}"
        raise DataError(f"{path}: expected text in {encoding}, found bytes that are none {where}: change data.encoding") from None
    except CUT as error:
        raise _cut(path, error) from None


def require_whole(path: Path) -> None:
    """Raise DataError where a zstd file ends too early: DuckDB reads such a file as if it ended there (gzip it refuses itself)."""
    if path.suffix == ".zst":
        found = path.stat()
        _read_through(path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read_through(path: Path, size: int, time: int) -> None:
    """Size and time are there for the cache: each state of a file is read once a process."""
    try:
        with open_plain(path) as stream:
            while stream.read(CHUNK):
                pass
    except CUT as error:
        raise _cut(path, error) from None
