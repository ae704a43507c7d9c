"""outcome.json: the end of the job, written once."""

from __future__ import annotations

from finetune_contract import names
from finetune_contract.progress import Outcome
from finetune_trainer.store.store import Store


def read_outcome(store: Store) -> Outcome | None:
    """The job's outcome, if it has one. Raises StorageError."""
    return store.get_document(names.FILE_OUTCOME, Outcome)


def write_outcome(store: Store, outcome: Outcome) -> Outcome:
    """Write the outcome unless there is one, and return the one that counts. Raises StorageError."""
    if store.create(names.FILE_OUTCOME, outcome.to_json(indent=2).encode()):
        return outcome
    return read_outcome(store) or outcome
