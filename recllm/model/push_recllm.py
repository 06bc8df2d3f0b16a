"""A release to the Hub: create the repository, upload all files in one commit, tag it. Failures of the network are tried again."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformers.utils.hub import CommitOperationAdd, HfHubHTTPError, hf_api

from .errors_recllm import ReleaseError
from .manifest_recllm import MANIFEST, read_manifest

TRIES = 5
WAIT = 1.0  # seconds before the second try, doubled before each further one
BUSY = (408, 429, 500, 502, 503, 504)  # HTTP statuses of a Hub that may answer later
ADVICE = {401: "log in: hf auth login", 403: "your token lacks the right to write there: hf auth login with another",
          409: "choose another --revision"}  # fmt: skip

T = TypeVar("T")


def listing(folder: Path) -> list[tuple[str, int]]:
    """(name, bytes) of every file that a push uploads, by name. Raises ReleaseError for a folder that is no release."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise ReleaseError(f"{folder}: expected a release with {MANIFEST}, found none: write it with scripts/release.py")
    names = sorted([*read_manifest(manifest), MANIFEST])
    return [(name, (folder / name).stat().st_size) for name in names]


def push_folder(folder: Path, repo_id: str, *, private: bool = False, token: str | None = None, revision: str | None = None,
                say: Callable[[str], None] = lambda _: None, wait: float = WAIT) -> str:
    """Upload a release in one commit and return the commit's address. `revision` becomes a tag of it.

    Files of an earlier release that this one lacks are removed, others in the repository stay. A busy or unreachable Hub is tried TRIES
    times; raises ReleaseError, one line, where it stays so or refuses, and for a tag that is taken.
    """
    names, api = [name for name, _ in listing(folder)], hf_api()

    def retried(what: str, call: Callable[[], T]) -> T:
        return _retried(f"{repo_id}: {what}", call, say, wait)

    retried("create the repository", lambda: api.create_repo(repo_id, private=private, token=token, exist_ok=True))
    if revision is not None:
        refs = retried("list the tags", lambda: api.list_repo_refs(repo_id, token=token))
        if revision in {ref.name for ref in [*refs.tags, *refs.branches]}:
            raise ReleaseError(f'{repo_id}: expected a revision that is not taken, found "{revision}" there: choose another')
    stale = retried("look for an earlier release", lambda: _stale(api, repo_id, token, set(names)))
    commit = retried("upload", lambda: api.create_commit(
        repo_id, [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names],
        commit_message="Release of recllm", token=token))
    if stale:
        commit = retried("remove files of the earlier release", lambda: api.delete_files(
            repo_id, stale, commit_message="Files of an earlier release", token=token))
    if revision is not None:  # exist_ok: a try whose answer was lost may have set it
        retried("tag", lambda: api.create_tag(repo_id, tag=revision, revision=commit.oid, token=token, exist_ok=True))
    return str(commit.commit_url)


def _stale(api: Any, repo_id: str, token: str | None, names: set[str]) -> list[str]:
    """Names in the repository that an earlier release's manifest holds and this release does not."""
    there = set(api.list_repo_files(repo_id, token=token))
    if MANIFEST not in there:
        return []
    try:
        earlier = read_manifest(Path(api.hf_hub_download(repo_id, MANIFEST, token=token)))
    except ReleaseError:  # not one of ours: its files are somebody's
        return []
    return sorted(there & set(earlier) - names)


def _retried(what: str, call: Callable[[], T], say: Callable[[str], None], wait: float) -> T:
    for tries in range(1, TRIES + 1):
        try:
            return call()
        except Exception as error:  # of whichever HTTP library the client uses
            status, text = _status(error), str(error).strip().splitlines()
            told = text[0] if text else type(error).__name__
            if status not in (*BUSY, None) or (status is None and not _network(error)):
                raise ReleaseError(f"{what}: the Hub refused ({status or type(error).__name__}: {told}): "
                                   f"{ADVICE.get(status or 0, 'check the name of the repository')}") from None
            if tries == TRIES:
                raise ReleaseError(f"{what}: tried {TRIES} times, found {told}: try again later") from None
            say(f"{what}: {told}; try {tries + 1} of {TRIES} in {wait:g} s")
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__
    return found


def _status(error: Exception) -> int | None:
    """HTTP status behind an error, of its causes too: a failed upload of one file is wrapped."""
    for one in _chain(error):
        if isinstance(one, HfHubHTTPError) or hasattr(one, "response"):
            return getattr(getattr(one, "response", None), "status_code", None)
    return None


def _network(error: Exception) -> bool:
    """No connection, or one that broke: httpx and requests name their errors differently, both derive from these or say so."""
    words, chain = ("Connect", "Timeout", "Transport", "Protocol", "Read", "Write", "Network"), _chain(error)
    if any(type(one).__name__ == "OfflineModeIsEnabled" for one in chain):
        return False
    return any(isinstance(one, ConnectionError | TimeoutError) or (type(one).__module__.startswith(("httpx", "httpcore", "requests"))
               and any(word in type(one).__name__ for word in words)) for one in chain)
