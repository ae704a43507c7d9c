"""The alerts and recording rules: proved by promtool, explained by pages, built of promised series only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.render import CHART, render
from tests.monitoring.rules import (
    ALERT_TESTS,
    MONITORING_PAGE,
    RULES,
    list_alerts,
    list_documented_series,
    list_groups,
    list_recorded,
    list_rules,
    promtool,
)

RUNBOOKS = CHART.parents[1] / "docs" / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
ALERTS = sorted(list_alerts())
_NAMES = re.compile(
    r"\b(?:\w+:)?(?:finetune|controller_runtime|workqueue|rest_client|leader_election|process)_\w+(?::\w+)?"
)


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: path.stem)
def test_promtool_takes_every_file_as_it_lies_there(path: Path) -> None:
    done = promtool("check", "rules", "--lint-fatal", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_fires_when_it_should_and_not_otherwise(alert: str) -> None:
    done = promtool("test", "rules", ALERT_TESTS / f"{alert}.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_recorded_series_have_the_values_that_they_should() -> None:
    done = promtool("test", "rules", ALERT_TESTS.parent / "recorded.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_and_a_page_and_nothing_else_has() -> None:
    assert sorted(path.stem for path in ALERT_TESTS.glob("*.yaml")) == ALERTS
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == ALERTS


@pytest.mark.parametrize("alert", ALERTS)
def test_test_of_an_alert_sees_it_fire_and_sees_it_silent(alert: str) -> None:
    looks = [look for test in _read(alert)["tests"] for look in test["alert_rule_test"]]
    assert {look["alertname"] for look in looks} == {alert}
    assert {bool(look["exp_alerts"]) for look in looks} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_page_of_an_alert_says_what_is_needed_at_night(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    assert "```" in page.partition("## Diagnosis")[2].partition("## Mitigation")[0], "no command to begin with"


def test_monitoring_page_lists_every_alert_with_its_severity_and_its_page() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", MONITORING_PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == [(name, name, rule["labels"]["severity"]) for name, rule in sorted(list_alerts().items())]


def test_recorded_series_are_listed_on_the_monitoring_page() -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+:[a-z0-9_:]+)` \|", MONITORING_PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(list_recorded())


@pytest.mark.parametrize("page", [MONITORING_PAGE, *sorted(RUNBOOKS.glob("*.md"))], ids=lambda page: page.stem)
def test_page_names_promised_series_and_leads_to_pages_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert set(_NAMES.findall(text)) - list_documented_series() - set(list_recorded()) == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_says_how_bad_it_is_and_what_to_do_first(alert: str) -> None:
    rule = list_alerts()[alert]
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"}, {"severity": "info"})
    assert set(rule["annotations"]) == {"summary", "description"}
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["summary"]) < 140


def test_rules_read_promised_series_only() -> None:
    known = list_documented_series() | set(list_recorded())
    read = {name for rule in list_rules() for name in _NAMES.findall(rule["expr"])}
    assert read - known == set()


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    assert [name for name in list_recorded() if not re.fullmatch(r"[a-z_]+:[a-z0-9_]+:[a-z0-9_]+", name)] == []


def test_rendered_rules_are_those_of_the_files_with_links_to_the_pages() -> None:
    (rendered,) = render("rules.enabled=true").of_kind("PrometheusRule")
    groups = {group["name"]: group for group in rendered["spec"]["groups"]}
    links = {rule.get("alert"): rule.get("annotations", {}).pop("runbook_url", None) for rule in _rules_of(groups)}
    assert groups == {group["name"]: group for group in list_groups()}
    home = "https://github.com/finetune-operator/finetune-operator/blob/main/docs/runbooks"
    assert links == {None: None} | {alert: f"{home}/{alert}.md" for alert in ALERTS}


def test_runbooks_may_lie_elsewhere() -> None:
    (rendered,) = render("rules.enabled=true", "rules.runbookUrl=https://wiki.example.org").of_kind("PrometheusRule")
    rules = [rule for group in rendered["spec"]["groups"] for rule in group["rules"]]
    urls = {rule["annotations"]["runbook_url"] for rule in rules if "alert" in rule}
    assert urls == {f"https://wiki.example.org/{alert}.md" for alert in ALERTS}


def test_labels_by_which_prometheus_selects_rules_are_set() -> None:
    (rendered,) = render("rules.enabled=true", "rules.labels.release=monitoring").of_kind("PrometheusRule")
    assert rendered["metadata"]["labels"]["release"] == "monitoring"


def test_rules_are_not_rendered_unless_asked_for() -> None:
    assert render().of_kind("PrometheusRule") == []


def _read(alert: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ALERT_TESTS / f"{alert}.yaml").read_text(encoding="utf-8"))
    return content


def _rules_of(groups: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in groups.values() for rule in group["rules"]]
