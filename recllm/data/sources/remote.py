"""Files behind any fsspec URL (`s3://`, `gs://`, `hf://`, `memory://`...): found, copied here, and prepared folders copied there and back.

Inputs are staged copies and no open connections: a worker reads a local file, whole and unchanged, in bounded memory.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from recllm.data.sources.places import is_table, key_values, passwords, scheme, shown, without_secrets
from recllm.data.stopped import stopped
from recllm.data.whole import whole_file
from recllm.errors import DataError, MissingExtraError

EXTRAS = {"s3": "'recllm[s3]'", "s3a": "'recllm[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
SECRET = ("secret", "password", "token", "key")
MARK = "fingerprint"  # the file of a prepared folder that says that it is whole
State = tuple[int, str]


def _secrets(storage: Mapping[str, Any]) -> list[str]:
    """Values of options that hold a key, a token or a password, at any depth."""
    deeper = [value for option in storage.values() if isinstance(option, Mapping) for value in _secrets(option)]
    return [str(value) for key, value in storage.items() if isinstance(value, str) and any(word in key.lower() for word in SECRET)] + deeper


@contextmanager
def _clear(url: str, storage: Mapping[str, Any]) -> Iterator[None]:
    """What a file system raises, as one line without secrets."""
    secrets = [*passwords(url), *_secrets(storage)]
    try:
        yield
    except ImportError as error:
        package = EXTRAS.get(scheme(url) or "")
        wanted = f"pip install {package}" if package else without_secrets(str(error), [])
        raise MissingExtraError(f"{shown(url)}: its file system is not installed: {wanted}") from None
    except DataError:
        raise
    # each file system has its own errors: botocore's are no OSErrors; none of them is ours
    except Exception as error:
        said = without_secrets(f"{type(error).__name__}: {error}", secrets)[:300]
        raise stopped(error) or DataError(f"{shown(url)}: could not be reached or read: {said}: check the URL and data.storage") from None


def _open(url: str, storage: Mapping[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    system, path = url_to_fs(url, **storage)
    system.invalidate_cache()  # a listing of an earlier call may be out of date
    return system, path


def _state(info: Mapping[str, Any]) -> State:
    """(bytes, what changes when the file does: its ETag, or time)."""
    names = ("ETag", "etag", "LastModified", "mtime", "last_modified", "updated", "blob_id", "oid", "created")
    return int(info.get("size") or 0), str(next((info[name] for name in names if info.get(name)), ""))


def remote_files(url: str, storage: Mapping[str, Any]) -> dict[str, State]:
    """Path on the file system -> its state, of one file, of a folder's files, or of a glob's, in order. Raises DataError for none."""
    with _clear(url, storage):
        system, path = _open(url, storage)
        if any(sign in path for sign in "*?["):
            found = [name for name in system.glob(path) if is_table(PurePosixPath(name).name)]
        elif system.isdir(path):
            inside = {name: PurePosixPath(name).relative_to(PurePosixPath(path)) for name in system.find(path)}
            found = [name for name, rest in inside.items() if all(is_table(part) for part in rest.parts)]
        else:
            found = [path] if system.exists(path) else []
        if not found:
            raise DataError(f"expected a file at {shown(url)}, found none: check the URL in the config's data section")
        return {name: _state(system.info(name)) for name in sorted(found)}


def fetch_file(url: str, name: str, state: State, folder: Path, storage: Mapping[str, Any]) -> Path:
    """Copy one file of `remote_files`, as it was in that state, into the folder, below its `key=value` folders; whole or not at all."""
    target = folder.joinpath(*key_values(name), PurePosixPath(name).name)
    with _clear(url, storage):
        if target.is_file() and target.stat().st_size == state[0]:
            return target
        system, _ = _open(url, storage)
        with whole_file(target) as part:
            system.get_file(name, str(part))
            system.invalidate_cache()
            now, size = _state(system.info(name)), part.stat().st_size
            if now != state or size != state[0]:
                raise DataError(f"{shown(url)}: expected a file that stands still, found one that changed while it was read "
                                f"({state[0]} bytes before, {now[0]} after, {size} read): wait until it is written")
    return target


def upload_folder(local: Path, url: str, storage: Mapping[str, Any] | None = None) -> None:
    """Copy a prepared folder to a URL in place of what is there. Its `fingerprint` goes first and comes last: a half-copied folder has
    none, and is never taken for a whole one. Raises DataError where a folder has no fingerprint, or a file does not arrive."""
    storage = storage or {}
    files = sorted(path for path in local.rglob("*") if path.is_file() and path != local / MARK)
    if not (local / MARK).is_file():
        raise DataError(f"{local}: expected a prepared folder with its {MARK}, found none: prepare it first")
    with _clear(url, storage):
        system, root = _open(url, storage)
        root = root.rstrip("/")
        if system.exists(f"{root}/{MARK}"):
            system.rm_file(f"{root}/{MARK}")
        wanted = {f"{root}/{path.relative_to(local).as_posix()}": path for path in [*files, local / MARK]}
        for old in system.find(root) if system.exists(root) else []:
            if old not in wanted:  # of an earlier preparation
                system.rm_file(old)
        for name, path in wanted.items():
            system.makedirs(system._parent(name), exist_ok=True)
            system.put_file(str(path), name)
            system.invalidate_cache()
            if int(system.info(name)["size"]) != path.stat().st_size:
                raise DataError(f"{shown(url)}: {path.name} did not arrive whole: copy it again")


def standing(url: str, storage: Mapping[str, Any] | None = None) -> str | None:
    """The `fingerprint` of the prepared folder at a URL, None where none stands."""
    with _clear(url, storage or {}):
        system, root = _open(url, storage or {})
        mark = f"{root.rstrip('/')}/{MARK}"
        return system.cat_file(mark).decode() if system.exists(mark) else None


def fetch_folder(url: str, part: Path, storage: Mapping[str, Any] | None = None) -> None:
    """Copy a prepared folder from a URL into an empty one, which is the caller's to throw away after an error. Raises DataError where the
    `fingerprint` is missing (never finished) or changes meanwhile (written anew)."""
    storage = storage or {}
    with _clear(url, storage):
        system, root = _open(url, storage)
        root = root.rstrip("/")
        if not system.exists(f"{root}/{MARK}"):
            raise DataError(f"{shown(url)}: expected a prepared folder with its {MARK}, found none: it is not there, or was "
                            "copied only in part")
        mark = system.cat_file(f"{root}/{MARK}")
        for name in system.find(root):
            target = part / PurePosixPath(name).relative_to(PurePosixPath(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(name, str(target))
        system.invalidate_cache()
        if not system.exists(f"{root}/{MARK}") or system.cat_file(f"{root}/{MARK}") != mark or (part / MARK).read_bytes() != mark:
            raise DataError(f"{shown(url)}: was written anew while it was copied: copy it again")
