"""attempt.json: which attempt holds the job's folder. One that finds a higher number writes nothing more."""

from __future__ import annotations

from pydantic import Field

from finetune_contract import names
from finetune_contract.document import Document
from finetune_trainer.errors import FencedError, StorageError
from finetune_trainer.store.store import Store

TRIES = 20


class Fence(Document):
    """attempt.json."""

    attempt: int = Field(ge=1)


def raise_fence(store: Store, attempt: int) -> None:
    """Take the job's folder for this attempt. Raises FencedError when a newer attempt has it."""
    data = Fence(attempt=attempt).to_json().encode()
    for _ in range(TRIES):
        stored = store.get(names.FILE_ATTEMPT_FENCE)
        if stored is None:
            taken = store.create(names.FILE_ATTEMPT_FENCE, data)
        else:
            held = store.parse(names.FILE_ATTEMPT_FENCE, stored.data, Fence)
            _refuse_older(store, held, attempt)
            taken = held.attempt == attempt or store.swap(names.FILE_ATTEMPT_FENCE, data, stored.version)
        if taken:
            return
    raise StorageError(
        f"{store.uri}/{names.FILE_ATTEMPT_FENCE}: other writers kept changing it; is the name used twice?"
    )


def check_fence(store: Store, attempt: int) -> None:
    """Before every write: this attempt still holds the folder. Raises FencedError when a newer one does."""
    held = store.get_document(names.FILE_ATTEMPT_FENCE, Fence)
    if held is not None:
        _refuse_older(store, held, attempt)


def _refuse_older(store: Store, held: Fence, attempt: int) -> None:
    if held.attempt > attempt:
        raise FencedError(
            f"{store.uri}: attempt {held.attempt} holds this job now, so attempt {attempt} writes nothing more"
        )
