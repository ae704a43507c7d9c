"""The series about jobs (docs/reference/metrics.md): of each job a small digest of its body, of all digests the series.

Read from the status alone, so that they outlive trainer pods and every leader tells the same. Decides nothing. May be
collected in another thread: a digest is a value.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_contract.names import LABEL_QUEUE
from finetune_contract.status import Phase
from finetune_operator.plan.times import parse_time
from finetune_operator.plan.usage import NO_REASON

Family = GaugeMetricFamily | CounterMetricFamily
PHASES: Final = get_args(Phase)
_JOB: Final = ("namespace", "job")
_QUEUED: Final = (*_JOB, "queue")


class JobDigest(NamedTuple):
    """What the series need of one job. Moments are seconds since 1970; None: not yet, or not at all."""

    namespace: str
    job: str
    queue: str
    task: str
    method: str
    phase: str
    reason: str
    created: float | None
    completed: float | None
    step: int
    total_steps: int
    progressed: float | None
    """When its figures last moved."""
    checkpointed: float | None
    """When its newest checkpoint was verified."""
    attempts: tuple[tuple[str, str, int], ...]
    """Attempts that ended: result, reason, how many."""
    gpu_seconds: float
    held_seconds: float
    training_seconds: float
    lost_seconds: float
    lost_steps: int
    goodput: float | None
    first_step_seconds: float | None
    budget_seconds: float | None


def read_digest(body: Mapping[str, Any]) -> JobDigest:
    """The digest of a job as the API server holds it; of a status in nobody's words only that there is such a job."""
    try:
        return _read(body["metadata"], body.get("spec") or {}, body.get("status") or {})
    except (AttributeError, KeyError, TypeError, ValueError):
        return _read(body["metadata"], {}, {})


