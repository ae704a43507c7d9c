"""`helm test`: what it makes, where, and that its model can be made and its job is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finetune_contract.spec import FineTuneJob
from finetune_contract.support import check_support
from tests.chart.render import CHART, NAMESPACE, Rendered, render, render_test

NAME = "finetune-operator-test"
SECRET = ("test.destination=s3://bucket/here/", "test.storageSecret=storage")


def _job(rendered: Rendered) -> dict[str, Any]:
    job: dict[str, Any] = json.loads(rendered.one("ConfigMap", NAME)["data"]["job.json"])
    return job


def test_nothing_of_it_is_installed_and_all_of_it_goes_when_it_has_passed() -> None:
    hooks = render_test()
    kinds = sorted(each["kind"] for each in hooks)
    assert kinds == ["ConfigMap", "PersistentVolumeClaim", "Pod", "Pod", "Role", "RoleBinding", "ServiceAccount"]
    policies = {each["metadata"]["annotations"]["helm.sh/hook-delete-policy"] for each in hooks}
    assert policies == {"before-hook-creation,hook-succeeded"}


def test_its_pods_are_none_of_the_operators() -> None:
    selector = render().one("Deployment", "finetune-operator")["spec"]["selector"]["matchLabels"]
    assert all(not selector.items() <= pod["metadata"]["labels"].items() for pod in render_test().of_kind("Pod"))


def test_the_claim_holds_model_rows_and_result_and_no_pod_that_waits_holds_the_claim() -> None:
    rendered = render_test()
    job, prepare, run = _job(rendered), rendered.one("Pod", f"{NAME}-prepare"), rendered.one("Pod", NAME)
    assert job["spec"]["model"]["source"] == f"pvc://{NAME}/helm-test/model"
    assert job["spec"]["data"]["train"]["source"] == f"pvc://{NAME}/helm-test/train.jsonl"
    assert job["spec"]["output"]["destination"] == f"pvc://{NAME}/helm-test/out"
    claims = [
        [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"]["volumes"]
            if len(volume) == 2 and "persistentVolumeClaim" in volume
        ]
        for pod in (prepare, run)
    ]
    assert claims == [[NAME], []]
    (container,) = prepare["spec"]["containers"]
    assert {"name": "claim", "mountPath": f"/mnt/finetune/{NAME}"} in container["volumeMounts"]
    order = [int(pod["metadata"]["annotations"]["helm.sh/hook-weight"]) for pod in (prepare, run)]
    assert order == sorted(order)


def test_with_object_storage_no_claim_is_made_and_both_get_the_secret() -> None:
    rendered = render_test(*SECRET)
    (container,) = rendered.one("Pod", f"{NAME}-prepare")["spec"]["containers"]
    assert rendered.of_kind("PersistentVolumeClaim") == []
    assert container["envFrom"] == [{"secretRef": {"name": "storage"}}]
    assert container["command"][-1] == "s3://bucket/here"
    assert _job(rendered)["spec"]["storage"] == {"secretRef": {"name": "storage"}}


@pytest.mark.parametrize("settings", [(), SECRET, ("imagePullSecrets[0].name=registry",)])
def test_its_job_is_one(settings: tuple[str, ...]) -> None:
    assert check_support(FineTuneJob.from_data(_job(render_test(*settings)))) is None


@pytest.mark.parametrize(
    ("settings", "namespace"),
    [
        ((), NAMESPACE),
        (("watch.namespaces={team-a,team-b}",), "team-a"),
        (("watch.namespaces={team-a}", "test.namespace=team-b"), "team-b"),
    ],
)
def test_it_runs_where_jobs_are_run(settings: tuple[str, ...], namespace: str) -> None:
    rendered = render_test(*settings)
    assert {each["metadata"]["namespace"] for each in rendered} == {namespace}
    assert _job(rendered)["metadata"]["namespace"] == namespace
    assert rendered.one("RoleBinding", NAME)["subjects"] == [
        {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
    ]


def test_its_account_may_run_a_job_and_read_logs_there() -> None:
    assert render_test().one("Role", NAME)["rules"] == [
        {"apiGroups": ["finetune.dev"], "resources": ["finetunejobs"], "verbs": ["create", "get", "delete"]},
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]},
    ]


def test_its_pods_keep_the_restricted_standard() -> None:
    for pod in render_test().of_kind("Pod"):
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_tiny_model_and_its_rows_are_made_without_a_download(tmp_path: Path) -> None:
    command = [sys.executable, str(CHART / "trial" / "prepare.py"), tmp_path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert tokenizer.unk_token_id not in tokenizer(" ".join(row["text"] for row in rows[:10]))["input_ids"]
    assert {row["label"] for row in rows} == {"positive", "negative"}
    assert model.num_parameters() < 20_000


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    command = [sys.executable, str(CHART / "trial" / "prepare.py"), (tmp_path / "taken" / "below").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "taken/below" in done.stderr.splitlines()[-1]
