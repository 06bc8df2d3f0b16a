"""What a source names: a local file, a folder, a glob, a database, a URL or a `datasets` id; and which local files that makes."""

import glob
import hashlib
import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from recllm.errors import DataError

SCHEME = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
HIDDEN = ("_", ".")  # how names begin that tools leave beside the data: _SUCCESS, .crc
NO_TABLE = (".md", ".crc")
ARROW_FOLDER = ("dataset_dict.json", "dataset_info.json", "state.json")


def scheme(source: str) -> str | None:
    """`s3` of `s3://bucket/log.csv`; None for a local path."""
    found = SCHEME.match(source)
    return found.group(1).lower() if found else None


def shown(source: str) -> str:
    """A source as it may be printed: without its password."""
    if scheme(source) is None:
        return source
    return without_secrets(re.sub(r"(://[^:/?#@]*):.*@", r"\1:***@", source) if "@" in source else source, passwords(source))


def passwords(source: str) -> list[str]:
    """What must not be printed of a URL."""
    parts = urlsplit(source)
    return [value for key, value in parse_qsl(parts.query) if key == "password"] + ([parts.password] if parts.password else [])


def without_secrets(message: str, secrets: list[str]) -> str:
    """One line of text in which each secret, quoted for a URL or not, is ***."""
    for secret in sorted({form for s in secrets for form in (s, unquote(s)) if form}, key=len, reverse=True):
        message = message.replace(secret, "***")
    return " ".join(message.split())


def key_values(path: str | Path) -> list[str]:
    """The `day=2026-01-01` folders of a path, in order: their keys are columns."""
    return [part for part in Path(path).parts[:-1] if re.fullmatch(r"[^=]+=[^=]*", part)]


def name_of(source: str, *facts: object) -> str:
    """A short name for what is made from a source, equal for equal facts."""
    return hashlib.md5("\n".join([source, *map(str, facts)]).encode()).hexdigest()[:16]


def is_datasets_folder(path: Path) -> bool:
    """A folder of `Dataset.save_to_disk`, which is read as one table."""
    return any((path / name).is_file() for name in ARROW_FOLDER)


def is_table(name: str) -> bool:
    return not name.startswith(HIDDEN) and not name.endswith(NO_TABLE)


def _walk(folder: Path) -> list[Path]:
    """Every file below a folder, links followed, in order. An unreadable folder is an error: os.walk would pass over it."""
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: expected a readable folder, found {error.strerror or error}: change its rights")

    for root, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if is_table(name))
        found += [Path(root) / name for name in sorted(files) if is_table(name)]
    return found


def _base(pattern: str) -> Path:
    """The folder that a glob starts from."""
    return Path(re.split(r"[*?\[]", pattern)[0] + "x").parent


def local_files(source: str, *, whole_folders: bool = False) -> list[Path]:
    """The files that a local path, folder or glob names, in order; a folder of `datasets` stays one.

    `whole_folders` leaves every folder as it is (published logs). Raises DataError where there is none, or one cannot be read.
    """
    path = Path(source)
    if readable(path):
        found = [path]
    else:
        readable(_base(source))  # a glob passes over a folder that it may not read
        found = [Path(name) for name in sorted(glob.glob(source, recursive=True)) if is_table(Path(name).name)]
    if not found:
        raise DataError(f"expected a file at {source}, found none: check the path in the config's data section (RECLLM_DATA is its root)")
    files = [file for one in found for file in
             (_walk(one) if one.is_dir() and not whole_folders and not is_datasets_folder(one) else [one])]
    if not files:
        raise DataError(f"{source}: expected a folder with files of a known format, found none")
    for file in files:
        readable(file)
    return files


def readable(path: Path) -> bool:
    """Does it exist? Raises DataError where it does and cannot be read, or a folder above it cannot."""
    try:
        if not path.exists():
            return False
        if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise PermissionError(13, "Permission denied")
        return True
    except OSError as error:
        raise DataError(f"{path}: expected a readable file or folder, found {error.strerror or error}: change its rights") from None
