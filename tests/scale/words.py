"""What a stand-in agent says, in the contract's words. No I/O, no clock.

A job has one course for all its agents; its script, an annotation of the pods, says how the course moves:

- `run`: from preparation to the outcome. The next word comes once the first agent was heard saying the last one, and
  the others repeat what it was heard saying: how often and in which order the operator asks changes nothing.
- `hold`: trains, and says the same for ever.
- `move`: trains, a step every second, with everything that moves along with it.
- `prepare` is the script of all prepare pods: data preparation, and its end once that was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import (
    AgentPhase,
    CheckpointRecord,
    DataPart,
    DataSummary,
    EvaluationResult,
    Failure,
    GateResult,
    Outcome,
    PreparationProgress,
    Progress,
    Published,
    RankHeartbeat,
    StepProgress,
)

SCRIPT: Final = "scale.finetune.dev/script"
"""Annotation of the pods."""
RUN, HOLD, MOVE, PREPARE = "run", "hold", "move", "prepare"
TOTAL_STEPS: Final = 10_000
HELD_STEP: Final = 500
RANKS: Final = 8
SAVE_SECONDS: Final = 300.0
"""Between two checkpoints of a job, as far as it knows."""
METRICS: Final = {"f1": 0.91, "accuracy": 0.93, "precision": 0.9, "recall": 0.92, "loss": 0.21}
_DATA: Final = DataSummary(
    fingerprint="f00dfeed",
    parts={
        "train": DataPart(rows=80_000, read=90_000, dropped={"empty": 12, "duplicate": 9_988}, tokens=9_000_000),
        "validation": DataPart(rows=10_000, tokens=1_100_000, split_off=True),
        "test": DataPart(rows=10_000, tokens=1_100_000, split_off=True),
    },
    labels=("ham", "spam"),
    max_length=512,
)
_STAGE: Final = PreparationProgress(stage="tokenize", done=0, total=100_000)
_COURSE: Final[tuple[tuple[AgentPhase, int, int], ...]] = (
    ("Preparing", 0, 0),
    ("Starting", 0, 0),
    ("Training", 1, 0),
    ("Training", 5_000, 1),
    ("Training", TOTAL_STEPS, 2),
    ("Finalizing", TOTAL_STEPS, 2),
    ("Publishing", TOTAL_STEPS, 2),
    ("Finished", TOTAL_STEPS, 2),
)
"""Phase, step and number of checkpoints of script `run`, word by word."""


@dataclass
class Course:
    """Where the agents of one job stand."""

    script: str
    attempt: int = 0
    word: int = 0
    """Position in the script `run`."""
    begun: float = 0.0
    """When the attempt's first step was."""
    is_prepared: bool = False
    """A prepare pod has made the data."""
    checkpoints: list[CheckpointRecord] = field(default_factory=list)
    resumed_from: int | None = None
    failed_node: int | None = None
    finished: bool = False
    stopped: int = 0
    """Attempts up to this one were asked to stop."""
    saves_at: float | None = None
    """When the next checkpoint comes."""
    misjudged: float = 1.0
    """What it takes the time until then for, as a multiple: steps are not all equally long."""

    def begin(self, attempt: int, now: float) -> None:
        """The operator began an attempt."""
        self.attempt, self.failed_node, self.begun = attempt, None, now
        self.resumed_from = self.checkpoints[-1].step if self.checkpoints else None
        self.word = 1 if self.is_prepared or self.resumed_from is not None else 0

    def hear(self, now: float) -> bool:
        """The first agent's words were heard: go on to the next; says whether there is one."""
        if self.attempt == 0 or self.failed_node is not None or self.has_stopped or self.word + 1 >= len(_COURSE):
            return False
        if self.script == PREPARE:
            is_over, self.finished = self.finished, True
            return not is_over
        if self.script != RUN and self.phase in ("Training", "Finished"):
            return False
        self.word += 1
        if self.script == RUN:
            _, step, count = _COURSE[self.word]
            self.checkpoints += [self.make_record(step, now)] * (count - len(self.checkpoints))
        elif self.phase == "Training":
            self.begun = now
        return True

    @property
    def phase(self) -> AgentPhase:
        """What the first agent does."""
        if self.finished:
            return "Finished"
        return _COURSE[self.word][0] if self.attempt else "Idle"

    @property
    def repeated_phase(self) -> AgentPhase:
        """What the others do: the first agent alone publishes."""
        if self.script != RUN:
            return "Finalizing" if self.finished else self.phase
        first = 1 if self.is_prepared else 0
        phases = [phase for phase, _, _ in _COURSE[: max(first, self.word - 1) + 1]]
        return phases[-1] if phases[-1] not in ("Publishing", "Finished") else "Finalizing"

    @property
    def has_stopped(self) -> bool:
        """The attempt ended as it was asked to."""
        return 0 < self.attempt <= self.stopped

    @property
    def has_news(self) -> bool:
        """An agent has news."""
        return self.phase == "Finished" or self.failed_node is not None or self.has_stopped

    def read_step(self, now: float) -> int:
        """Optimizer steps done."""
        if self.script == RUN:
            return TOTAL_STEPS if self.finished else _COURSE[self.word][1]
        if self.phase != "Training":
            return 0
        return HELD_STEP if self.script == HOLD else (self.resumed_from or 0) + 1 + int(now - self.begun)

    def tell_moment(self, now: float) -> tuple[Any, ...]:
        """As long as this stays the same, so does what the agents say."""
        facts = (self.script, self.attempt, self.word, len(self.checkpoints), self.failed_node, self.finished)
        return (*facts, self.stopped, self.begun, self.read_step(now))

    def add_checkpoint(self, now: float) -> int:
        """The course's next checkpoint; returns its step."""
        step = max([self.read_step(now), *(record.step + 1 for record in self.checkpoints)])
        self.checkpoints.append(self.make_record(step, now))
        self.saves_at = None
        return step

    def foresee(self, now: float) -> float:
        """Until when nothing is expected but steps."""
        seconds = SAVE_SECONDS if self.saves_at is None else max(0.0, self.saves_at - now) * self.misjudged
        return now + seconds

    def make_record(self, step: int, now: float) -> CheckpointRecord:
        """A checkpoint that is verified and evaluated."""
        return CheckpointRecord(
            step=step,
            attempt=self.attempt,
            state="Evaluated",
            uri=f"s3://ml/models/scale/checkpoints/{names.checkpoint_folder(step, self.attempt)}",
            digest=f"sha256:{step:064x}",
            metrics=METRICS,
            size_bytes=2**30,
            at=now,
        )


