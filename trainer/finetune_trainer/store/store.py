"""`Store`: one folder of object storage, the same for buckets and for folders of a machine.

Synchronous on purpose: obstore's coroutines abort the interpreter now and then when it ends (their threads ask for
the GIL during finalization), its plain calls do not. The agent calls these in threads; none of them holds the GIL
while it waits.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from finetune_contract.document import Document
from finetune_trainer.errors import DamagedError, StorageAccessError
from finetune_trainer.store.clients import FIRST_CONTACT, LATER, Client, Patience, make_client
from finetune_trainer.store.digests import FileDigest, sha256_text
from finetune_trainer.store.folder_lock import LOCK_SUFFIX, hold_lock
from finetune_trainer.store.location import Location, locate
from finetune_trainer.store.refusals import names_missing_bucket, refuse

Result = TypeVar("Result")
Model = TypeVar("Model", bound=Document)

CHUNK_BYTES = 8 * 1024 * 1024
"""Part of a multipart upload, and of a streamed download."""
MOST_PARTS = 9_000
"""S3 allows 10,000 parts."""


@dataclass(frozen=True)
class Stored:
    """An object's bytes and the version that a conditional put can name."""

    data: bytes
    version: str


@dataclass(frozen=True)
class Entry:
    """One line of a listing."""

    path: str
    """Relative to the store's URI."""
    size: int
    """Bytes."""
    e_tag: str = field(default="", compare=False)
    """Changes when the content does; empty where the storage has none."""


