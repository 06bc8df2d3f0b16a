"""`scripts/forget.py`: users out of everything that was made of a log, a search that proves it, and what was trained with them."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from recllm.config import Config
from recllm.data.forget import Prepared, Say, forget_prepared
from recllm.data.pseudonyms import LIST, Forgotten, written_id
from recllm.data.traces import SHORTEST

WHOLES = {"processor_spec.json": "release", "mark": "trained run"}  # a file that only such a folder has; it is no use without a part of it


@dataclass
class Forgetting:
    """What a call did and found."""

    users: int
    prepared: Prepared
    kept_out: Path  # the list of forgotten users
    cleaned: dict[Path, str] = field(default_factory=dict)
    searched: Counter[str] = field(default_factory=Counter)  # files by kind
    bytes: int = 0
    hits: dict[Path, int] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        return sum(self.hits.values())

    def text(self) -> str:
        """For a reader, without ids."""
        found, traces = self.prepared, self.prepared.traces
        lines = [f"forgotten: {self.users} user(s), on the list in {self.kept_out}: preparation keeps them out from now on"]
        if found.again:
            lines.append("  prepared again from the sources: other users' rows changed as well")
        else:
            dropped = sum((c.total() for c in found.taken.dropped.values()), 0)
            lines.append(f"  taken out of the prepared log: {found.taken.rows:,} rows, {found.taken.candidates:,} candidates, {dropped:,} "
                         f"dropped rows; candidates drawn for others and the moments of the split stay as they are")
        lines += [f"  not corrected: {what}" for what in found.taken.inexact]
        lines += [f"  {path}: {what}" for path, what in self.cleaned.items()]
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.searched.items()))
        lines.append(f"searched {self.searched.total()} files ({kinds}; {self.bytes:,} bytes): {self.left} hits left")
        lines += [f"  {path}: {n} hits" for path, n in self.hits.items()]
        if traces.vague:
            lines.append("  an id that is a number, or an item's too, was looked for in columns and keys of users alone")
        if any(len(id.encode()) < SHORTEST for id in traces.every):
            lines.append(f"  an id of fewer than {SHORTEST} bytes was looked for in texts, cells and headers, not in compressed bytes")
        lines += [f"train again: {what} was trained with rows of theirs" for what in self.trained]
        lines += [f"still in the source: {n:,} rows of {source}; it was not touched" for source, n in found.raw.items()]
        lines += [f"sources not read: {found.unread}"] if found.unread else []
        return "\n".join(lines)


def forget(config: Config, users: list[str], outputs: list[Path], *, say: Say) -> Forgetting:
    """Forget users (raw ids). `outputs`: files and folders outside of the run's folder that are cleaned and searched as well.

    Raises DataError as `forget_prepared` does, StoppedError where another run writes the folder.
    """
    users = list(dict.fromkeys(users))
    found = Forgetting(len(users), forget_prepared(config, users, say), config.folder / LIST)
    say("searching everything that was written")
    _clean(config, found, outputs)
    for path in _files([config.folder, *outputs]):
        hits = found.prepared.traces.count(path)
        found.searched[path.suffix.lstrip(".") or "without suffix"] += 1
        found.bytes += path.stat().st_size
        if hits:
            found.hits[path] = hits
    found.trained = _trained(config, users, outputs)
    return found


def _files(places: list[Path]) -> list[Path]:
    """Every file in folders, and the files among `places`."""
    inside = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [path for path in dict.fromkeys(inside) if path.is_file() and not path.is_symlink()]


def _wholes(places: list[Path]) -> list[Path]:
    """Folders of releases and of trained runs."""
    return sorted({path.parent for path in _files(places) if path.name in WHOLES})


def _clean(config: Config, found: Forgetting, outputs: list[Path]) -> None:
    """Take the users out of what lies beside the prepared folder: rows and lines, else the file; of a release or a run the whole folder."""
    traces, prepared = found.prepared.traces, config.prepared
    for folder in _wholes([config.folder, *outputs]):
        if any(traces.count(path) for path in _files([folder]) if path.name != "log.jsonl"):
            shutil.rmtree(folder)
            found.cleaned[folder] = "removed, it held their ids as items"
    for path in _files([config.folder, *outputs]):
        if path.is_relative_to(prepared) or path == found.kept_out:
            continue
        if path.suffix == ".html":  # its example is one user's timeline, without the id
            path.unlink()
            found.cleaned[path] = "removed, one user's timeline is in it: call evaluate --results FILE --report HTML again"
        elif traces.count(path):
            found.cleaned[path] = traces.clean(path)


def _trained(config: Config, users: list[str], outputs: list[Path]) -> list[str]:
    """Releases and runs that are older than the moment at which a user with train rows was forgotten."""
    known = Forgotten.read(config)
    moments = [moment for user in users if (moment := known.since(written_id(config, user)))]
    out = []
    for folder in _wholes([config.folder, *outputs]):
        name = next(name for name in reversed(WHOLES) if (folder / name).is_file())
        made = datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)
        if any(made < moment for moment in moments):
            out.append(f"{WHOLES[name]} {folder}")
    return out


