"""The small parts around the process: settings, errors, metrics, HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from finetune_operator import errors
from finetune_operator.clients.cluster import JOBS
from finetune_operator.errors import SettingsError, map_status
from finetune_operator.metrics import Metrics
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.servers import answer_check, serve
from finetune_operator.settings import Settings, read_settings
from finetune_operator.version import VERSION
from tests.control_plane.kubelet import find_port


def test_settings_of_an_installation_are_read() -> None:
    environment = {
        "FINETUNE_OPERATOR_TRAINER_IMAGE": "mine:2",
        "FINETUNE_OPERATOR_TRAINER_IMAGE_PULL_POLICY": "IfNotPresent",
        "FINETUNE_OPERATOR_TRAINER_SERVICE_ACCOUNT": "trainer",
        "FINETUNE_OPERATOR_WATCH_NAMESPACES": "ml, prod,,ml",
        "FINETUNE_OPERATOR_LOG_LEVEL": "debug",
        "FINETUNE_OPERATOR_WORKERS": "4",
        "FINETUNE_OPERATOR_AGENT_PORT": "3",
        "FINETUNE_OPERATOR_METRICS_PORT": "1",
        "FINETUNE_OPERATOR_PROBE_PORT": "2",
        "POD_NAMESPACE": "system",
        "POD_NAME": "operator-1",
    }
    settings = read_settings(environment)
    assert settings == Settings(
        trainer=TrainerDefaults("mine:2", "IfNotPresent", "trainer"),
        watch_namespaces=("ml", "prod"),
        namespace="system",
        identity="operator-1",
        log_level="DEBUG",
        workers=4,
        agent_port=3,
        metrics_port=1,
        probe_port=2,
    )
    assert settings.scopes == ("ml", "prod")


def test_network_policies_are_made_for_whom_the_installation_names() -> None:
    environment = {
        "FINETUNE_OPERATOR_NETWORK_POLICY": "true",
        "FINETUNE_OPERATOR_NETWORK_POLICY_PEERS": '[{"podSelector": {}}]',
        "FINETUNE_OPERATOR_POD_LABELS": '{"app": "operator"}',
        "POD_NAMESPACE": "system",
    }
    assert read_settings(environment).trainer.network == NetworkAccess(
        "system", {"app": "operator"}, ({"podSelector": {}},)
    )
    assert read_settings(environment | {"FINETUNE_OPERATOR_NETWORK_POLICY": "false"}).trainer.network is None


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("NETWORK_POLICY", "yes", "NETWORK_POLICY is yes: write true or false"),
        ("NETWORK_POLICY_PEERS", "{}", "NETWORK_POLICY_PEERS is {}: write a JSON list of NetworkPolicyPeers"),
        ("NETWORK_POLICY_PEERS", "any", "NETWORK_POLICY_PEERS is no JSON"),
        ("POD_LABELS", "", "POD_LABELS is {}: write the labels of the operator's pods"),
    ],
)
def test_network_settings_that_cannot_be_read_are_named(variable: str, value: str, words: str) -> None:
    environment = {
        "FINETUNE_OPERATOR_NETWORK_POLICY": "true",
        "FINETUNE_OPERATOR_POD_LABELS": '{"app": "operator"}',
        f"FINETUNE_OPERATOR_{variable}": value,
    }
    with pytest.raises(SettingsError, match=words):
        read_settings(environment)


def test_without_settings_the_whole_cluster_is_watched_with_our_own_image() -> None:
    settings = read_settings({})
    assert settings.scopes == (None,)
    assert settings.trainer == TrainerDefaults(image=f"ghcr.io/finetune-operator/trainer:{VERSION}")
    assert settings.namespace == "default"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LOG_LEVEL", "loud", "FINETUNE_OPERATOR_LOG_LEVEL is LOUD: choose one of DEBUG, INFO, WARNING, ERROR"),
        ("WORKERS", "many", "FINETUNE_OPERATOR_WORKERS is many: write a whole number"),
    ],
)
def test_wrong_setting_is_named_with_its_remedy(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings({f"FINETUNE_OPERATOR_{name}": value})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidError),
        (401, errors.ForbiddenError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (422, errors.InvalidError),
        (429, errors.UnavailableError),
        (500, errors.UnavailableError),
    ],
)
def test_status_of_the_api_server_becomes_our_error(status: int, kind: type[Exception]) -> None:
    error = map_status(status, "no")
    assert (type(error), str(error)) == (kind, "no")


def test_paths_of_resources() -> None:
    assert JOBS.path(None) == "/apis/finetune.dev/v1alpha1/finetunejobs"
    assert JOBS.path("ml", "spam", "status") == "/apis/finetune.dev/v1alpha1/namespaces/ml/finetunejobs/spam/status"


async def test_requests_are_counted_by_code_and_method() -> None:
    metrics, port = Metrics(), find_port()
    async with (
        serve(port, {"/": lambda: (404, b"")}),
        aiohttp.ClientSession(trace_configs=[metrics.make_trace()]) as session,
    ):
        async with session.get(f"http://127.0.0.1:{port}/"):
            pass
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://127.0.0.1:1/")
    text = metrics.render().decode()
    assert 'rest_client_requests_total{code="404",method="GET"} 1.0' in text
    assert 'rest_client_requests_total{code="<error>",method="GET"} 1.0' in text


@pytest.mark.parametrize(("wrong", "answer"), [(None, (200, "ok\n")), ("too slow", (503, "too slow\n"))])
async def test_probe_says_what_is_wrong(wrong: str | None, answer: tuple[int, str]) -> None:
    port = find_port()
    async with (
        serve(port, {"/healthz": answer_check("alive", lambda: wrong)}),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/healthz") as response,
    ):
        assert (response.status, await response.text()) == answer