class Store:
    """One folder of object storage. All paths are relative to it, with slashes."""

    def __init__(
        self, location: Location, environment: Mapping[str, str], count_failure: Callable[[], None] = lambda: None
    ) -> None:
        self.uri = location.uri.rstrip("/")
        self._count_failure = count_failure
        self.folder = location.folder
        self._location = location
        self._environment = dict(environment)
        self._reached: set[str] = set()

    @cached_property
    def _client(self) -> Client:
        return self._made(LATER)

    @classmethod
    def open(
        cls, uri: str, environment: Mapping[str, str] | None = None, count_failure: Callable[[], None] = lambda: None
    ) -> Store:
        """Make the store of a URI; `environment` holds its credentials (the process's own when absent).

        Contacts nothing. Raises StorageAccessError when the URI makes no sense; credentials are looked at by the first
        call. `count_failure` is called for every request that failed after its own retries.
        """
        environment = os.environ if environment is None else environment
        return cls(locate(uri), environment, count_failure)

    def below(self, path: str) -> Store:
        """The store of a folder of this one."""
        return Store.open(f"{self.uri}/{path}", self._environment)

    def probe(self) -> None:
        """First contact, answered within seconds.

        Raises StorageAccessError for a missing bucket or claim, a refused key, an endpoint that does not answer.
        """
        root = self._location.root
        if root is not None and not root.is_dir():
            raise StorageAccessError(
                f"{self.uri}: claim {self._location.bucket} is not mounted at {root};"
                " check that the claim exists in the job's namespace"
            )
        if self.folder is None:
            client = self._made(FIRST_CONTACT)
            self._call("read", "", lambda: next(iter(obstore.list(client, chunk_size=1)), None))
        elif not _is_usable(self.folder):
            raise StorageAccessError(f"{self.uri}: the folder cannot be read or made; check its path and its rights")

    def get(self, path: str) -> Stored | None:
        """Read one object; None when it is absent. Raises StorageError."""

        def read() -> Stored:
            result = obstore.get(self._client, self._key(path))
            data = result.bytes().to_bytes()
            return Stored(data, self._version(data, result.meta.get("e_tag"), result.meta.get("version")))

        try:
            return self._call("read", path, read)
        except FileNotFoundError:
            return None

    def get_range(self, path: str, start: int, length: int) -> bytes | None:
        """Read a part of one object; None when the object is absent. Raises StorageError."""

        def read() -> bytes:
            return obstore.get_range(self._client, self._key(path), start=start, length=length).to_bytes()

        try:
            return self._call("read", path, read)
        except FileNotFoundError:
            return None

    def get_document(self, path: str, model: type[Model]) -> Model | None:
        """Read one document of the contract; None when it is absent. Raises StorageError when it is not one."""
        stored = self.get(path)
        return None if stored is None else self.parse(path, stored.data, model)

    def parse(self, path: str, data: bytes, model: type[Model]) -> Model:
        """A document from bytes that were read at `path`. Raises DamagedError when they are not one."""
        try:
            return model.from_json(data)
        except ValueError as error:
            raise DamagedError(
                f"{self.uri}/{path}: this is not the {model.__name__} that this version writes ({error}); remove it"
            ) from error

    def put(self, path: str, data: bytes) -> None:
        """Write one object, over what is there. Raises StorageError."""
        self._call("write", path, lambda: obstore.put(self._client, self._key(path), data))

    def create(self, path: str, data: bytes) -> bool:
        """Write one object only if it is absent; False when it was there. Raises StorageError."""
        try:
            self._call("write", path, lambda: obstore.put(self._client, self._key(path), data, mode="create"))
        except AlreadyExistsError:
            return False
        return True

    def swap(self, path: str, data: bytes, version: str) -> bool:
        """Write one object only if it still has this version; False when another writer was first."""
        if self.folder is not None:
            return self._swap_in_folder(path, data, version)
        e_tag, _, generation = version.partition("\n")
        mode: obstore.UpdateVersion = {}
        if e_tag:
            mode["e_tag"] = e_tag
        if generation:
            mode["version"] = generation
        try:
            self._call("write", path, lambda: obstore.put(self._client, self._key(path), data, mode=mode))
        except PreconditionError:
            return False
        return True

    def size(self, path: str) -> int | None:
        """Bytes of one object; None when it is absent. Raises StorageError."""
        try:
            return int(self._call("read", path, lambda: obstore.head(self._client, self._key(path)))["size"])
        except FileNotFoundError:
            return None

    def find(self, path: str) -> Entry | None:
        """One object as a listing shows it; None when it is absent. Raises StorageError."""
        try:
            meta = self._call("read", path, lambda: obstore.head(self._client, self._key(path)))
        except FileNotFoundError:
            return None
        return Entry(path, meta["size"], meta["e_tag"] or "")

    def list(self, prefix: str = "") -> tuple[Entry, ...]:
        """All objects below a folder, sorted by path. Raises StorageError."""

        def read() -> list[Entry]:
            batches = obstore.list(self._client, self._key(prefix) or None)
            return [
                Entry(self._path(meta["path"]), meta["size"], meta["e_tag"] or "")
                for batch in batches
                for meta in batch
            ]

        entries = self._call("read", prefix, read)
        return tuple(sorted((e for e in entries if not e.path.endswith(LOCK_SUFFIX)), key=lambda entry: entry.path))

    def delete(self, *paths: str) -> None:
        """Remove objects; one that is absent is no error. Raises StorageError."""
        for path in paths:
            try:
                self._call("delete", path, partial(obstore.delete, self._client, self._key(path)))
            except FileNotFoundError:
                continue
            if self.folder is not None:
                _remove_empty_folders((self.folder / path).parent, self.folder)

    def upload(self, source: Path, path: str) -> None:
        """Copy one file into the store, in parts when it is large. Raises StorageError."""
        chunk = max(CHUNK_BYTES, source.stat().st_size // MOST_PARTS + 1)
        self._call(
            "write",
            path,
            lambda: obstore.put(self._client, self._key(path), source, chunk_size=chunk, max_concurrency=4),
        )

    def download(self, path: str, target: Path) -> FileDigest:
        """Copy one object into a file (atomically: no reader sees half of it) and return its size and digest.

        Raises StorageError, also when the object is absent.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.part")
        with unfinished.open("wb") as file:
            digest = self._stream(path, file.write)
        unfinished.replace(target)
        return digest

    def digest(self, path: str) -> FileDigest:
        """Read one object back and return its size and digest. Raises StorageError, also when it is absent."""
        return self._stream(path, len)

    def _stream(self, path: str, consume: Callable[[memoryview], int]) -> FileDigest:
        def read() -> FileDigest:
            state, size = hashlib.sha256(), 0
            for chunk in obstore.get(self._client, self._key(path)).stream(min_chunk_size=CHUNK_BYTES):
                view = memoryview(chunk)
                state.update(view)
                consume(view)
                size += len(view)
            return FileDigest(size=size, sha256=state.hexdigest())

        try:
            return self._call("read", path, read)
        except FileNotFoundError as error:
            raise DamagedError(f"{self.uri}/{path}: the object is gone; was it deleted by hand?") from error

    def _call(self, kind: str, path: str, function: Callable[[], Result]) -> Result:
        """Call obstore; what the caller handles (absent, exists, changed) passes, the rest becomes ours."""
        try:
            result = function()
        except (AlreadyExistsError, PreconditionError):
            self._reached.add(kind)
            raise
        except FileNotFoundError as error:
            if kind == "write" or names_missing_bucket(str(error)):
                self._count_failure()
                raise refuse(error, self.uri, path, kind not in self._reached) from error
            raise
        except (BaseError, OSError) as error:
            self._count_failure()
            raise refuse(error, self.uri, path, kind not in self._reached) from error
        self._reached.add(kind)
        return result

    def _swap_in_folder(self, path: str, data: bytes, version: str) -> bool:
        assert self.folder is not None
        with hold_lock(self.folder / path):
            current = self.get(path)
            if current is None or current.version != version:
                return False
            self.put(path, data)
            return True

    def _version(self, data: bytes, e_tag: str | None, generation: str | None) -> str:
        return sha256_text(data) if self.folder is not None else f"{e_tag or ''}\n{generation or ''}"

    def _key(self, path: str) -> str:
        return path if self.folder is None else str(self.folder / path).lstrip("/")

    def _path(self, key: str) -> str:
        return key if self.folder is None else os.path.relpath("/" + key, self.folder)

    def _made(self, patience: Patience) -> Client:
        try:
            return make_client(self._location, self._environment, patience)
        except (BaseError, ValueError) as error:
            detail = str(error).split("\n", 1)[0][:300]
            raise StorageAccessError(
                f"{self.uri}: the credentials make no sense ({detail}); check the Secret of storage.secretRef"
            ) from error


def _is_usable(folder: Path) -> bool:
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return nearest.is_dir() and os.access(nearest, os.R_OK | os.X_OK)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    """Buckets have no empty folders, so folders shall have none either."""
    while folder != root and folder.is_relative_to(root):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
