"""Folders to and from a store, several files at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from finetune_trainer.errors import DamagedError, StorageAccessError, StorageError
from finetune_trainer.store.digests import FileDigest, digest_file
from finetune_trainer.store.store import Entry, Store

CONCURRENCY = 8
"""Files in flight; each may have several parts in flight."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def upload_files(
    store: Store, folder: Path, files: Iterable[str], prefix: str = "", verify: bool = False
) -> dict[str, FileDigest]:
    """Upload files of a local folder to `prefix` and return their digests by their path in the folder.

    With `verify` every object is read back and compared. Raises StorageError.
    """

    def upload(name: str) -> tuple[str, FileDigest]:
        digest = digest_file(folder / name)
        path = _join(prefix, name)
        store.upload(folder / name, path)
        if verify and (found := store.digest(path)) != digest:
            raise StorageError(
                f"{store.uri}/{path}: {found.size} bytes came back with another digest than the {digest.size} bytes"
                " that were written; the storage has lost or changed data"
            )
        return name, digest

    return dict(_together(upload, files))


def upload_folder(store: Store, folder: Path, prefix: str = "", last: str = "") -> dict[str, FileDigest]:
    """Upload a whole local folder to `prefix`; the file named `last` comes after all others (readers look for it)."""
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    digests = upload_files(store, folder, (name for name in files if name != last), prefix)
    if last in files:
        digests |= upload_files(store, folder, (last,), prefix)
    return digests


def download_folder(store: Store, folder: Path, prefix: str = "", report: Callable[[int], None] | None = None) -> int:
    """Download everything below `prefix` into a local folder and return the bytes; `report` hears of each file's.

    Raises StorageAccessError when nothing is there.
    """
    entries = store.list(prefix)
    if not entries:
        raise StorageAccessError(
            f"{_join(store.uri, prefix)}: the folder is empty or does not exist; check the address"
        )

    def download(entry: Entry) -> int:
        relative = entry.path.removeprefix(f"{prefix}/") if prefix else entry.path
        size = store.download(entry.path, folder / relative).size
        if report is not None:
            report(size)
        return size

    return sum(_together(download, entries))


def download_verified(store: Store, files: Mapping[str, FileDigest], targets: Mapping[str, Path]) -> None:
    """Download objects to their targets and compare each with its digest.

    Raises DamagedError where one is gone or another than was saved, StorageError where the store does not answer.
    """

    def download(item: tuple[str, Path]) -> None:
        path, target = item
        found, expected = store.download(path, target), files[path]
        if found != expected:
            target.unlink()
            raise DamagedError(
                f"{store.uri}/{path}: {found.size} bytes with digest {found.sha256[:12]} were found,"
                f" {expected.size} bytes with digest {expected.sha256[:12]} were saved; the file was changed or cut off"
            )

    list(_together(download, targets.items()))


def _together(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="transfer") as pool:
        return list(pool.map(function, items))


def _join(prefix: str, name: str) -> str:
    return f"{prefix}/{name}" if prefix else name
