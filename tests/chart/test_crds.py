"""The CRD in the chart: the same as ours, optional, and kept on uninstall."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from finetune_contract.schema import make_crd, render_chart_copy
from tests.chart.render import CHART, render, run_helm

KEEP = "helm.sh/resource-policy"


def test_the_charts_crd_is_ours() -> None:
    (crd,) = render().of_kind("CustomResourceDefinition")
    assert crd["spec"] == make_crd()["spec"]
    assert crd["metadata"]["name"] == make_crd()["metadata"]["name"]
    assert crd["metadata"]["annotations"] == {KEEP: "keep"}


def test_the_crd_goes_with_the_chart_where_it_shall_not_be_kept() -> None:
    (crd,) = render("crds.keep=false").of_kind("CustomResourceDefinition")
    assert "annotations" not in crd["metadata"]


def test_the_crd_can_be_left_out() -> None:
    assert render("crds.enabled=false").of_kind("CustomResourceDefinition") == []


def test_braces_in_a_description_survive_helm(tmp_path: Path) -> None:
    crd = make_crd()
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "Write {{ .Values }} or {a}."
    chart = shutil.copytree(CHART, tmp_path / "chart")
    (tmp_path / "chart" / "templates" / "crds" / "finetunejobs.yaml").write_text(render_chart_copy(crd))
    done = run_helm("template", "x", str(chart), "--show-only", "templates/crds/finetunejobs.yaml")
    assert yaml.safe_load(done.stdout)["spec"] == crd["spec"]
