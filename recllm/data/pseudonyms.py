"""Ids before anything is written: raw ones become pseudonyms where the config says so, and users that were forgotten are kept out.

A pseudonym is the keyed BLAKE2b hash of an id (RFC 7693; `hashlib.blake2b`), 16 bytes in hexadecimal. The key lies outside of everything
that is written; without it nobody can tell whose a pseudonym is, nor try out ids. Whoever holds it finds hers with `recllm pseudonym`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import PythonUDFType

from recllm.config import Config
from recllm.data.sources.files import quote
from recllm.data.whole import whole_file
from recllm.errors import ConfigError, DataError

SHORTEST, LONGEST = 16, 64  # bytes of a key; BLAKE2b takes no longer one
FORGOTTEN = "forgotten"  # the reason of rows that are kept out
LIST = "forgotten.json"


@dataclass(frozen=True)
class Key:
    """The secret of the pseudonyms. It is read where it is needed, and stands in no configuration, task or file of the run."""

    value: bytes = field(repr=False)

    def of(self, id: str) -> str:
        """The pseudonym of an id: 32 hexadecimal digits."""
        return blake2b(id.encode(), key=self.value, digest_size=16).hexdigest()

    def column(self, ids: pa.Array) -> pa.Array:
        """Pseudonyms of a column of ids, null for null: one hash per distinct id."""
        found = ids.dictionary_encode()
        return pa.array([self.of(id) for id in found.dictionary.to_pylist()], pa.string()).take(found.indices)

    def numbers(self, column: pa.Array) -> pa.Array:
        """A column of numbers (uint64) as keyed hashes of them."""
        plain = column.to_numpy().astype("<u8").tobytes()
        digests = (blake2b(plain[k:k + 8], key=self.value, digest_size=8).digest() for k in range(0, len(plain), 8))
        return pa.array(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))

    @property
    def mark(self) -> str:
        """A hash that tells two keys apart and says nothing about either."""
        return blake2b(b"recllm", key=self.value, digest_size=16).hexdigest()


def read_key(config: Config) -> Key | None:
    """The key that `data.pseudonyms` names, None without that section. Raises ConfigError, which never holds the key."""
    said = config.data.pseudonyms
    if said is None:
        return None
    if said.key_env is not None:
        value, where = os.environ.get(said.key_env, "").encode(), "data.pseudonyms.key_env"
        if not value:  # the name is not said: somebody may have put the key itself there
            raise ConfigError(f"{where}: expected the name of an environment variable that holds the key, found none of that name: "
                              f"export it")
    else:
        path, where = Path(str(said.key_file)).expanduser(), "data.pseudonyms.key_file"
        if path.resolve().is_relative_to(config.folder.resolve()):
            raise ConfigError(f"{where}: expected a file outside of what is written, found it in {config.folder}: move it")
        if not path.is_file():
            raise ConfigError(f"{where}: expected a file that holds the key, found none at {path}")
        value = path.read_bytes().rstrip(b"\r\n")
    if not SHORTEST <= len(value) <= LONGEST:
        raise ConfigError(f"{where}: expected a key of {SHORTEST} to {LONGEST} bytes, found {len(value)} bytes: make one with "
                          f"`openssl rand -hex 32`")
    return Key(value)


def written_id(config: Config, user: str) -> str:
    """A user's id as it stands in everything that is written: the pseudonym where the config says so, else the id itself."""
    key = read_key(config)
    return key.of(user) if key else user


