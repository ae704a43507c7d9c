"""What follows a failed attempt: the end of the job, or the next attempt, when, and with what changed.

Pure and free of pods and agents: the CLI decides with the same functions. The classes stand in docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Final

from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import Failure
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.status import AttemptStatus, FineTuneJobStatus
from finetune_operator.plan.times import format_time, parse_time

BACKOFF_FIRST_SECONDS: Final = 10.0
BACKOFF_LAST_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Retry:
    """The job goes on with the next attempt."""

    delay: float = 0.0
    """Seconds until it begins at the earliest."""
    skip_step: int | None = None
    """Optimizer step that it and all later ones pass over."""


@dataclass(frozen=True, slots=True)
class End:
    """The job has failed."""

    reason: str
    message: str


def decide_retry(status: FineTuneJobStatus, spec: FineTuneJobSpec, resolved: Resolved) -> Retry | End:
    """What follows the last attempt in `status`, which has failed and is closed with its failure."""
    attempt = status.attempts[-1]
    assert attempt.failure is not None, "only a failed attempt has something to decide"
    rule = _RULES.get(attempt.failure.failure_class, _retry)
    return rule(status, attempt.failure, spec, resolved)


def apply_retry(status: FineTuneJobStatus, retry: Retry, now: float) -> FineTuneJobStatus:
    """The status in which the next attempt is awaited."""
    steps = status.skipped_steps if retry.skip_step is None else (*status.skipped_steps, retry.skip_step)
    moment = format_time(ceil(now + retry.delay)) if retry.delay else None
    return status.model_copy(update={"retry_time": moment, "skipped_steps": tuple(sorted(set(steps)))})


def count_wait(status: FineTuneJobStatus, now: float) -> float:
    """Seconds until the next attempt may begin, after failures without progress; 0: now."""
    return max(0.0, parse_time(status.retry_time) - now) if status.retry_time is not None else 0.0


def choose_cause(failures: Iterable[Failure]) -> Failure | None:
    """The earliest failure that is not merely the consequence of another; among victims alone, the earliest."""
    ordered = sorted(failures, key=lambda failure: (is_secondary(failure), failure.at))
    return ordered[0] if ordered else None


def is_secondary(failure: Failure) -> bool:
    """Another rank's failure may be behind it."""
    return failure.secondary or failure.failure_class is FailureClass.PEER_LOST


def is_counted(attempt: AttemptStatus) -> bool:
    """It counts against lifecycle.backoffLimit: code that crashes or hangs, and a pod that has no memory to start."""
    if attempt.result != "Failed" or attempt.failure is None:
        return False
    class_ = attempt.failure.failure_class
    without_workers = class_ is FailureClass.OUT_OF_MEMORY and attempt.nodes == 0
    return without_workers or class_ in (FailureClass.CODE, FailureClass.HANG)


def count_failures(status: FineTuneJobStatus) -> int:
    """Failures that count against lifecycle.backoffLimit, over the job's whole life."""
    folded = status.attempts_folded.counted_failures if status.attempts_folded else 0
    return folded + sum(is_counted(attempt) for attempt in status.attempts)


def compute_delay(attempts: tuple[AttemptStatus, ...]) -> float:
    """Seconds between the failure of the last attempt and the next one: none after progress, or the first failure.

    Attempts that were stopped change nothing.
    """
    fruitless = 0
    reached = -1
    for attempt in attempts:
        if attempt.result == "Failed":
            fruitless = 0 if attempt.last_step > reached else fruitless + 1
        reached = max(reached, attempt.last_step)
    if fruitless == 0:
        return 0.0
    seconds: float = BACKOFF_FIRST_SECONDS * 2.0 ** min(fruitless - 1, 10)
    return min(seconds, BACKOFF_LAST_SECONDS)


def choose_micro_batch_size(status: FineTuneJobStatus, resolved: Resolved) -> int | None:
    """Rows that one worker computes at a time in the next attempt; None: as resolved."""
    if not status.attempts:
        return None
    last = status.attempts[-1]
    failure = last.failure
    if failure is None or failure.failure_class is not FailureClass.OUT_OF_MEMORY or last.nodes == 0:
        return last.micro_batch_size
    return max(1, _measure_micro_batch(last, resolved) // 2)


def _measure_micro_batch(attempt: AttemptStatus, resolved: Resolved) -> int:
    """As RunConfig.for_attempt cuts it: never more rows than a worker has in one step."""
    rows = ceil(resolved.batch_size / max(1, attempt.nodes * resolved.workers_per_node))
    return min(attempt.micro_batch_size or resolved.micro_batch_size, rows)


def _end(status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved) -> Retry | End:
    return End(failure.reason, failure.message)


def _retry(status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved) -> Retry | End:
    return Retry(compute_delay(status.attempts))


def _retry_counted(
    status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved
) -> Retry | End:
    limit, count = spec.lifecycle.backoff_limit, count_failures(status)
    if count <= limit:
        return Retry(compute_delay(status.attempts))
    times = "1 attempt" if count == 1 else f"{count} attempts"
    return End(
        Reason.BACKOFF_LIMIT_EXCEEDED,
        f"{times} crashed, and spec.lifecycle.backoffLimit allows {limit}; the last: {failure.message}",
    )


def _retry_hang(status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved) -> Retry | End:
    if spec.failure_policy.hang == "fail":
        return End(failure.reason, failure.message)
    return _retry_counted(status, failure, spec, resolved)


def _retry_smaller(
    status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved
) -> Retry | End:
    attempt = status.attempts[-1]
    if attempt.nodes == 0:
        return _retry_counted(status, failure, spec, resolved)
    if _measure_micro_batch(attempt, resolved) == 1:
        return End(failure.reason, f"{failure.message}; a smaller micro-batch than 1 row does not exist")
    return Retry(compute_delay(status.attempts))


def _roll_back(status: FineTuneJobStatus, failure: Failure, spec: FineTuneJobSpec, resolved: Resolved) -> Retry | End:
    policy = spec.failure_policy
    if policy.numeric != "rollback" or failure.step is None:
        return End(failure.reason, failure.message)
    if len(status.skipped_steps) >= policy.numeric_budget:
        return End(
            failure.reason,
            f"{failure.message}; spec.failurePolicy.numericBudget ({policy.numeric_budget}) is used up",
        )
    return Retry(compute_delay(status.attempts), skip_step=failure.step)


_RULES: Final[dict[FailureClass, Callable[[FineTuneJobStatus, Failure, FineTuneJobSpec, Resolved], Retry | End]]] = {
    FailureClass.USER: _end,
    FailureClass.OUT_OF_MEMORY: _retry_smaller,
    FailureClass.NUMERIC: _roll_back,
    FailureClass.HANG: _retry_hang,
    FailureClass.CODE: _retry_counted,
}
"""Infrastructure, storage and lost peers are tried again at no cost."""