def _read(metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> JobDigest:
    progress, usage = status.get("progress") or {}, status.get("usage") or {}
    hours = (spec.get("budget") or {}).get("maxGpuHours")
    return JobDigest(
        namespace=sys.intern(metadata["namespace"]),
        job=metadata["name"],
        queue=sys.intern((metadata.get("labels") or {}).get(LABEL_QUEUE, "")),
        task=sys.intern(spec.get("task", "")),
        method=sys.intern((spec.get("strategy") or {}).get("method", "full")),
        phase=sys.intern(status.get("phase", "Pending")),
        reason=sys.intern((status.get("display") or {}).get("reason", "")),
        created=_read_time(metadata.get("creationTimestamp")),
        completed=_read_time(status.get("completionTime")),
        step=progress.get("step", 0),
        total_steps=progress.get("totalSteps", 0),
        progressed=_read_time(progress.get("updatedTime")),
        checkpointed=_find_checkpoint_time(status),
        attempts=_count_attempts(status),
        gpu_seconds=usage.get("gpuSeconds", 0.0),
        held_seconds=usage.get("heldSeconds", 0.0),
        training_seconds=usage.get("trainingSeconds", 0.0),
        lost_seconds=usage.get("lostSeconds", 0.0),
        lost_steps=usage.get("lostSteps", 0),
        goodput=usage.get("goodput"),
        first_step_seconds=usage.get("timeToFirstStepSeconds"),
        budget_seconds=hours * 3600.0 if hours is not None else None,
    )


class JobSeries(Collector):
    """All series about jobs, made when somebody looks; none where another replica leads and tells them."""

    def __init__(self, list_digests: Callable[[], Iterable[JobDigest]], is_leading: Callable[[], bool]) -> None:
        self._list_digests, self._is_leading = list_digests, is_leading

    def describe(self) -> Iterable[Family]:
        """The families without samples: registering asks for no jobs."""
        return collect_series(())

    def collect(self) -> Iterable[Family]:
        """All families; without samples in a replica that follows."""
        return collect_series(tuple(self._list_digests()) if self._is_leading() else ())


def collect_series(digests: tuple[JobDigest, ...]) -> Iterator[Family]:
    """All families about these jobs."""
    yield _count_phases(digests)
    yield _describe_jobs(digests)
    for name, text, read in _GAUGES:
        yield _fill(GaugeMetricFamily(f"finetune_job_{name}", text, labels=_JOB), digests, read)
    for name, text, read in _QUEUED_COUNTERS:
        yield _fill_queued(CounterMetricFamily(f"finetune_job_{name}", text, labels=_QUEUED), digests, read)
    goodput = GaugeMetricFamily("finetune_job_goodput_ratio", "status.usage.goodput.", labels=_QUEUED)
    yield _fill_queued(goodput, digests, lambda each: each.goodput)
    yield _count_ended_attempts(digests)


Read = Callable[[JobDigest], float | None]
_GAUGES: Final[tuple[tuple[str, str, Read], ...]] = (
    ("created_timestamp_seconds", "When the job was created.", lambda each: each.created),
    ("completed_timestamp_seconds", "When the job succeeded or failed.", lambda each: each.completed),
    ("step", "Optimizer steps done.", lambda each: each.step),
    ("total_steps", "Optimizer steps of the whole job.", lambda each: each.total_steps),
    ("progress_timestamp_seconds", "When the job's figures last moved.", lambda each: each.progressed),
    ("checkpoint_timestamp_seconds", "When its newest checkpoint was verified.", lambda each: each.checkpointed),
    ("time_to_first_step_seconds", "From creation to the end of the first step.", lambda each: each.first_step_seconds),
    ("budget_gpu_seconds", "spec.budget.maxGpuHours in seconds.", lambda each: each.budget_seconds),
)
_QUEUED_COUNTERS: Final[tuple[tuple[str, str, Read], ...]] = (
    ("gpu_seconds", "GPUs x seconds that its pods held them.", lambda each: each.gpu_seconds),
    ("held_seconds", "Seconds that its attempts held their nodes.", lambda each: each.held_seconds),
    ("training_seconds", "Seconds of optimizer steps, lost ones included.", lambda each: each.training_seconds),
    ("lost_seconds", "Seconds of steps that had to be done again.", lambda each: each.lost_seconds),
    ("lost_steps", "Steps that had to be done again.", lambda each: each.lost_steps),
)


def _fill(family: Family, digests: tuple[JobDigest, ...], read: Read) -> Family:
    for each in digests:
        value = read(each)
        if value is not None:
            family.add_metric((each.namespace, each.job), value)
    return family


def _fill_queued(family: Family, digests: tuple[JobDigest, ...], read: Read) -> Family:
    for each in digests:
        value = read(each)
        if value is not None:
            family.add_metric((each.namespace, each.job, each.queue), value)
    return family


def _count_phases(digests: tuple[JobDigest, ...]) -> Family:
    """Every phase of each namespace and queue, also where no job is in it: a figure that falls to 0 is seen."""
    family = GaugeMetricFamily("finetune_jobs", "FineTuneJobs by phase.", labels=("namespace", "queue", "phase"))
    counts = Counter((each.namespace, each.queue, each.phase) for each in digests)
    for namespace, queue in sorted({(each.namespace, each.queue) for each in digests}):
        for phase in PHASES:
            family.add_metric((namespace, queue, phase), counts[namespace, queue, phase])
    return family


def _describe_jobs(digests: tuple[JobDigest, ...]) -> Family:
    labels = (*_JOB, "queue", "task", "method", "phase", "reason")
    family = GaugeMetricFamily("finetune_job_info", "1; what the job is and where it stands.", labels=labels)
    for each in digests:
        family.add_metric((each.namespace, each.job, each.queue, each.task, each.method, each.phase, each.reason), 1.0)
    return family


def _count_ended_attempts(digests: tuple[JobDigest, ...]) -> Family:
    labels = (*_JOB, "result", "reason")
    family = CounterMetricFamily("finetune_job_attempts", "Attempts that ended, by how.", labels=labels)
    for each in digests:
        for result, reason, count in each.attempts:
            family.add_metric((each.namespace, each.job, result, reason), count)
    return family


def _count_attempts(status: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    folded = (status.get("attemptsFolded") or {}).get("ended") or ()
    counts = Counter({(each["result"], each["reason"]): each["count"] for each in folded})
    ended = [attempt for attempt in status.get("attempts") or () if "endTime" in attempt]
    counts.update((attempt["result"], attempt.get("reason") or NO_REASON) for attempt in ended)
    return tuple((sys.intern(result), sys.intern(reason), count) for (result, reason), count in sorted(counts.items()))


def _find_checkpoint_time(status: Mapping[str, Any]) -> float | None:
    verified = [each.get("at", 0.0) for each in status.get("checkpoints") or () if each.get("digest")]
    return max(verified, default=None)


def _read_time(text: str | None) -> float | None:
    return parse_time(text) if text else None