@dataclass(frozen=True)
class Forgotten:
    """Users that preparation keeps out, as salted hashes of their ids as written: `forgotten.json` beside the prepared folder.

    Without a key anybody who holds the list can try out ids, as with any list that must recognise them.
    """

    salt: str = ""
    users: dict[str, str] = field(default_factory=dict)  # hash -> when the user was forgotten, ISO 8601 UTC; "" without train rows
    key: str = ""  # Key.mark of the key under which the ids were written

    @classmethod
    def read(cls, config: Config, folder: Path | None = None) -> "Forgotten":
        """folder: the run's, where a worker's environment may not say it. Raises DataError where the list was made under another key: its
        users could not be recognised."""
        path = (folder or config.folder) / LIST
        if not path.is_file():
            return cls()
        plain = json.loads(path.read_text(encoding="utf-8"))
        found, key = cls(plain["salt"], plain["users"], plain["key"]), read_key(config)
        if found.key != (key.mark if key else ""):
            raise DataError(f"{path}: expected the list of forgotten users under the key of data.pseudonyms, found one made under another "
                            f"key, or none: use that key again, or remove the list and forget each of its users again")
        return found

    def adding(self, config: Config, ids: dict[str, bool]) -> "Forgotten":
        """The list with more ids (as written), each with whether it has train rows; those that it holds already stay as they are."""
        key, now = read_key(config), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        longer = Forgotten(self.salt or os.urandom(16).hex(), key=key.mark if key else "")
        return replace(longer, users={longer._hash(id): now if train else "" for id, train in ids.items()} | self.users)

    def write(self, config: Config) -> None:
        plain = {"salt": self.salt, "key": self.key, "users": dict(sorted(self.users.items()))}
        with whole_file(config.folder / LIST) as part:
            part.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    def holds(self, id: str) -> bool:
        return bool(self.users) and self._hash(id) in self.users

    def lacking(self, ids: Iterable[str]) -> "Forgotten":
        """The list without some ids."""
        theirs = {self._hash(id) for id in ids} if self.users else set()
        return replace(self, users={h: moment for h, moment in self.users.items() if h not in theirs})

    def since(self, id: str) -> datetime | None:
        """When a user of train rows was forgotten: what was trained before may have learnt from these rows."""
        found = self.users.get(self._hash(id)) if self.users else None
        return datetime.fromisoformat(found) if found else None

    def _hash(self, id: str) -> str:
        return blake2b(id.encode(), key=bytes.fromhex(self.salt), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Ids:
    """What becomes of the ids of rows that were read. `closed`: there is something to hide or to keep out; else rows go as they are."""

    key: Key | None = None
    forgotten: Forgotten = Forgotten()
    items: bool = False  # item ids are hidden
    people: bool = False  # an item may be a user
    raw: dict[str, str] = field(default_factory=dict)  # raw column of an id -> our own column of it

    @classmethod
    def of(cls, config: Config, folder: Path | None = None) -> "Ids":
        schema, items = config.columns, config.pseudonymous_items
        raw = {schema.user: "user", schema.request: "request", schema.session: "session", schema.item if items else None: "item"}
        if items and schema.impressions:
            raw |= {schema.impressions.column: "item", schema.impressions.clicked: "item"}
        return cls(read_key(config), Forgotten.read(config, folder), items, schema.relations is not None,
                   {column: name for column, name in raw.items() if column})

    @property
    def closed(self) -> bool:
        return self.key is not None or bool(self.forgotten.users)

    def sql(self, connection: duckdb.DuckDBPyConnection, id: str, side: str) -> tuple[str, str]:
        """SQL of an id (`id`, an expression) as it is written, and of whether it is kept out. `side`: user, item, or other (both)."""
        hide = self.key is not None and (side == "user" or self.items)
        if hide:
            _function(connection, "recllm_pseudonym", lambda x: self.key.column(x), "VARCHAR")  # type: ignore[union-attr]
        written = f"recllm_pseudonym({id})" if hide else id
        if not self.forgotten.users or (side == "item" and not self.people):
            return written, "false"
        _function(connection, "recllm_is_forgotten", self._held, "BOOLEAN")
        return written, f"coalesce(recllm_is_forgotten({written}), false)"

    def _held(self, ids: pa.Array) -> pa.Array:
        found = ids.dictionary_encode()
        return pa.array([self.forgotten.holds(id) for id in found.dictionary.to_pylist()], pa.bool_()).take(found.indices)

    def kept_raw(self, names: Iterable[str], wanted: Iterable[str]) -> list[str]:
        """Raw columns that a dropped row keeps: all, or with a key those that have a role and hold no id."""
        return [n for n in names if self.key is None or (n in set(wanted) and n not in self.raw)]

    def hide(self, batch: pa.RecordBatch, buckets: int) -> pa.RecordBatch:
        """Scatter's batch (recllm/data/partition.py) with ids as they are written, the buckets of these, and rows of forgotten users among
        the dropped ones, without content."""
        if self.key:
            for name in dict.fromkeys(["user", "request", "session", *(["item"] if self.items else [])]):
                if name in batch.schema.names:
                    batch = _put(batch, name, self.key.column(batch.column(name)))
            # made of the whole raw row, ids included, by a function that anybody can try ids with
            batch = _put(batch, "content", self.key.numbers(batch.column("content")))
        users = batch.column("user").dictionary_encode()
        at = users.indices.fill_null(0).to_numpy(zero_copy_only=False)
        names = users.dictionary.to_pylist() or [""]
        out = np.array([self.forgotten.holds(name) for name in names])[at] & users.is_valid().to_numpy(zero_copy_only=False)
        if self.people and self.forgotten.users:
            out |= self._held(batch.column("item")).fill_null(False).to_numpy(zero_copy_only=False)
        bucket = batch.column("bucket").to_numpy()
        own = np.array([bucket_of(name, buckets) for name in names], dtype=bucket.dtype)[at]
        raw = self._raw(batch, bucket == buckets)
        reasons = batch.column("reason").to_pylist() if out.any() else []
        batch = _put(batch, "bucket", pa.array(np.where(out | (bucket == buckets), buckets, own)))
        batch = _put(batch, "raw", pa.array([None if gone else text for gone, text in zip(out, raw, strict=True)], pa.string()))
        if not reasons:
            return batch
        told = [FORGOTTEN if gone else reason for gone, reason in zip(out, reasons, strict=True)]
        return _put(batch, "reason", pa.array(told, pa.string()))

    def _raw(self, batch: pa.RecordBatch, lost: np.ndarray) -> list[str | None]:
        """The raw rows (JSON) of dropped rows, with the ids as they are written."""
        texts: list[str | None] = batch.column("raw").to_pylist()
        if self.key is None:
            return texts
        for k in np.flatnonzero(lost).tolist():
            ids = {raw: batch.column(name)[k].as_py() for raw, name in self.raw.items() if name in batch.schema.names}
            head, rest = json.dumps(ids, ensure_ascii=False)[:-1], (texts[k] or "{}")[1:]
            texts[k] = head + rest if rest == "}" else f"{head},{rest}"
        return texts


def bucket_of(user: str, buckets: int) -> int:
    """The bucket of a user's id as written, as scatter's SQL has it."""
    return int(hashlib.md5(user.encode()).hexdigest()[:8], 16) % buckets


def _put(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.names.index(name), name, values)


def _function(connection: duckdb.DuckDBPyConnection, name: str, made: Callable[[pa.Array], pa.Array], kind: str) -> None:
    """Register a function over Arrow columns, once a connection."""
    if not connection.execute("SELECT 1 FROM duckdb_functions() WHERE function_name = ?", [name]).fetchall():
        def call(ids: pa.ChunkedArray) -> pa.Array:
            return made(ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids)

        connection.create_function(name, call, ["VARCHAR"], kind, type=PythonUDFType.ARROW)


def sweep(config: Config) -> None:
    """Remove the staged sources where raw ids must not stay in the run's folder: they are made again when they are read again."""
    if config.data.pseudonyms or (config.folder / LIST).is_file():
        shutil.rmtree(config.folder / "staged", ignore_errors=True)


def raw_struct(names: Iterable[str]) -> str:
    """SQL of a row's raw columns as one struct."""
    return ", ".join(f"{quote(name)} := {quote(name)}" for name in names)
