"""The dashboards as files: dashboard-linter's rules, by its names, and what we ask beyond them.

Rules of the linter that do not fit here:
- template-job-rule, template-instance-rule, target-job-rule, target-instance-rule hold for the operator's dashboard.
  On the others the label `job` is a FineTuneJob's name, and which pod or address told a figure is beside the point.
  The file .lint beside the dashboards says so to the linter itself, which finds nothing else.
- target-counter-agg-rule: a job's own sums (finetune_job_..._total) are read from its status. They begin at what is
  there and never start again, so that a table shows them as they are.
- target-logql-rule, target-logql-auto-rule: there is no Loki here.
"""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
import yaml

from charts.dashboards.titles import BOARDS
from tests.chart.render import NAMESPACE, Object, render
from tests.monitoring.queries import FOLDER, list_panels, list_queries, read_dashboards, replace_variables
from tests.monitoring.rules import list_documented_series, promtool

DASHBOARDS: Final = read_dashboards()
PANELS: Final = [
    pytest.param(dashboard, panel, id=f"{dashboard['uid']}-{panel['title']}")
    for dashboard in DASHBOARDS
    for panel in list_panels(dashboard)
]
each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each["uid"])
each_panel = pytest.mark.parametrize(("dashboard", "panel"), PANELS)

SOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
VALUES: Final = {
    "namespace": "team-a",
    "job": "spam",
    "queue": ".*",
    "instance": ".+",
    "gpu_hour_price": "2.00",
    "metric": "[^/]+",
    "__rate_interval": "4m",
    "__range": "1h",
    "__range_s": "3600",
}
UNITS: Final = {"none", "short", "sci", "percentunit", "s", "bytes", "Bps", "ops", "reqps"}
"""Those of Grafana's units that we use; the linter knows them all."""
TYPES: Final = {"timeseries", "stat", "bargauge", "piechart", "table"}
NOT_SHOWN: Final = {
    "finetune_gradient_norm": "new; a panel follows",
    "finetune_epoch": "new; a panel follows",
    "finetune_skipped_steps": "new; a panel follows",
    "finetune_job_created_timestamp_seconds": "kubectl shows a job's age",
    "finetune_gpu_seconds_total": "finetune_job_gpu_seconds_total outlives the pods",
    "finetune_lost_steps_total": "finetune_job_lost_steps_total outlives the pods",
}
SELECTOR: Final = re.compile(r"\b(\w+)\{([^}]*)\}")
COUNTER: Final = re.compile(r"\b\w+_total\b")
GROWN: Final = re.compile(r"\b(rate|increase)\((\w+_(?:total|bucket))(?:\{[^}]*\})?\[([^\]]+)\]\)")
NAME: Final = re.compile(r"\b(?:finetune|controller_runtime|workqueue|rest_client|leader_election|process)_\w+")
LINK: Final = re.compile(r"/d/([\w-]+)\?(.*)")


def list_expressions() -> list[str]:
    return [query.expression for query in list_queries(VALUES.__getitem__)]


@each_dashboard
def test_template_datasource_rule(dashboard: Object) -> None:
    first = dashboard["templating"]["list"][0]
    assert (first["name"], first["label"], first["type"], first["query"]) == (
        "datasource",
        "Data source",
        "datasource",
        "prometheus",
    )


def test_template_job_and_instance_rules() -> None:
    (dashboard,) = [each for each in DASHBOARDS if each["uid"] == "finetune-operator"]
    chosen = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert {
        name: [chosen[name][key] for key in ("label", "type", "datasource", "multi", "allValue")]
        for name in ("job", "instance")
    } == {
        "job": ["Job", "query", SOURCE, True, ".+"],
        "instance": ["Instance", "query", SOURCE, True, ".+"],
    }


def test_target_job_and_instance_rules() -> None:
    queries = [query for query in list_queries(lambda name: f"${name}") if query.dashboard == "finetune-operator"]
    bare = [
        (query.panel, selector)
        for query in queries
        for selector, matchers in SELECTOR.findall(query.expression)
        if not {'job=~"$job"', 'instance=~"$instance"'} <= set(matchers.split(", "))
    ]
    unselected = [
        (query.panel, name)
        for query in queries
        for name in NAME.findall(query.expression)
        if not re.search(rf"{name}{{", query.expression)
    ]
    # The agents' news come from trainer pods, which are no replicas of the operator.
    assert (bare, unselected) == ([], [("Agents with news", "finetune_news")])


def test_linter_is_told_of_no_other_exception() -> None:
    told = yaml.safe_load((FOLDER / ".lint").read_text())["exclusions"]
    about_jobs = [{"dashboard": title} for uid, title in BOARDS.items() if uid != "finetune-operator"]
    news = [{"dashboard": BOARDS["finetune-operator"], "panel": "Agents with news"}]
    assert {rule: sorted(each["entries"], key=str) for rule, each in told.items()} == {
        "template-job-rule": sorted(about_jobs, key=str),
        "template-instance-rule": sorted(about_jobs, key=str),
        "target-job-rule": sorted([*about_jobs, *news], key=str),
        "target-instance-rule": sorted([*about_jobs, *news], key=str),
    }


@each_dashboard
def test_template_label_promql_rule(dashboard: Object, tmp_path: Path) -> None:
    asked = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    parts = [re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]) for each in asked]
    assert all(parts)
    accept([replace_variables(part[1], VALUES.__getitem__) for part in parts if part], tmp_path)


