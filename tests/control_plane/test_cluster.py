"""The client against a real API server: our errors, pages, watches, conditional writes."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from finetune_operator.clients.cluster import CONFIG_MAPS, JOBS, PODS, Cluster, find_proxy
from finetune_operator.errors import (
    ClusterError,
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from finetune_operator.snapshot import Key
from tests.contract.server import Server


@pytest.fixture
async def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    cluster = await Cluster.connect()
    yield cluster
    await cluster.close()


def make_config_map(name: str, mark: str = "x") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "labels": {"mark": mark}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def make_mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}"


async def test_object_is_created_once_read_patched_and_deleted(cluster: Cluster) -> None:
    name = make_mark()
    key = Key("default", name)
    created = await cluster.create(CONFIG_MAPS, "default", make_config_map(name))
    with pytest.raises(ConflictError):
        await cluster.create(CONFIG_MAPS, "default", make_config_map(name))
    assert await cluster.get(CONFIG_MAPS, key) == created
    patched = await cluster.merge(CONFIG_MAPS, key, {"data": {"a": None, "b": "2"}})
    assert patched["data"] == {"b": "2"}
    old = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"b": "3"}}
    with pytest.raises(ConflictError):
        await cluster.merge(CONFIG_MAPS, key, old)
    with pytest.raises(ConflictError):
        await cluster.replace(CONFIG_MAPS, key, created)
    with pytest.raises(ConflictError):
        await cluster.delete(CONFIG_MAPS, key, uid="another")
    await cluster.delete(CONFIG_MAPS, key, uid=created["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await cluster.get(CONFIG_MAPS, key)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"affinity": {"nodeAffinities": {}}}, "nodeAffinities"),
        ({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}, "a"),
        ({"nodeSelector": {"a": 1}}, "nodeSelector"),
    ],
)
async def test_mistake_of_the_user_is_invalid_and_named(cluster: Cluster, spec: dict[str, Any], named: str) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": make_mark(), "namespace": "default"},
        "spec": {"containers": [{"name": "a", "image": "a"}], **spec},
    }
    with pytest.raises(InvalidError, match=named):
        await cluster.create(PODS, "default", pod)


async def test_list_is_read_page_by_page_and_by_label(cluster: Cluster) -> None:
    mark = make_mark()
    for number in range(3):
        await cluster.create(CONFIG_MAPS, "default", make_config_map(f"{mark}-{number}", mark))
    first = await cluster.list_page(CONFIG_MAPS, None, selector=f"mark={mark}", limit=2)
    rest = await cluster.list_page(CONFIG_MAPS, None, selector=f"mark={mark}", limit=2, token=first.token)
    assert [len(first.items), len(rest.items), rest.token] == [2, 1, ""]
    pages = [page.items async for page in cluster.list_pages(CONFIG_MAPS, None, selector=f"mark={mark}", limit=2)]
    assert [[each["metadata"]["name"][-1] for each in page] for page in pages] == [["0", "1"], ["2"]]


async def test_of_config_maps_only_the_metadata_are_listed_and_watched(cluster: Cluster) -> None:
    mark = make_mark()
    position = (await cluster.list_page(CONFIG_MAPS, None, limit=1)).position
    await cluster.create(CONFIG_MAPS, "default", make_config_map(mark, mark))
    events = cluster.watch(CONFIG_MAPS, None, selector=f"mark={mark}", position=position, seconds=10)
    seen = (await anext(events))["object"]
    listed = (await cluster.list_page(CONFIG_MAPS, None, selector=f"mark={mark}")).items[0]
    assert [(each["metadata"]["name"], "data" in each) for each in (seen, listed)] == [(mark, False)] * 2


async def test_watch_brings_what_happens_after_its_position(cluster: Cluster) -> None:
    mark = make_mark()
    position = (await cluster.list_page(CONFIG_MAPS, None, limit=1)).position
    await cluster.create(CONFIG_MAPS, "default", make_config_map(mark, mark))
    await cluster.delete(CONFIG_MAPS, Key("default", mark))
    events = cluster.watch(CONFIG_MAPS, None, selector=f"mark={mark}", position=position, seconds=1)
    seen = [event["type"] async for event in events]
    assert [type_ for type_ in seen if type_ != "BOOKMARK"] == ["ADDED", "DELETED"]


async def test_session_for_somebody_else_is_signed_in(cluster: Cluster) -> None:
    async with (
        await cluster.open_session() as session,
        session.get(f"{cluster.server}{JOBS.path(None)}") as response,
    ):
        assert response.status == 200


async def test_api_server_that_is_away_is_unavailable(
    tmp_path: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(re.sub(r"https://[0-9.:]+", "https://127.0.0.1:1", server.kubeconfig.read_text()))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    cluster = await Cluster.connect()
    with pytest.raises(UnavailableError) as caught:
        await cluster.get(JOBS, Key("default", "a"))
    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)
    events = cluster.watch(JOBS, None, selector="", position=1, seconds=1)
    with pytest.raises(UnavailableError):
        await anext(events)
    await cluster.close()


async def test_missing_kubeconfig_is_one_clear_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(ClusterError, match=r"no cluster to talk to .*: set KUBECONFIG, or run in a pod"):
        await Cluster.connect()


async def test_metadata_alone_says_who_exists_in_which_version(cluster: Cluster) -> None:
    name = make_mark()
    created = await cluster.create(CONFIG_MAPS, "default", make_config_map(name))
    page = await cluster.list_metadata(CONFIG_MAPS, "default")
    (found,) = [item for item in page.items if item["metadata"]["name"] == name]
    assert found["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    assert "data" not in found
    assert page.position >= int(created["metadata"]["resourceVersion"])
    await cluster.delete(CONFIG_MAPS, Key("default", name))
    assert (await cluster.list_metadata(CONFIG_MAPS, f"none-{name}")).items == []


async def test_administrator_may_do_everything(cluster: Cluster) -> None:
    assert await cluster.is_allowed("patch", JOBS, None, "status")


async def test_session_for_others_tells_who_we_are_and_of_good_answers_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    cluster = await Cluster.connect(identity="operator-1")
    heard: list[bool] = []
    async with await cluster.open_session(lambda: heard.append(True)) as session:
        assert session.headers["User-Agent"].endswith("(operator-1)")
        for path in ("/api/v1/nodes", "/api/v1/nothing"):
            async with session.get(f"{cluster.server}{path}"):
                pass
    await cluster.close()
    assert heard == [True]


def test_proxy_of_the_environment_is_for_addresses_that_it_does_not_exempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.1,.cluster.local")
    assert find_proxy("https://api.example.com:6443") == "http://proxy:3128"
    assert find_proxy("https://10.0.0.1:6443") is None
    assert find_proxy("https://kubernetes.default.svc.cluster.local") is None
