"""The lines of a CSV file where the reader needs help: its header, and a copy in which every broken line is one that is dropped."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from recllm.data.sources.nested import split_path
from recllm.data.sources.places import key_values
from recllm.data.sources.text import open_plain
from recllm.data.whole import whole_file

HEAD = 2**16  # bytes in which a header ends
CELL = 2**18  # bytes of a record with line feeds in its cells; what is longer is taken for a quote that nobody closed
DELIMITERS = (",", ";", "\t", "|")


def header_of(path: Path, delimiter: str) -> list[str] | None:
    """Names in the first line, None where they are no plain ones: empty, twice (in any case), or longer than HEAD."""
    with open_plain(path) as stream:
        head = stream.read(HEAD)
    try:
        names = next(csv.reader(io.StringIO(head.decode("utf-8-sig", errors="ignore"), newline=""), delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration, TypeError):  # TypeError: a delimiter of several signs
        return None
    whole = len(head) < HEAD or sum(map(len, names)) < HEAD // 8
    plain = all(name.strip() == name and name for name in names) and len({name.casefold() for name in names}) == len(names)
    return names if names and plain and whole else None


def dialect(path: Path, declared: str | None, wanted: Sequence[str]) -> tuple[str, list[str]] | None:
    """(delimiter, names) where the header plainly holds all that is `wanted`: nothing has to be guessed then, and no line of the file can
    make the guess a wrong one. None otherwise."""
    keys = {pair.split("=")[0] for pair in key_values(path)}
    wanted = [name for name in wanted if name not in keys]
    for delimiter in [declared] if declared else DELIMITERS:
        names = header_of(path, delimiter) if wanted else None
        if names and all(name in names or split_path(name, names) for name in wanted):
            return delimiter, names
    return None


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends, whichever of the three kinds those are."""
    rest = b""
    with open_plain(path) as stream:
        while chunk := stream.read(2**20):
            if chunk.endswith(b"\r"):  # the other half of a line end may follow
                chunk += stream.read(1)
            *whole, rest = (rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            yield from whole
    if rest:
        yield rest


def mended(path: Path, declared: str | None, wanted: Sequence[str], folder: Path) -> Path | None:
    """A mended copy of a CSV file in a folder, below the same `key=value` folders; None where its header does not say what it is."""
    found = dialect(path, declared, wanted)
    if found is None:
        return None
    target = folder.joinpath(*key_values(path), path.name.removesuffix(".gz").removesuffix(".zst"))
    write_mended(path, found[0], len(found[1]), target)
    return target


class _Records:
    """What a line does to a record: is it whole (`whole`), does it leave a quote open (`opens`), and inside of one does it close it, or not
    (`closes`, `stays`)? A line that does none of these is broken."""

    def __init__(self, delimiter: str) -> None:
        sign, inside = re.escape(delimiter.encode()), rb'[^"]*(?:""[^"]*)*'
        cell = rb'(?:"' + inside + rb'"|[^"' + sign + rb"][^" + sign + rb"]*|)"
        more = rb"(?:" + sign + cell + rb")*"
        opened = sign + rb'"' + inside
        self.whole = re.compile(cell + more)
        self.opens = re.compile(rb"(?:" + cell + more + opened + rb'|"' + inside + rb")")
        self.closes = re.compile(inside + rb'"' + more)
        self.stays = re.compile(inside + rb'(?:"' + more + opened + rb")?")


def write_mended(path: Path, delimiter: str, columns: int, target: Path) -> None:
    """Copy a CSV file as plain text, each line ended by a line feed. A line whose quote nobody closes, or that has text behind a closed
    one, becomes a single cell: the reader drops it as malformed, and reads what follows it, line by line."""
    records, ahead, lines, sign = _Records(delimiter), deque[bytes](), _lines(path), delimiter.encode()

    def following() -> bytes | None:
        return ahead.popleft() if ahead else next(lines, None)

    with whole_file(target) as part, part.open("wb") as out:
        while (line := following()) is not None:
            record, is_whole = [line], b'"' not in line or bool(records.whole.fullmatch(line))
            is_open = not is_whole and bool(records.opens.fullmatch(line))
            while is_open and sum(map(len, record)) < CELL and (more := following()) is not None:
                record.append(more)
                is_open = bool(records.stays.fullmatch(more))
                is_whole = not is_open and bool(records.closes.fullmatch(more))
            if len(record) > 1 and is_whole:
                text = io.StringIO(b"\n".join(record).decode(errors="replace"), newline="")
                is_whole = len(next(csv.reader(text, delimiter=delimiter))) == columns
            if not is_whole:
                ahead.extendleft(reversed(record[1:]))
                record = [b'"' + line.replace(b'"', b'""') + b'"' + (sign if columns == 1 else b"")]
            out.write(b"\n".join(record) + b"\n")
