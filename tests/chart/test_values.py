"""The chart's values: linted, every one in the schema, every one explained, typos refused."""

from __future__ import annotations

import pytest
import yaml

from finetune_contract.spec import FineTuneJob
from finetune_contract.support import check_support
from tests.chart.render import CHART, refuse, render, run_helm, template
from tests.chart.values import (
    UMBRELLA,
    documented_values,
    known_values,
    leaves,
    open_levels,
    read_table,
    render_table,
    schema_paths,
    used_values,
)

TWO, POLICY = "replicas=2", "networkPolicy.enabled=true"
SERVICE_MONITOR, POD_MONITOR = "metrics.serviceMonitor.enabled=true", "metrics.podMonitor.enabled=true"
DASHBOARDS, RULES = "dashboards.enabled=true", "rules.enabled=true"
SPREAD = "[0].maxSkew=1,{0}[0].topologyKey=zone,{0}[0].whenUnsatisfiable=DoNotSchedule".format(
    "topologySpreadConstraints"
)
ACCOUNT = "trainer.serviceAccount.create=true"
SAMPLES: dict[str, tuple[str, ...]] = {
    "nameOverride": ("=other",),
    "fullnameOverride": ("=other",),
    "crds.enabled": ("=false",),
    "crds.keep": ("=false",),
    "watch.namespaces": ("={a}",),
    "replicas": ("=2",),
    "podDisruptionBudget.enabled": ("=false", TWO),
    "podDisruptionBudget.maxUnavailable": ("=50%", TWO),
    "topologySpreadConstraints": (SPREAD,),
    "image.repository": ("=other",),
    "image.tag": ("=other",),
    "image.pullPolicy": ("=Never",),
    "imagePullSecrets": ("[0].name=registry",),
    "trainer.image.repository": ("=other",),
    "trainer.image.tag": ("=other",),
    "trainer.image.pullPolicy": ("=Never",),
    "trainer.serviceAccount.create": ("=true",),
    "trainer.serviceAccount.name": ("=other",),
    "trainer.serviceAccount.namespaces": ("={a}", ACCOUNT),
    "trainer.serviceAccount.annotations": (".a=b", ACCOUNT),
    "trainer.serviceAccount.imagePullSecrets": ("[0].name=registry", ACCOUNT),
    "serviceAccount.create": ("=false",),
    "serviceAccount.name": ("=other",),
    "serviceAccount.annotations": (".a=b",),
    "rbac.create": ("=false",),
    "rbac.aggregateToUserRoles": ("=false",),
    "log.level": ("=debug",),
    "metrics.service.enabled": ("=false",),
    "metrics.service.port": ("=9090",),
    "metrics.service.annotations": (".a=b",),
    "metrics.annotations": ("=false",),
    "metrics.serviceMonitor.enabled": ("=true",),
    "metrics.serviceMonitor.labels": (".a=b", SERVICE_MONITOR),
    "metrics.serviceMonitor.interval": ("=5s", SERVICE_MONITOR),
    "metrics.podMonitor.enabled": ("=true",),
    "metrics.podMonitor.labels": (".a=b", POD_MONITOR),
    "metrics.podMonitor.interval": ("=5s", POD_MONITOR),
    "dashboards.enabled": ("=true",),
    "dashboards.labels": (".a=b", DASHBOARDS),
    "dashboards.annotations": (".a=b", DASHBOARDS),
    "dashboards.namespace": ("=other", DASHBOARDS),
    "rules.enabled": ("=true",),
    "rules.labels": (".a=b", RULES),
    "rules.runbookUrl": ("=https://example.org/runbooks", RULES),
    "networkPolicy.enabled": ("=true",),
    "networkPolicy.prometheus.namespaceSelector": (".matchLabels.a=b", POLICY),
    "networkPolicy.prometheus.podSelector": (".matchLabels.a=b", POLICY),
    "resources.requests": (".cpu=1",),
    "resources.limits": (".cpu=1",),
    "podSecurityContext": (".runAsUser=10001",),
    "podLabels": (".a=b",),
    "podAnnotations": (".a=b",),
    "nodeSelector": (".a=b",),
    "tolerations": ("[0].operator=Exists",),
    "affinity": (".nodeAffinity.a=b",),
    "priorityClassName": ("=high",),
    "extraEnv": ("[0].name=A",),
    "test.namespace": ("=other",),
    "test.destination": ("=s3://bucket/test",),
    "test.storageSecret": ("=other",),
    "test.storageClassName": ("=other",),
    "test.cpu": ("=2",),
    "test.memory": ("=9Gi",),
}
"""Value -> another than its default, and the settings without which it means nothing."""
ELSEWHERE = {"global", "inspectCluster"}
"""The user's own; and what only helm's notes show, on an API server (test_install.py)."""


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
    assert sorted(set(schema_paths()) - UMBRELLA) == sorted(known_values())


def test_templates_use_no_value_that_is_not_there() -> None:
    known = known_values()
    assert sorted(use for use in used_values() if use not in known) == []


def test_every_value_has_a_sample_by_which_its_use_is_seen() -> None:
    assert sorted(SAMPLES) == sorted(set(leaves()) - ELSEWHERE)


@pytest.mark.parametrize("path", sorted(SAMPLES))
def test_a_value_changes_what_is_rendered(path: str) -> None:
    setting, *needed = SAMPLES[path]
    assert template(f"{path}{setting}", *needed) != template(*needed)


def test_every_level_that_is_ours_is_strict() -> None:
    assert list(open_levels()) == [
        "global",
        "topologySpreadConstraints[]",
        "podSecurityContext",
        "tolerations[]",
        "affinity",
        "extraEnv[]",
    ]


def test_every_value_is_explained_by_a_sentence_above_it() -> None:
    single = set(leaves())
    unexplained = [
        value.path
        for value in documented_values()
        if value.path in single and not (value.comment[:1].isupper() and value.comment.endswith("."))
    ]
    assert unexplained == []


def test_no_value_is_left_out_of_the_explanations() -> None:
    assert [value.path for value in documented_values()] == list(known_values())


def test_the_table_of_the_readme_is_that_of_values_yaml() -> None:
    assert read_table() == render_table(), "run: python -m tests.chart.values --write"


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