@each_dashboard
def test_template_on_time_change_reload_rule(dashboard: Object) -> None:
    asked = [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
    assert asked
    assert {each["refresh"] for each in asked} == {2}


@each_panel
def test_panel_datasource_rule(dashboard: Object, panel: Object) -> None:
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [SOURCE] * (
        1 + len(panel["targets"])
    )


@each_panel
def test_panel_title_description_rule(dashboard: Object, panel: Object) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")


@each_panel
def test_panel_units_rule(dashboard: Object, panel: Object) -> None:
    overrides = panel["fieldConfig"]["overrides"]
    found = {each["value"] for override in overrides for each in override["properties"] if each["id"] == "unit"}
    assert {panel["fieldConfig"]["defaults"]["unit"], *found} <= UNITS


@each_panel
def test_panel_no_targets_rule(dashboard: Object, panel: Object) -> None:
    assert panel["targets"]
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHIJKLMNOP"[: len(panel["targets"])])


def test_target_promql_rule(tmp_path: Path) -> None:
    accept(list_expressions(), tmp_path)


def test_target_rate_interval_rule() -> None:
    grown = [found for query in list_queries(lambda name: f"${name}") for found in GROWN.findall(query.expression)]
    windows = {(function, window) for function, _, window in grown}
    assert windows == {("rate", "$__rate_interval"), ("increase", "$__rate_interval"), ("increase", "$__range")}


def test_target_counter_agg_rule() -> None:
    levels = {
        name
        for expression in list_expressions()
        for name in COUNTER.findall(GROWN.sub("", expression))
        if name != "finetune_restarts_total"  # Beside the attempt, as the count that it is.
    }
    assert levels == {name for name in levels if name.startswith("finetune_job_")}


@each_dashboard
def test_uneditable_dashboard(dashboard: Object) -> None:
    assert dashboard["editable"] is False


def test_only_promised_series_are_asked_for_and_all_of_them_are_shown() -> None:
    asked = {name for expression in list_expressions() for name in NAME.findall(expression)}
    promised = {name for name in list_documented_series() if not name.startswith("process_") or name in asked}
    assert asked - promised == set()
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {name for name in promised if re.sub(r"_(bucket|sum|count)$", "", name) not in shown} == set(NOT_SHOWN)


def test_uids_titles_and_files_are_those_that_links_lead_to() -> None:
    assert {each["uid"]: each["title"] for each in DASHBOARDS} == BOARDS
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == sorted(BOARDS)


@each_dashboard
def test_every_dashboard_links_to_all_others_with_its_time_and_data_source(dashboard: Object) -> None:
    links = [(each["url"], each["keepTime"]) for each in dashboard["links"]]
    assert links == [(f"/d/{uid}?${{datasource:queryparam}}", True) for uid in BOARDS if uid != dashboard["uid"]]


def test_links_of_tables_set_variables_that_are_there_from_columns_that_are_there() -> None:
    variables = {each["uid"]: {one["name"] for one in each["templating"]["list"]} for each in DASHBOARDS}
    found = [
        (panel, each["value"][0]["url"])
        for dashboard in DASHBOARDS
        for panel in list_panels(dashboard)
        for override in panel["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "links"
    ]
    assert len(found) == 2
    for panel, url in found:
        uid, query = re.fullmatch(LINK, url).groups()  # type: ignore[union-attr]
        assert set(re.findall(r"var-(\w+)=", query)) <= variables[uid]
        columns = panel["transformations"][1]["options"]["renameByName"].values()
        assert set(re.findall(r"__data\.fields\.(\w+)", query)) <= set(columns)


@each_dashboard
def test_panels_fill_their_rows_and_do_not_overlap(dashboard: Object) -> None:
    places = {panel["title"]: panel["gridPos"] for panel in dashboard["panels"]}
    assert len(places) == len(dashboard["panels"])
    assert max(place["x"] + place["w"] for place in places.values()) == 24
    overlaps = [(one, other) for (one, at), (other, beside) in combinations(places.items(), 2) if covers(at, beside)]
    assert overlaps == []
    lines: dict[int, int] = {}
    for place in places.values():
        lines[place["y"]] = lines.get(place["y"], 0) + place["w"]
    assert set(lines.values()) == {24}


@each_dashboard
def test_ids_are_unique_and_kinds_of_panels_are_current(dashboard: Object) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert ids == list(range(1, len(ids) + 1))
    assert {panel["type"] for panel in list_panels(dashboard)} <= TYPES
    assert dashboard["schemaVersion"] >= 39


def test_chart_brings_each_dashboard_as_it_lies_in_its_file() -> None:
    found = list_config_maps("dashboards.enabled=true")
    assert {name: text for each in found for name, text in each["data"].items()} == {
        path.name: path.read_text().rstrip("\n") for path in FOLDER.glob("*.json")
    }
    assert {each["metadata"]["namespace"] for each in found} == {NAMESPACE}
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in found} == {"1"}


def test_dashboards_go_where_the_sidecar_looks() -> None:
    found = list_config_maps(
        "dashboards.enabled=true",
        "dashboards.namespace=monitoring",
        "dashboards.labels.team=ml",
        "dashboards.annotations.grafana_folder=Fine-tuning",
    )
    assert {each["metadata"]["namespace"] for each in found} == {"monitoring"}
    assert {each["metadata"]["labels"]["team"] for each in found} == {"ml"}
    assert [each["metadata"]["annotations"] for each in found] == [{"grafana_folder": "Fine-tuning"}] * len(found)


def test_no_dashboards_unless_asked_for() -> None:
    assert list_config_maps() == []


def list_config_maps(*settings: str) -> list[Object]:
    return [each for each in render(*settings).of_kind("ConfigMap") if "dashboard" in str(each["metadata"]["labels"])]


def covers(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def accept(expressions: list[str], folder: Path) -> None:
    """Let promtool parse them: as rules, since that is where this promtool takes expressions."""
    rules = [{"record": f"query:{number}", "expr": each} for number, each in enumerate(expressions)]
    path = folder / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
