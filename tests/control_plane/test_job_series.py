"""What Prometheus is told of jobs: from the status alone, by the leader alone."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from finetune_contract.names import LABEL_QUEUE
from finetune_operator.job_series import PHASES, JobDigest, JobSeries, collect_series, read_digest
from finetune_operator.metrics import Metrics
from finetune_operator.plan.times import parse_time
from tests.contract.make import make_data, make_status

CREATED = "2026-01-01T00:00:00Z"


def make_body(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A job that runs, with every field of its status."""
    body = make_data(spec, **{"name": "spam", "namespace": "ml", "creationTimestamp": CREATED, **metadata})
    return {**body, "status": make_status().to_data()}


def make_new_body() -> dict[str, Any]:
    return make_data(name="new", namespace="ml", creationTimestamp=CREATED)


def render(*bodies: dict[str, Any], leads: bool = True) -> list[str]:
    registry = CollectorRegistry()
    registry.register(JobSeries(lambda: map(read_digest, bodies), lambda: leads))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_digest_of_a_job_holds_what_the_series_need() -> None:
    body = make_body({"budget": {"maxGpuHours": 2}, "strategy": {"method": "lora"}}, labels={LABEL_QUEUE: "research"})
    assert read_digest(body) == JobDigest(
        namespace="ml",
        job="spam",
        queue="research",
        task="text-classification",
        method="lora",
        phase="Running",
        reason="Training",
        created=parse_time(CREATED),
        completed=None,
        step=42,
        total_steps=100,
        progressed=parse_time(make_status().progress.updated_time),  # type: ignore[union-attr,arg-type]
        checkpointed=make_status().checkpoints[-1].at,
        attempts=(("Failed", "CodeCrash", 2),),
        gpu_seconds=10.5,
        held_seconds=21.0,
        training_seconds=20.0,
        lost_seconds=1.1,
        lost_steps=2,
        goodput=0.9,
        first_step_seconds=12.5,
        budget_seconds=7200.0,
    )


def test_job_that_was_just_applied_is_pending_and_has_no_moments() -> None:
    digest = read_digest(make_new_body())
    assert (digest.phase, digest.reason, digest.method, digest.attempts) == ("Pending", "", "full", ())
    moments = (digest.completed, digest.progressed, digest.checkpointed, digest.goodput, digest.budget_seconds)
    assert moments == (None,) * 5


@pytest.mark.parametrize(
    "status",
    [{"attempts": 7}, {"attempts": [{"endTime": "x"}]}, {"progress": "far"}, {"completionTime": "soon"}, "lost"],
)
def test_status_in_nobodys_words_stops_nothing(status: object) -> None:
    digest = read_digest({**make_new_body(), "status": status})
    assert (digest.namespace, digest.job, digest.phase) == ("ml", "new", "Pending")


def test_series_of_a_job_that_was_just_applied() -> None:
    assert [line for line in render(make_new_body()) if not line.startswith("finetune_jobs{")] == [
        'finetune_job_info{job="new",method="full",namespace="ml",phase="Pending",queue="",reason="",'
        'task="text-classification"} 1.0',
        'finetune_job_created_timestamp_seconds{job="new",namespace="ml"} 1.7672256e+09',
        'finetune_job_step{job="new",namespace="ml"} 0.0',
        'finetune_job_total_steps{job="new",namespace="ml"} 0.0',
        'finetune_job_gpu_seconds_total{job="new",namespace="ml",queue=""} 0.0',
        'finetune_job_held_seconds_total{job="new",namespace="ml",queue=""} 0.0',
        'finetune_job_training_seconds_total{job="new",namespace="ml",queue=""} 0.0',
        'finetune_job_lost_seconds_total{job="new",namespace="ml",queue=""} 0.0',
        'finetune_job_lost_steps_total{job="new",namespace="ml",queue=""} 0.0',
    ]


def test_jobs_are_counted_by_namespace_queue_and_phase_with_empty_phases() -> None:
    lines = render(make_body(), make_body(name="other"), make_new_body())
    counts = dict(line.rsplit(" ", 1) for line in lines if line.startswith("finetune_jobs{"))
    assert len(counts) == len(PHASES)
    assert {key: value for key, value in counts.items() if value != "0.0"} == {
        'finetune_jobs{namespace="ml",phase="Running",queue=""}': "2.0",
        'finetune_jobs{namespace="ml",phase="Pending",queue=""}': "1.0",
    }


def test_attempts_are_counted_with_those_that_are_folded() -> None:
    assert 'finetune_job_attempts_total{job="spam",namespace="ml",reason="CodeCrash",result="Failed"} 2.0' in render(
        make_body()
    )


def test_replica_that_follows_tells_nothing_about_jobs() -> None:
    assert render(make_body(), leads=False) == []


def test_registering_asks_for_no_jobs() -> None:
    def ask() -> list[JobDigest]:
        raise AssertionError("the caches are not complete yet")

    Metrics().follow(ask, lambda: False, "lease")


def test_families_are_those_of_an_empty_cluster_too() -> None:
    full = {family.name for family in collect_series((read_digest(make_body()),))}
    assert {family.name for family in collect_series(())} == full
