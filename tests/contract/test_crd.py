"""The generated CRD: current, small, established by the real API server, and shaped by Kubernetes' conventions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_contract.names import CONDITIONS
from finetune_contract.schema import CHART_FILE, CRD_FILE, REFERENCE_FILE, main, make_crd, render_files
from finetune_contract.status import FineTuneJobStatus
from tests.contract.make import Data, make_data, make_status
from tests.contract.server import JOBS, REPOSITORY, Server
from tests.ground import binaries

LIMIT = 200 * 1024


def test_the_checked_in_files_are_current() -> None:
    assert main(["--check"]) == 0


def test_check_names_every_stale_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", "--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / CRD_FILE).write_text("old")
    (tmp_path / REFERENCE_FILE).unlink()
    capsys.readouterr()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"stale: {CRD_FILE}\nstale: {REFERENCE_FILE}\n"


@pytest.mark.parametrize("path", [CRD_FILE, CHART_FILE])
def test_the_crd_stays_below_the_limit(path: str) -> None:
    assert len(render_files()[path].encode()) < LIMIT


def test_the_api_server_holds_the_schema_as_we_wrote_it(server: Server) -> None:
    held, written = server.read_crd()["spec"], make_crd()["spec"]
    schema = "openAPIV3Schema"
    assert held["versions"][0]["schema"][schema] == written["versions"][0]["schema"][schema]
    assert held["names"] == written["names"]
    assert [condition["type"] for condition in server.read_crd()["status"]["conditions"]] == [
        "NamesAccepted",
        "Established",
    ]


def test_explain_reads_well(server: Server) -> None:
    text = " ".join(_kubectl(server, "explain", "ftj.spec.training").split())
    assert "Hyper-parameters." in text
    assert "learningRate <number> Peak learning rate; derived from the strategy when absent." in text
    assert "the same on any number of them. Default: 32." in text
    assert "enum: fp32, bf16, fp16" in text


def test_get_prints_rounded_figures(server: Server) -> None:
    name = "printed"
    assert server.create(make_data(name=name)).accepted
    assert server.patch(name, {"status": make_status().to_data()}, "status").message == ""
    head, row = _kubectl(server, "get", "ftj", name).splitlines()
    assert head.split() == ["NAME", "PHASE", "STEP", "PROGRESS", "ETA", "LOSS", "BEST", "RESTARTS", "AGE"]
    assert row.split()[:9] == [name, "Running", "42/100", "42%", "3m20s", "0.1235", "f1", "0.9412", "1"]
    wide = _kubectl(server, "get", "ftj", name, "--output", "wide")
    assert wide.splitlines()[0].split()[9:] == ["GOODPUT", "REASON", "TASK", "MODEL", "PUBLISHED"]
    assert _kubectl(server, "get", "finetune", name, "--output", "name").splitlines() == [
        f"finetunejob.finetune.dev/{name}"
    ]
    assert server.request("DELETE", f"{JOBS}/{name}").accepted


def test_the_operators_own_status_is_kept_whole(server: Server) -> None:
    status = make_status(completion_time="2026-01-01T01:00:00Z")
    assert server.create(make_data(name="status")).accepted
    answer = server.patch("status", {"status": status.to_data()}, "status")
    assert answer.message == ""
    assert answer.body["status"] == status.to_data()
    assert FineTuneJobStatus.from_data(answer.body["status"]) == status


def test_the_status_of_these_tests_has_every_field_but_the_end() -> None:
    assert list(_absent(_schema_of("status"), make_status().to_data(), "status")) == ["status.completionTime"]


def test_every_field_is_described() -> None:
    undescribed = [path for part in ("spec", "status") for path, node in _walk(_schema_of(part), part)
                   if not node.get("description") and not path.endswith(("[]", "{}"))]  # fmt: skip
    assert undescribed == []


def test_everything_a_user_writes_is_bounded() -> None:
    bounds = {"string": {"maxLength", "enum"}, "array": {"maxItems"}}
    unbounded = [path for path, node in _walk(_schema_of("spec"), "spec")
                 if (wanted := bounds.get(node["type"])) and not wanted & node.keys()]  # fmt: skip
    maps = [path for path, node in _walk(_schema_of("spec"), "spec")
            if "additionalProperties" in node and "maxProperties" not in node]  # fmt: skip
    assert unbounded + maps == []


def test_no_field_has_a_default_and_no_status_field_a_rule() -> None:
    nodes = [*_walk(_schema_of("spec"), "spec"), *_walk(_schema_of("status"), "status")]
    assert [path for path, node in nodes if "default" in node] == []
    assert [path for path, node in nodes if path.startswith("status") and "x-kubernetes-validations" in node] == []


def test_every_list_says_how_it_merges() -> None:
    lists = {path: node.get("x-kubernetes-list-map-keys") for part in ("spec", "status")
             for path, node in _walk(_schema_of(part), part) if node["type"] == "array"}  # fmt: skip
    keyed = {path: keys for path, keys in lists.items() if keys}
    assert keyed == {
        "spec.pod.imagePullSecrets": ["name"],
        "spec.pod.env": ["name"],
        "spec.pod.volumes": ["name"],
        "spec.pod.volumeMounts": ["mountPath"],
        "status.conditions": ["type"],
        "status.attempts": ["number"],
    }


def test_conditions_are_described_by_their_types() -> None:
    description = dict(_walk(_schema_of("status"), "status"))["status.conditions"]["description"]
    assert description == ", ".join(CONDITIONS) + "."


def _kubectl(server: Server, *arguments: str) -> str:
    kubectl = binaries.find("kubectl", binaries.CONTROL_PLANE)
    command = [str(kubectl), "--kubeconfig", str(server.kubeconfig), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout


def _schema_of(part: str) -> Data:
    schema: Data = json.loads(json.dumps(make_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))
    node: Data = schema["properties"][part]
    return node


def _walk(node: Data, path: str) -> Iterator[tuple[str, Data]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _walk(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield from _walk(node[key], path + mark)


def _absent(node: Data, value: object, path: str) -> Iterator[str]:
    """Fields of the schema that a document does not have."""
    if isinstance(value, list):
        if not value:
            yield path
        for entry in value[:1]:
            yield from _absent(node["items"], entry, f"{path}[]")
    if isinstance(value, dict):
        for name, child in node.get("properties", {}).items():
            if name in value:
                yield from _absent(child, value[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
