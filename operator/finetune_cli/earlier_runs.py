"""What the store holds of earlier runs of the same name: may they be continued, and from what.

Decides with pure functions; reads and deletes through the trainer's store only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from finetune_cli.errors import RunError
from finetune_contract import names
from finetune_contract.progress import CheckpointRecord, Outcome, find_newest_step
from finetune_contract.run import RunConfig
from finetune_contract.spec import FineTuneJobSpec

if TYPE_CHECKING:
    from finetune_trainer.store.store import Store

FREE_FIELDS: Final = ("suspend", "lifecycle", "budget", "resources", "pod", "storage")
"""Parts of spec that may differ between runs of one job: they say where and how long, not what is trained."""


@dataclass(frozen=True)
class EarlierRuns:
    """What was found in the job's folder."""

    run: RunConfig | None = None
    attempt: int = 0
    """Number of the last attempt; 0 before the first."""
    checkpoints: tuple[CheckpointRecord, ...] = ()
    outcome: Outcome | None = None

    @property
    def newest_step(self) -> int:
        """Step of the newest verified checkpoint; 0 without one."""
        return find_newest_step(self.checkpoints)


def read_earlier_runs(store: Store) -> EarlierRuns:
    """Read what earlier runs left. Raises RunError where the store cannot be read."""
    from finetune_trainer.errors import FineTuneError
    from finetune_trainer.store.fence import Fence
    from finetune_trainer.store.ledger import read_ledger
    from finetune_trainer.store.outcome import read_outcome

    try:
        store.probe()
        fence = store.get_document(names.FILE_ATTEMPT_FENCE, Fence)
        return EarlierRuns(
            run=store.get_document(names.RUN_CONFIG_FILE, RunConfig),
            attempt=fence.attempt if fence else 0,
            checkpoints=read_ledger(store).checkpoints,
            outcome=read_outcome(store),
        )
    except FineTuneError as error:
        raise RunError(str(error), "check output.destination and the shell's storage credentials") from error


def delete_earlier_runs(store: Store) -> int:
    """Delete everything in the job's folder and return how many objects there were. Raises RunError."""
    from finetune_trainer.errors import FineTuneError

    try:
        paths = [entry.path for entry in store.list()]
        # The fence goes last: what is half deleted still says that an attempt was here.
        paths.sort(key=lambda path: path == names.FILE_ATTEMPT_FENCE)
        store.delete(*paths)
    except FineTuneError as error:
        raise RunError(str(error), f"delete {store.uri} by hand") from error
    return len(paths)


def record_run(store: Store, run: RunConfig) -> None:
    """Write run.json into the job's folder, unless the first run has. Raises RunError."""
    from finetune_trainer.errors import FineTuneError

    try:
        store.create(names.RUN_CONFIG_FILE, run.to_json(indent=2).encode())
    except FineTuneError as error:
        raise RunError(str(error), "check output.destination and the shell's storage credentials") from error


def find_changes(old: FineTuneJobSpec, new: FineTuneJobSpec) -> tuple[str, ...]:
    """Fields that differ, as `spec.training.epochs: 3 -> 4`, except those that may."""
    before, after = old.to_data(), new.to_data()
    for field in FREE_FIELDS:
        before.pop(field, None)
        after.pop(field, None)
    return tuple(_compare(before, after, "spec"))


def _compare(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = dict.fromkeys((*before, *after))
        return [line for key in keys for line in _compare(before.get(key), after.get(key), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for index, (old, new) in pairs for line in _compare(old, new, f"{path}[{index}]")]
    return [] if before == after else [f"{path}: {_show(before)} -> {_show(after)}"]


def _show(value: Any) -> str:
    return "absent" if value is None else str(value)
