"""The board: what this agent knows, and whether there is news that the operator has not answered.

Folds messages into the contract's Progress, and says every warning once in the log. Pod-local truth only.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from finetune_contract.attempt import Attempt
from finetune_contract.progress import (
    AgentPhase,
    CheckpointRecord,
    DataSummary,
    Failure,
    Outcome,
    PreparationProgress,
    Progress,
    RankHeartbeat,
    StepProgress,
    find_newest_step,
)
from finetune_trainer.logs import Event, tell
from finetune_trainer.messages import (
    Evaluated,
    Heartbeat,
    Logged,
    Resumed,
    SnapshotReady,
    Warned,
    WorkerMessage,
    WorkerPhase,
)

_PHASES: Final[dict[WorkerPhase, AgentPhase]] = {
    "starting": "Starting",
    "training": "Training",
    "evaluating": "Evaluating",
    "saving": "Training",
    "finalizing": "Finalizing",
    "stopping": "Stopping",
}
_LAST_WORDS: Final = ("Finished", "Failed", "Stopped")
MOST_WARNINGS: Final = 50

logger = logging.getLogger(__name__)


class Board:
    """The state behind GET /progress."""

    def __init__(
        self,
        job_uid: str,
        node: int,
        role: str,
        *,
        host: str | None = None,
        clock: Callable[[], float] = time.time,
        entered: Callable[[AgentPhase], None] = lambda phase: None,
    ) -> None:
        """`host`: Kubernetes node, which failures are told to have happened on. `entered` hears of each new phase."""
        self._clock = clock
        self._entered = entered
        self._host = host
        self._state = Progress(job_uid=job_uid, node=node, role=role)
        self._ranks: dict[int, RankHeartbeat] = {}
        self._warnings: deque[str] = deque(maxlen=MOST_WARNINGS)
        self._quiet_until: float | None = None
        self._snapshot_step = 0

    @property
    def news(self) -> bool:
        """There is something that the operator has not answered."""
        return self._state.news

    @property
    def phase(self) -> AgentPhase:
        """What the agent does."""
        return self._state.phase

    @property
    def outcome(self) -> Outcome | None:
        """The job's end, once it is known."""
        return self._state.outcome

    def snapshot(self) -> Progress:
        """The document as of now."""
        ranks = tuple(self._ranks[rank] for rank in sorted(self._ranks))
        return self._state.model_copy(
            update={
                "ranks": ranks,
                "warnings": tuple(self._warnings),
                "quiet_until": self._quiet_until if self._is_quiet else None,
                "at": self._clock(),
            },
        )

    @property
    def _is_quiet(self) -> bool:
        """Workers do their steps, and no checkpoint is on its way to the store."""
        is_stored = self._snapshot_step <= find_newest_step(self._state.checkpoints)
        return is_stored and self._state.phase == "Training" and not self._state.news

    def begin(self, attempt: Attempt) -> None:
        """Follow a new attempt: what there was to tell has been answered."""
        self._ranks.clear()
        self._warnings.clear()
        self._quiet_until, self._snapshot_step = None, 0
        self._update(
            attempt=attempt.number,
            phase="Starting",
            news=False,
            failure=None,
            resumed_from=None,
            step=StepProgress(step=self._state.step.step, total_steps=self._state.step.total_steps),
        )

    def enter(self, phase: AgentPhase) -> None:
        """The agent does something else now; an end stays an end."""
        if self._state.phase not in _LAST_WORDS:
            self._update(phase=phase)

    def receive(self, message: WorkerMessage) -> None:
        """Fold one message of a worker into the state."""
        match message:
            case Heartbeat():
                self._beat(message)
            case Logged():
                self._quiet_until = message.quiet_until
                self._update(step=message.progress)
            case SnapshotReady():
                self._snapshot_step = message.step
            case Evaluated() if message.split == "validation":
                self._update(metrics=message.metrics)
            case Resumed():
                self._update(resumed_from=message.step or None)
                for skipped in message.skipped:
                    self.warn(skipped)
            case Warned():
                self.warn(message.message)
            case _:
                pass

    def warn(self, text: str) -> None:
        """Something that a user should know although it stops nothing; said once."""
        if text[:4096] not in self._warnings:
            self._warnings.append(text[:4096])
            logger.warning("%s", text, extra=tell(Event.WARNING))

    def withdraw(self, text: str) -> None:
        """A warning is over: what it said is no longer so."""
        if text[:4096] in self._warnings:
            self._warnings.remove(text[:4096])
            logger.info("over: %s", text, extra=tell(Event.WARNING_OVER))

    def set_preparation(self, preparation: PreparationProgress | None) -> None:
        """How far data preparation is; None once it has ended."""
        self._update(preparation=preparation)

    def set_data(self, data: DataSummary) -> None:
        """What preparation made."""
        self._update(data=data)

    def set_ledger(self, checkpoints: tuple[CheckpointRecord, ...], best_step: int | None) -> None:
        """The job's checkpoints (node 0)."""
        self._update(checkpoints=checkpoints, best_step=best_step)

    def fail(self, failure: Failure) -> None:
        """News: this attempt failed here. The first failure stands."""
        if self._state.failure is None:
            known = failure if failure.host is not None else failure.model_copy(update={"host": self._host})
            self._update(phase="Failed", news=True, failure=known)

    def stopped(self) -> None:
        """News: this attempt ended as it was asked to."""
        self._update(phase="Stopped", news=True)

    def prepared(self) -> None:
        """News of a prepare pod: the data is ready."""
        self._update(phase="Finished", news=True)

    def finish(self, outcome: Outcome) -> None:
        """News: the job has its outcome."""
        self._update(phase="Finished", news=True, outcome=outcome)

    def _beat(self, message: Heartbeat) -> None:
        self._ranks[message.rank] = RankHeartbeat(
            rank=message.rank, phase=message.phase, step=message.step, at=message.at
        )
        if message.rank == min(self._ranks):
            self.enter(_PHASES[message.phase])
        if message.step != self._state.step.step and message.phase != "starting":
            self._update(step=self._state.step.model_copy(update={"step": message.step}))

    def _update(self, **changes: object) -> None:
        before = self._state.phase
        self._state = self._state.model_copy(update=changes)
        if self._state.phase != before:
            self._entered(self._state.phase)
