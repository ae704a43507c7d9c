"""What the operator says while it cannot begin, and that it begins by itself when it can."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from finetune_operator import start as start_module
from finetune_operator.clients.cluster import JOBS, Cluster
from finetune_operator.errors import ClusterError, ForbiddenError, NotFoundError, UnavailableError
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.settings import Settings
from finetune_operator.start import Start
from tests.control_plane.faults import FakeCluster
from tests.control_plane.test_manager import until

PODS_FORBIDDEN = (
    "the operator may not watch, create pods in all namespaces: grant it to its service account, "
    "as the chart does with rbac.create"
)
LEASES_FORBIDDEN = (
    "the operator may not update leases of coordination.k8s.io in namespace system: grant it to its service account, "
    "as the chart does with rbac.create"
)
EVENTS_FORBIDDEN = (
    "the operator may not create events of events.k8s.io in all namespaces: grant it to its service account, "
    "as the chart does with rbac.create"
)


def make_start(cluster: FakeCluster, trainer: TrainerDefaults | None = None) -> Start:
    settings = Settings(namespace="system", trainer=trainer or TrainerDefaults())
    return Start(cast("Cluster", cluster), settings)


@pytest.fixture(autouse=True)
def _retry_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_module, "RETRY_SECONDS", 0.001)


def said(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.message for record in caplog.records if record.levelname == level]


async def test_every_missing_right_is_a_line_until_it_is_granted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough that all are granted between two looks, and not in the middle of one.
    monkeypatch.setattr(start_module, "RETRY_SECONDS", 0.2)
    caplog.set_level("INFO")
    cluster = FakeCluster()
    cluster.forbidden = {("create", "pods"), ("watch", "pods"), ("update", "leases")}
    start = make_start(cluster)
    waiting = asyncio.create_task(start.until_done(start.check_rights))
    await until(lambda: start.trouble == f"{PODS_FORBIDDEN}\n{LEASES_FORBIDDEN}")
    cluster.forbidden = set()
    await asyncio.wait_for(waiting, 10)
    assert start.trouble is None
    assert said(caplog, "ERROR") == [f"{each}; trying again every 0 s" for each in (PODS_FORBIDDEN, LEASES_FORBIDDEN)]
    assert said(caplog, "INFO") == ["what was missing is there"]


async def test_work_goes_on_without_the_right_to_write_events(caplog: pytest.LogCaptureFixture) -> None:
    cluster = FakeCluster()
    cluster.forbidden = {("create", "events")}
    await make_start(cluster).check_rights()
    assert said(caplog, "WARNING") == [f"{EVENTS_FORBIDDEN}; work goes on without"]


async def test_rights_on_networks_are_needed_only_where_jobs_have_policies() -> None:
    cluster = FakeCluster()
    cluster.forbidden = {("create", "networkpolicies")}
    await make_start(cluster).check_rights()
    network = NetworkAccess("system", {"app": "operator"})
    with pytest.raises(ForbiddenError, match="may not create networkpolicies"):
        await make_start(cluster, TrainerDefaults(network=network)).check_rights()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            NotFoundError("404 page not found"),
            "the API server does not know FineTuneJobs: install the CRD (the chart's crds.enabled, or "
            "kubectl apply --server-side -f crds/finetune.dev_finetunejobs.yaml)",
        ),
        (ForbiddenError("finetunejobs is forbidden"), "finetunejobs is forbidden"),
        (UnavailableError("no route"), "the API server at https://fake cannot be asked: no route"),
    ],
)
async def test_each_reason_to_wait_has_its_sentence(
    error: ClusterError, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = FakeCluster()
    cluster.failures = [error, error, error]
    start = make_start(cluster)

    async def list_jobs() -> None:
        await cluster.list_page(JOBS, None)

    await asyncio.wait_for(start.until_done(list_jobs), 10)
    assert said(caplog, "ERROR") == [f"{sentence}; trying again every 0 s"]


async def test_trouble_that_lasts_is_said_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start_module, "REMIND_SECONDS", 0.0)
    cluster = FakeCluster()
    cluster.failures = [UnavailableError("away"), UnavailableError("away")]

    async def list_jobs() -> None:
        await cluster.list_page(JOBS, None)

    await asyncio.wait_for(make_start(cluster).until_done(list_jobs), 10)
    assert len(said(caplog, "ERROR")) == 2
