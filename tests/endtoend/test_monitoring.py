"""A real Prometheus saw a whole job: every pod, every panel of the dashboards, every rule.

The job is the chat job, whose worker and operator were killed on the way.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from finetune_contract import names
from tests.endtoend.chat_run import NAME, ChatRun
from tests.endtoend.ground import SYSTEM_NAMESPACE, TEAM_NAMESPACE, Ground
from tests.endtoend.make import make_spam_job
from tests.endtoend.scraped import Scraped
from tests.ground.prometheus import Prometheus, Series
from tests.monitoring.queries import Query, list_queries
from tests.monitoring.rules import list_alerts, list_recorded
from tests.waiting import wait_for

STEP = 2.0
WINDOW = "30s"
OPERATOR_DASHBOARD = "finetune-operator"


def _fill(name: str) -> str:
    """What stands in the place of Grafana's variables; {range} and {job} are known when the job has run."""
    return {
        "__rate_interval": WINDOW,
        "__range": "{range}s",
        "__range_s": "{range}",
        "namespace": TEAM_NAMESPACE,
        "job": "{job}",
        "queue": ".*",
        "instance": ".+",
        "gpu_hour_price": "2",
        "metric": "[^/]+",
    }[name]


QUERIES = [query for query in list_queries(_fill) if not query.annotation]


@pytest.fixture(scope="module")
def seen(scraped: Scraped | None, chat: ChatRun) -> Scraped:
    if scraped is None:
        pytest.skip("Prometheus runs in the network of this clone's cluster (unset KUBECONFIG)")
    return scraped


@pytest.mark.parametrize("way", ["by_monitors", "by_annotations"])
def test_every_pod_was_up(seen: Scraped, chat: ChatRun, way: str) -> None:
    prometheus: Prometheus = getattr(seen, way)
    found = prometheus.query_range("sum by (pod) (up)", chat.began, chat.ended, STEP)
    ups = {series.labels["pod"]: series.values for series in found}
    pods = (*chat.trainers, *chat.operators)
    assert [pod for pod in pods if max(ups.get(pod, [0.0])) != 1.0] == []
    for pod in chat.trainers:
        assert sum(ups[pod]) / len(ups[pod]) > 0.9, f"{pod} was down too often: {ups[pod]}"


@pytest.mark.parametrize("way", ["by_monitors", "by_annotations"])
def test_labels_say_which_job_and_not_who_was_asked(seen: Scraped, chat: ChatRun, way: str) -> None:
    prometheus: Prometheus = getattr(seen, way)
    for name in ("finetune_step", "finetune_job_info"):
        found = prometheus.query_range(f'{name}{{job="{NAME}"}}', chat.began, chat.ended, STEP)
        assert {series.labels["namespace"] for series in found} == {TEAM_NAMESPACE}, name
        assert not any(label.startswith("exported_") for series in found for label in series.labels), name


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_panel_shows_something(seen: Scraped, chat: ChatRun, query: Query) -> None:
    lasted = math.ceil(chat.ended - chat.began)
    job = ".+" if query.dashboard == OPERATOR_DASHBOARD else NAME
    expression = query.expression.replace("{range}", str(lasted)).replace("{job}", job)
    if query.instant:
        found = seen.by_monitors.query(expression, at=chat.ended)
    else:
        found = seen.by_monitors.query_range(expression, chat.began, chat.ended, STEP)
    assert _has_figures(found), expression


def test_all_rules_are_evaluated_without_an_error(seen: Scraped) -> None:
    rules = seen.by_monitors.rules()
    assert {rule["name"] for rule in rules} == {*list_alerts(), *list_recorded()}
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}


@pytest.mark.parametrize("name", sorted(list_recorded()))
def test_recorded_series_has_figures(seen: Scraped, chat: ChatRun, name: str) -> None:
    assert _has_figures(seen.by_monitors.query_range(name, chat.began, chat.ended, STEP))


def test_no_alert_fired_for_a_job_that_recovered_by_itself(seen: Scraped, chat: ChatRun) -> None:
    fired = seen.by_monitors.query_range('ALERTS{alertstate="firing"}', chat.began, chat.ended, STEP)
    ours = [each.labels for each in fired if each.labels.get("job", NAME) == NAME]
    assert ours == []


def test_dashboards_tell_what_happened(seen: Scraped, chat: ChatRun) -> None:
    job = f'namespace="{TEAM_NAMESPACE}",job="{NAME}"'
    at_end = {
        what: [(series.labels.get("result"), series.values) for series in seen.by_monitors.query(query, at=chat.ended)]
        for what, query in {
            "attempts": f"sum by (result) (max by (result, reason) (finetune_job_attempts_total{{{job}}}))",
            "steps": f"max(finetune_job_step{{{job}}})",
            "lost": f"max(finetune_job_lost_steps_total{{{job}}})",
        }.items()
    }
    assert at_end == {
        "attempts": [("Failed", [1.0]), ("Finished", [1.0])],
        "steps": [(None, [float(chat.status["progress"]["totalSteps"])])],
        "lost": [(None, [float(chat.status["usage"]["lostSteps"])])],
    }


def test_alert_of_a_job_that_fails_is_fired_with_its_name_and_reason(seen: Scraped, ground: Ground) -> None:
    job = make_spam_job("refused")
    job["metadata"]["labels"] = {names.LABEL_QUEUE: "not-yet-supported"}
    ground.kubectl.apply(job)

    def find_alert() -> dict[str, str] | None:
        found = seen.by_monitors.query('ALERTS{alertname="FineTuneJobFailed",alertstate="firing",job="refused"}')
        return found[0].labels if found else None

    alert = wait_for(find_alert, "the alert is fired", seconds=60)
    ground.kubectl("delete", "ftj", "refused")
    expected: dict[str, Any] = {
        "__name__": "ALERTS",
        "alertname": "FineTuneJobFailed",
        "alertstate": "firing",
        "severity": "warning",
        "namespace": TEAM_NAMESPACE,
        "job": "refused",
        "reason": "NotYetSupported",
    }
    assert alert == expected


def test_operator_is_seen_under_its_own_name(seen: Scraped, chat: ChatRun) -> None:
    found = seen.by_monitors.query_range("leader_election_master_status", chat.began, chat.ended, STEP)
    assert {series.labels["namespace"] for series in found} == {SYSTEM_NAMESPACE}
    assert {series.labels["pod"] for series in found} == set(chat.operators)


def _has_figures(found: list[Series]) -> bool:
    return any(math.isfinite(value) for series in found for value in series.values)
