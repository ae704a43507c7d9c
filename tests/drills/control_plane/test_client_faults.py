"""The operator's client of the API server, behind the proxy that fails on command."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.clients.cluster import CONFIG_MAPS, Cluster
from finetune_operator.errors import LeaseLostError, UnavailableError
from finetune_operator.snapshot import Key
from tests.contract.server import Server
from tests.drills.api_proxy import SILENT, SILENT_AFTER, TOO_MANY, ApiProxy, Fault, Rule, call_of


@pytest.fixture
def proxy(server: Server, tmp_path: Path) -> Any:
    with ApiProxy(server.kubeconfig, tmp_path / "kubeconfig") as proxy:
        yield proxy


@pytest.fixture
async def cluster(proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig))
    cluster = await Cluster.connect()
    yield cluster
    await cluster.close()


def make_config_map() -> dict[str, Any]:
    metadata = {"name": f"drill-{uuid.uuid4().hex[:8]}", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def spoil(proxy: ApiProxy, fault: Fault, times: int = 1) -> None:
    proxy.rules.append(Rule(fault, call_of("create", "configmaps"), times=times))


async def test_write_comes_back_when_the_api_server_said(proxy: ApiProxy, cluster: Cluster) -> None:
    spoil(proxy, TOO_MANY, times=2)
    await cluster.create(CONFIG_MAPS, "default", make_config_map())
    assert [call.answer for call in proxy.writes] == [TOO_MANY.name, TOO_MANY.name, "201"]
    moments = [call.at for call in proxy.writes]
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(moments))


async def test_wait_beyond_the_time_of_the_write_is_left_to_the_caller(proxy: ApiProxy, cluster: Cluster) -> None:
    spoil(proxy, Fault("429, Retry-After 60 s", 429, retry_after=60))
    with pytest.raises(UnavailableError) as caught:
        await cluster.create(CONFIG_MAPS, "default", make_config_map())
    assert caught.value.retry_after == 60.0
    assert len(proxy.writes) == 1


@pytest.mark.parametrize("fault", [SILENT, SILENT_AFTER], ids=lambda fault: str(fault.name))
async def test_write_ends_before_another_replica_may_lead(fault: Fault, proxy: ApiProxy, cluster: Cluster) -> None:
    cluster.limit_writes(lambda: 0.2)
    spoil(proxy, fault)
    async with asyncio.timeout(10):
        with pytest.raises(UnavailableError):
            await cluster.create(CONFIG_MAPS, "default", make_config_map())


async def test_write_without_any_time_left_is_not_sent(proxy: ApiProxy, cluster: Cluster) -> None:
    cluster.limit_writes(lambda: 0.0)
    name = make_config_map()["metadata"]["name"]
    with pytest.raises(LeaseLostError):
        await cluster.delete(CONFIG_MAPS, Key("default", name))
    assert proxy.calls == []