@dataclass(frozen=True)
class Identity:
    """Who an agent is."""

    job_uid: str
    node: int
    role: str


def speak(who: Identity, course: Course, now: float) -> bytes:
    """The answer to GET /progress; script `hold` says the same bytes whenever it is asked."""
    # Not to_json: the machine is shared with what is measured.
    return _speak(who, course, now).model_dump_json(by_alias=True, exclude_none=True).encode()


def _speak(who: Identity, course: Course, now: float) -> Progress:
    phase = course.phase if who.node == 0 else course.repeated_phase
    facts: dict[str, Any]
    if who.role == names.ROLE_PREPARE:
        facts = {"news": True, "data": _DATA} if course.finished else {"preparation": _STAGE}
        return Progress(job_uid=who.job_uid, node=who.node, role=who.role, phase=phase, at=now, **facts)
    if course.attempt == 0:
        return Progress(job_uid=who.job_uid, node=who.node, role=who.role, at=now)
    moment = now if course.script != HOLD else course.begun
    step = course.read_step(now)
    first = who.node == 0
    facts = {"phase": phase, "step": _make_step(course, step)}
    if phase == "Preparing":
        facts["preparation"] = _STAGE
    else:
        facts["data"] = _DATA
        facts["ranks"] = tuple(
            RankHeartbeat(rank=who.node * RANKS + rank, phase="forward", step=step, at=moment) for rank in range(RANKS)
        )
    if first and course.checkpoints:
        facts |= {
            "checkpoints": tuple(course.checkpoints),
            "best_step": course.checkpoints[-1].step,
            "metrics": METRICS,
        }
    if first and phase == "Training" and course.script != RUN:
        facts["quiet_until"] = course.foresee(moment)
    if phase == "Finished" and first:
        facts |= {"news": True, "outcome": _make_outcome(course, now)}
    if course.has_stopped:
        facts |= {"phase": "Stopped", "news": True}
    if course.failed_node == who.node:
        facts |= {"phase": "Failed", "news": True, "failure": _make_failure(who.node, step, course.begun)}
    return Progress(
        job_uid=who.job_uid,
        node=who.node,
        role=who.role,
        attempt=course.attempt,
        at=moment,
        resumed_from=course.resumed_from,
        **facts,
    )


def _make_step(course: Course, step: int) -> StepProgress:
    if step == 0:
        return StepProgress(total_steps=TOTAL_STEPS)
    return StepProgress(
        step=step,
        total_steps=TOTAL_STEPS,
        epoch=round(3 * step / TOTAL_STEPS, 4),
        loss=round(2.0 / (1 + step / 100), 6),
        learning_rate=2e-5,
        tokens_per_second=81_920.0,
        step_seconds=1.0,
        eta_seconds=float(TOTAL_STEPS - step),
        training_seconds=float(step),
        first_step_at=course.begun,
    )


def _make_failure(node: int, step: int, at: float) -> Failure:
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE,
        reason=Reason.POD_LOST,
        message="worker 0 lost its GPU; the next attempt goes on without harm",
        node=node,
        rank=node * RANKS,
        exit_code=-9,
        step=step,
        at=at,
    )


def _make_outcome(course: Course, now: float) -> Outcome:
    gate = GateResult(metric="f1", split="test", value=0.91, min=0.8, passed=True)
    return Outcome(
        succeeded=True,
        reason=Reason.PUBLISHED,
        message="The model passed its gate.",
        attempt=course.attempt,
        step=TOTAL_STEPS,
        evaluation=EvaluationResult(validation=METRICS, test=METRICS, baseline=METRICS, gate=(gate,), step=TOTAL_STEPS),
        published=Published(uri="s3://ml/models/scale/published", digest="sha256:1"),
        report="s3://ml/models/scale/report.html",
        at=course.begun,
    )
