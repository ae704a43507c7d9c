"""The chart's values: linted, every one in the schema, every one explained, typos refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from finetune_contract.spec import FineTuneJob
from finetune_contract.support import check_support
from tests.chart.render import CHART, refuse, render, run_helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
UMBRELLA = {"enabled"}
"""Accepted because umbrella charts set it on every chart of theirs."""


def test_helm_finds_nothing_to_complain_about() -> None:
    done = run_helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("setting", "blamed"),
    [
        ("watch.namspaces={a}", "namspaces"),
        ("imagee.tag=1", "imagee"),
        ("trainer.serviceAccount.nmae=x", "nmae"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("log.level=loud", "level"),
        ("crds.keep=maybe", "keep"),
        ("metrics.service.port=0", "port"),
        ("watch.namespaces={Team_A}", "namespaces"),
        ("resources.limit.memory=1Gi", "limit"),
    ],
)
def test_a_typo_is_refused_by_name(setting: str, blamed: str) -> None:
    assert blamed in refuse(setting)


def test_umbrella_charts_may_set_what_is_theirs() -> None:
    render("global.anything.at.all=1", "enabled=true")


def test_schema_and_values_hold_the_same_keys() -> None:
    assert set(_keys(SCHEMA)) - UMBRELLA == set(_paths(VALUES))


def test_every_level_but_global_is_strict() -> None:
    open_levels = [path for path, node in _levels(SCHEMA, "") if node.get("additionalProperties", True) is True]
    assert open_levels == ["global", "podSecurityContext", "affinity"]


def test_every_value_is_explained_by_a_sentence_above_it() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    leaves = [number for number, line in enumerate(lines) if ": " in line and not line.strip().startswith("#")]
    unexplained = [lines[number].strip() for number in leaves if not lines[number - 1].strip().startswith("# ")]
    assert unexplained == ["cpu: 50m", "memory: 128Mi", "memory: 512Mi"]


def test_the_first_job_of_the_notes_is_a_job() -> None:
    for settings, namespace in (((), "default"), (("--set", "watch.namespaces={team-a,b}"), "team-a")):
        done = run_helm("install", "x", str(CHART), "--dry-run=client", *settings)
        notes = done.stdout.partition("NOTES:")[2]
        job = yaml.safe_load(notes.partition("<<EOF\n")[2].partition("  EOF")[0])
        assert check_support(FineTuneJob.from_data(job)) is None
        assert f"kubectl --namespace {namespace} get ftj" in notes


def test_the_job_in_the_chart_annotations_is_a_job() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (job,) = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])
    assert check_support(FineTuneJob.from_data(job)) is None


def _paths(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{path}{key}"
        if isinstance(value, dict) and path != "resources.":
            yield from _paths(value, f"{path}{key}.")


def _keys(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, child in schema.get("properties", {}).items():
        yield f"{path}{key}"
        yield from _keys(child, f"{path}{key}.")


def _levels(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if schema.get("type") == "object":
        yield path, schema
    for key, child in schema.get("properties", {}).items():
        yield from _levels(child, f"{path}.{key}".lstrip("."))
