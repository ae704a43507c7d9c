"""Every error of the trainer, one tree.

    FineTuneError
    ├── UserError            ends the job at once: the user must change something
    │   ├── DataError        a file, column or row
    │   └── ModelError       a model folder, a template, a layer name
    ├── StorageError         the bucket; at first contact the user's, later infrastructure
    │   └── DamagedError     what lies there is not what was saved: another try would find the same
    ├── FencedError          this attempt is no longer the job's: stop and write nothing
    ├── OutOfMemoryError     host or GPU memory
    ├── NumericError         a loss that is not a number
    ├── PeerLostError        another rank is gone; never the first cause
    ├── StoppedError         asked to stop; a checkpoint was saved
    └── ReportedError        what another process of ours (a worker, preparation) has said of its end

A message is one sentence that names the field, file or row, what was found and what to do. Errors of libraries are
mapped where they are met and chained with `from`.
"""

from __future__ import annotations

import time

from finetune_contract.exits import FailureClass, WorkerExit
from finetune_contract.names import Reason
from finetune_contract.progress import Failure


class FineTuneError(Exception):
    """The root: an error with a class, a reason and an exit code."""

    failure_class: FailureClass = FailureClass.CODE
    reason: str = Reason.CODE_CRASH
    exit_code: int = 1

    def to_failure(self, node: int | None = None, rank: int | None = None) -> Failure:
        """The error as the record that goes to /progress, status and events."""
        return Failure(
            failure_class=self.failure_class,
            reason=self.reason,
            message=str(self)[:4096],
            node=node,
            rank=rank,
            exit_code=int(self.exit_code),
            at=time.time(),
        )


class UserError(FineTuneError):
    """The user must change something; another attempt would end the same way."""

    failure_class = FailureClass.USER
    reason = Reason.USER_ERROR
    exit_code = WorkerExit.USER_ERROR


class DataError(UserError):
    """A file, column or row cannot be used."""

    reason = Reason.DATA_ERROR


class ModelError(UserError):
    """A model folder, template or layer name cannot be used."""

    reason = Reason.MODEL_ERROR


class StorageError(FineTuneError):
    """The object storage refused or did not answer."""

    failure_class = FailureClass.STORAGE
    reason = Reason.STORAGE_ERROR
    exit_code = WorkerExit.STORAGE


class DamagedError(StorageError):
    """A stored object is gone, cut off or changed; another try would find the same."""


class StorageAccessError(UserError):
    """Missing bucket, missing object, refused key at first contact: the user must change something."""

    reason = Reason.STORAGE_ERROR


class FencedError(FineTuneError):
    """A newer attempt holds the store: this one stops its workers and writes nothing."""

    failure_class = FailureClass.INFRASTRUCTURE
    reason = Reason.POD_LOST


class OutOfMemoryError(FineTuneError):
    """Host or GPU memory did not suffice."""

    failure_class = FailureClass.OUT_OF_MEMORY
    reason = Reason.OUT_OF_MEMORY
    exit_code = WorkerExit.OUT_OF_MEMORY


class NumericError(FineTuneError):
    """Nothing can be learnt from a step: its loss is not a number or has jumped, or its gradients are not finite."""

    failure_class = FailureClass.NUMERIC
    reason = Reason.NUMERIC_ERROR
    exit_code = WorkerExit.NUMERIC

    def __init__(
        self,
        message: str,
        step: int | None = None,
        samples: tuple[int, ...] = (),
        rank: int | None = None,
        phase: str | None = None,
    ) -> None:
        super().__init__(message)
        self._known = {"step": step, "samples": samples, "phase": phase}
        self._rank = rank

    def to_failure(self, node: int | None = None, rank: int | None = None) -> Failure:
        """The record; all ranks raise this together, and only the one it came from is the cause."""
        cause = 0 if self._rank is None else self._rank
        return super().to_failure(node, rank).model_copy(update={**self._known, "secondary": rank not in (cause, None)})


class PeerLostError(FineTuneError):
    """A collective failed because another rank is gone."""

    failure_class = FailureClass.PEER_LOST
    reason = Reason.POD_LOST
    exit_code = WorkerExit.PEER_LOST


class StoppedError(FineTuneError):
    """The ranks agreed to stop and saved a checkpoint."""

    exit_code = WorkerExit.STOPPED


class ReportedError(FineTuneError):
    """Another process failed and its failure is passed on as it is."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self._failure = failure

    def to_failure(self, node: int | None = None, rank: int | None = None) -> Failure:
        """The other process's own record; the node is added where it did not know it."""
        return self._failure if self._failure.node is not None else self._failure.model_copy(update={"node": node})
