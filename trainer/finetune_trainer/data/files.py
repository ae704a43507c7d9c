"""The files of one part of the data: found, identified, and brought here one by one."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from finetune_contract.spec import DataSource
from finetune_trainer.data.formats import Format, find_format
from finetune_trainer.errors import DataError, StorageAccessError
from finetune_trainer.store.store import Entry, Store

HTTP_SECONDS = 60


@dataclass(frozen=True)
class DataFile:
    """One file of a part."""

    uri: str
    kind: Format
    size: int
    """Bytes; 0 where the server does not say."""
    identity: str
    """Changes when the content does: the storage's own tag."""
    store: Store | None
    """None for http(s)."""
    path: str
    """Relative to the store."""

    def fetch(self, folder: Path) -> Path:
        """The file on this machine: where it lies, or downloaded once into the folder."""
        if self.store is not None and self.store.folder is not None:
            return self.store.folder / self.path
        target = folder / self.path.replace("/", "__")
        if not target.is_file():
            if self.store is not None:
                self.store.download(self.path, target)
            else:
                _download(self.uri, target)
        return target


def find_files(source: DataSource, part: str) -> tuple[DataFile, ...]:
    """The files of a source, in the order of their names.

    Raises `StorageAccessError` where there is nothing, `DataError` where no file has a known format.
    """
    uri = source.source
    if uri.startswith(("http://", "https://")):
        return (_find_http(source, part),)
    if find_format(uri) is not None or (source.format is not None and "." in uri.rpartition("/")[2]):
        folder, _, name = uri.rpartition("/")
        return (_find_one(source, Store.open(folder), name, part),)
    store = Store.open(uri)
    store.probe()
    entries = store.list()
    if not entries:
        raise StorageAccessError(f"data.{part}.source: {uri} is empty or does not exist; check the address")
    files = tuple(_iterate_known(source, store, entries))
    if not files:
        names = ", ".join(entry.path for entry in entries[:5])
        raise DataError(
            f"data.{part}.source: no file in {uri} ends in .jsonl, .csv, .parquet or .arrow (found: {names}); "
            "set data.*.format, or name another folder"
        )
    return files


def _iterate_known(source: DataSource, store: Store, entries: tuple[Entry, ...]) -> Iterator[DataFile]:
    for entry in entries:
        name = entry.path.rpartition("/")[2]
        kind = source.format or find_format(name)
        if kind is not None and not name.startswith((".", "_")):
            identity = f"{entry.size}-{entry.e_tag}"
            yield DataFile(f"{store.uri}/{entry.path}", kind, entry.size, identity, store, entry.path)


def _find_one(source: DataSource, store: Store, name: str, part: str) -> DataFile:
    store.probe()
    entry = store.find(name)
    if entry is None:
        raise StorageAccessError(f"data.{part}.source: {source.source} does not exist; check the address")
    kind = source.format or find_format(name)
    assert kind is not None
    return DataFile(source.source, kind, entry.size, f"{entry.size}-{entry.e_tag}", store, name)


def _find_http(source: DataSource, part: str) -> DataFile:
    uri = source.source
    kind = source.format or find_format(urlparse(uri).path)
    if kind is None:
        raise DataError(f"data.{part}.source: the format of {uri} is unknown; set data.{part}.format")
    try:
        with urllib.request.urlopen(urllib.request.Request(uri, method="HEAD"), timeout=HTTP_SECONDS) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    except (urllib.error.URLError, OSError) as error:
        raise StorageAccessError(f"data.{part}.source: {uri} cannot be read ({error}); check the address") from error
    name = urlparse(uri).path.rpartition("/")[2] or "rows"
    return DataFile(uri, kind, size, f"{size}-{tag}", None, name)


def _download(uri: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        with urllib.request.urlopen(uri, timeout=HTTP_SECONDS) as answer, unfinished.open("wb") as file:
            while chunk := answer.read(1 << 20):
                file.write(chunk)
    except (urllib.error.URLError, OSError) as error:
        raise StorageAccessError(f"{uri}: the download broke off ({error}); try again") from error
    unfinished.replace(target)
