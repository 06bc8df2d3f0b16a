"""The files of a release, in a folder or on the Hub, each checked against the manifest before it is used (DESIGN 7)."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from .errors_recllm import ReleaseError

FORMAT = 2  # of a release's files: 1 had no manifest and came in the full form only
MANIFEST = "manifest.json"
HUB = ("cache_dir", "force_download", "local_files_only", "token", "revision")
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, SafetensorError)  # of a reader, from what it reads
AGAIN = "fetch the release again, or write it again"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a malformed file makes of its reader becomes one ReleaseError that names the file."""
    try:
        yield
    except ReleaseError:
        raise
    except MALFORMED as error:
        raise ReleaseError(f"{path}: expected a file of a release, found one that cannot be read ({type(error).__name__}: {error}): "
                           f"{AGAIN}") from None


def check_format(found: Any, where: object) -> None:
    """Raise ReleaseError for files of a later version, or of none."""
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise ReleaseError(f"{where}: expected the number of a release's format, found {found!r}: {AGAIN}")
    if found > FORMAT:
        raise ReleaseError(f"{where}: expected a release of format {FORMAT} or earlier, found {found}, of a later recllm: update recllm")


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Record sha256 and bytes of every file below a folder; the last thing that is written of a release."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    files = {p.relative_to(folder).as_posix(): {"sha256": digest(p), "bytes": p.stat().st_size} for p in paths}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """Name below the folder -> {"sha256", "bytes"}. Raises ReleaseError for another kind of file, a later format, or a name that leads
    out of the folder."""
    with reading(path):
        plain = json.loads(path.read_text(encoding="utf-8"))
        check_format(plain["format"], path)
        files = plain["files"]
        for name, entry in files.items():
            parts = PurePosixPath(name).parts
            if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
                raise ReleaseError(f'{path}: expected names below the folder, found "{name}", which leads out: do not use this release')
            if not isinstance(entry["sha256"], str) or type(entry["bytes"]) is not int:
                raise ReleaseError(f'{path}: expected sha256 as text and bytes as a number of "{name}", found {entry}: {AGAIN}')
    return files


class ReleaseFiles:
    """Paths of a release's files, fetched where they are on the Hub, all of one revision. `hub` are the keywords of `cached_file`."""

    def __init__(self, source: Any, **hub: Any) -> None:
        self.source, self.hub = str(source), {name: hub[name] for name in HUB if hub.get(name) is not None}
        path = self._fetch(MANIFEST, required=False)
        self.manifest = read_manifest(path) if path is not None else None
        commit = extract_commit_hash(str(path), None) if path is not None and not Path(self.source).is_dir() else None
        if commit is not None:  # whatever is pushed meanwhile, the other files are of this commit
            self.hub["revision"] = commit

    def path(self, name: str) -> Path:
        """A file of the release. Raises ReleaseError where there is none, or where it is not what the manifest says."""
        path = self._fetch(name, required=True)
        if path is None:  # of a missing config.json transformers says nothing
            raise ReleaseError(f"{self.source}: expected {name} of a release, found none")
        if self.manifest is not None:
            self._check(path, name, self.manifest)
        return path

    def checked(self, found_format: Any, path: Path) -> None:
        """Raise ReleaseError for a format that this version does not read, or that comes without its manifest."""
        check_format(found_format, path)
        if found_format > 1 and self.manifest is None:
            raise ReleaseError(f"{self.source}: expected {MANIFEST} in a release of format {found_format}, found none: {AGAIN}")

    def _fetch(self, name: str, required: bool) -> Path | None:
        try:
            found = cached_file(self.source, name, _raise_exceptions_for_missing_entries=required, **self.hub)
        except OSError as error:
            raise ReleaseError(f"{self.source}: expected {name} of a release, found none: {error}") from None
        return None if found is None else Path(str(found))

    def _check(self, path: Path, name: str, manifest: dict[str, dict[str, Any]]) -> None:
        entry = manifest.get(name)
        if entry is None:
            raise ReleaseError(f"{path}: expected a file that {MANIFEST} names, found one that it does not: {AGAIN}")
        size = path.stat().st_size
        if size != entry["bytes"]:
            raise ReleaseError(f"{path}: expected {entry['bytes']:,} bytes as {MANIFEST} says, found {size:,}: {AGAIN}")
        found = digest(path)
        if found != entry["sha256"]:
            raise ReleaseError(f"{path}: expected sha256 {entry['sha256'][:12]} as {MANIFEST} says, found {found[:12]}: the file "
                               f"was changed; {AGAIN}")
