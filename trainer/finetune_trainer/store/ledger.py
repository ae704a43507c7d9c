"""ledger.json: the job's checkpoints. Only node 0 of the attempt that holds the fence writes it."""

from __future__ import annotations

from collections.abc import Callable

from finetune_contract import names
from finetune_contract.document import Document
from finetune_contract.progress import CheckpointRecord
from finetune_trainer.errors import StorageError
from finetune_trainer.store.fence import check_fence
from finetune_trainer.store.manifest import is_node_file, read_manifest, record_of
from finetune_trainer.store.store import Store

TRIES = 20


class Ledger(Document):
    """ledger.json."""

    checkpoints: tuple[CheckpointRecord, ...] = ()
    """Oldest first; newest and best are derived."""

    def with_record(self, record: CheckpointRecord) -> Ledger:
        """The ledger with this record, in the place of the one of the same folder if there is one."""
        others = [known for known in self.checkpoints if known.uri != record.uri]
        return Ledger(checkpoints=tuple(sorted((*others, record), key=lambda known: (known.step, known.attempt))))

    def without(self, records: tuple[CheckpointRecord, ...]) -> Ledger:
        """The ledger without these records."""
        gone = {record.uri for record in records}
        return Ledger(checkpoints=tuple(record for record in self.checkpoints if record.uri not in gone))


def read_ledger(store: Store) -> Ledger:
    """The job's ledger; empty before the first checkpoint. Raises StorageError."""
    return store.get_document(names.FILE_LEDGER, Ledger) or Ledger()


def change_ledger(store: Store, attempt: int, change: Callable[[Ledger], Ledger]) -> Ledger:
    """Read, change, write if nobody else has; again otherwise. Returns what was written.

    Raises FencedError when a newer attempt holds the job, StorageError when it cannot be written.
    """
    for _ in range(TRIES):
        check_fence(store, attempt)
        stored = store.get(names.FILE_LEDGER)
        old = Ledger() if stored is None else store.parse(names.FILE_LEDGER, stored.data, Ledger)
        new = change(old)
        if new == old and stored is not None:
            return old
        data = new.to_json(indent=2).encode()
        if stored is None:
            written = store.create(names.FILE_LEDGER, data)
        else:
            written = store.swap(names.FILE_LEDGER, data, stored.version)
        if written:
            return new
    raise StorageError(f"{store.uri}/{names.FILE_LEDGER}: other writers kept changing it; is the name used twice?")


def adopt_manifests(store: Store, attempt: int, at: float) -> Ledger:
    """Enter checkpoints that have their manifest but, by a crash in between, no line in the ledger."""
    known = {record.uri for record in read_ledger(store).checkpoints}
    found = []
    for entry in store.list(names.CHECKPOINTS_FOLDER):
        folder, _, name = entry.path.rpartition("/")
        uri = f"{store.uri}/{folder}"
        if name == names.FILE_MANIFEST and uri not in known and (complete := read_manifest(store, folder)) is not None:
            found.append(record_of(*complete, uri=uri, at=at))

    def enter(ledger: Ledger) -> Ledger:
        for record in found:
            ledger = ledger.with_record(record)
        return ledger

    return change_ledger(store, attempt, enter)


def delete_checkpoint(store: Store, attempt: int, record: CheckpointRecord) -> None:
    """Remove a checkpoint's objects.

    The nodes' lists first, so that nobody composes a manifest of them again, then the manifest, so that nobody takes
    the rest for a checkpoint.
    """
    check_fence(store, attempt)
    folder = record.uri.removeprefix(f"{store.uri}/")
    paths = [entry.path for entry in store.list(folder)]
    lists = [path for path in paths if is_node_file(path.removeprefix(f"{folder}/"))]
    manifest = f"{folder}/{names.FILE_MANIFEST}"
    store.delete(*lists, manifest, *(path for path in paths if path not in {*lists, manifest}))
