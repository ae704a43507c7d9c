"""The attempts of one local run, kept in a status and judged by the operator's own plan. Pure.

A command begins with an account of its own: what crashed in an earlier one does not count against backoffLimit.
"""

from __future__ import annotations

from typing import Final

from finetune_cli.earlier_runs import EarlierRuns
from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint
from finetune_contract.progress import CheckpointRecord, Failure, Progress
from finetune_contract.run import RunConfig
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.announcements import make_attempt
from finetune_operator.plan.attempt_end import count_steps
from finetune_operator.plan.attempts import AttemptEnd, begin_attempt, close_attempt, find_attempt, note_steps
from finetune_operator.plan.failure import End, apply_retry, choose_micro_batch_size, decide_retry
from finetune_operator.plan.times import format_time, parse_time
from finetune_operator.snapshot import Key, Pod

NODE: Final = 0
"""A local run is one node."""


def open_account(earlier: EarlierRuns, now: float) -> FineTuneJobStatus:
    """The status that this command begins with; an attempt of an earlier one stands there for its number."""
    if not earlier.attempt:
        return FineTuneJobStatus(checkpoints=earlier.checkpoints)
    moment = format_time(now)
    last = AttemptStatus(
        number=earlier.attempt,
        start_time=moment,
        end_time=moment,
        last_step=earlier.newest_step,
        from_step=earlier.newest_step,
        result="Stopped",
    )
    return FineTuneJobStatus(attempts=(last,), checkpoints=earlier.checkpoints)


def begin(status: FineTuneJobStatus, run: RunConfig, now: float) -> FineTuneJobStatus:
    """The status with the next attempt under way."""
    micro_batch_size = choose_micro_batch_size(status, run.resolved)
    return begin_attempt(status, {NODE: run.job.name}, micro_batch_size, run.spec, now)


def describe_attempt(status: FineTuneJobStatus, run: RunConfig, address: str, port: int) -> Attempt:
    """What the agent is told of the attempt under way."""
    attempt = find_attempt(status)
    assert attempt is not None, "nobody is told of an attempt that has not begun"
    place = Pod(
        key=Key(run.job.namespace, run.job.name),
        job=run.job.name,
        job_uid=run.job.uid,
        role=names.ROLE_TRAINER,
        node_index=NODE,
        created=parse_time(attempt.start_time),
        ip=address,
    )
    # Several runs may share this machine, so that the port cannot follow from the number.
    return make_attempt(attempt, [place], status).model_copy(update={"master": Endpoint(host=address, port=port)})


def note(status: FineTuneJobStatus, progress: Progress) -> FineTuneJobStatus:
    """The status with what the agent says of the attempt under way."""
    attempt = find_attempt(status)
    if attempt is None or progress.attempt != attempt.number:
        return status
    return note_steps(status, resumed_from=progress.resumed_from, last_step=count_steps(progress))


def fail(
    status: FineTuneJobStatus,
    failure: Failure,
    checkpoints: tuple[CheckpointRecord, ...],
    run: RunConfig,
    now: float,
) -> tuple[FineTuneJobStatus, End | None]:
    """The status after a failed attempt, and why the run ends; None where the next attempt follows (retry_time)."""
    status = close_attempt(status, AttemptEnd("Failed", failure.reason, failure), now)
    status = status.model_copy(update={"checkpoints": checkpoints})
    what_next = decide_retry(status, run.spec, run.resolved)
    if isinstance(what_next, End):
        return status, what_next
    return apply_retry(status, what_next, now), None


def list_attempts(status: FineTuneJobStatus) -> tuple[AttemptStatus, ...]:
    """Attempts of this command."""
    return tuple(attempt for attempt in status.attempts if attempt.nodes)


def describe_retry(status: FineTuneJobStatus, wait: float) -> str:
    """What failed and what follows, in a line."""
    last = status.attempts[-1]
    assert last.failure is not None, "only a failed attempt is tried again"
    when = f"in {wait:.0f} s" if wait >= 1 else "now"
    where = f" at step {last.last_step:,}" if last.last_step else ""
    return f"attempt {last.number} failed{where}: {last.failure.message}; attempt {last.number + 1} begins {when}"


def describe_resume(attempt: AttemptStatus) -> str:
    """Where an attempt goes on, in a line."""
    where = f"resumes from step {attempt.from_step:,}" if attempt.from_step else "begins from the pre-trained model"
    return f"attempt {attempt.number} {where}"
