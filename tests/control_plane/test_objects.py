"""The job's objects, compared as a whole."""

from __future__ import annotations

from typing import Any

from finetune_contract.run import RunConfig
from finetune_operator.plan.objects.config import make_config_map
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults
from finetune_operator.plan.objects.network_policy import make_network_policy
from finetune_operator.plan.objects.pod import make_pod
from finetune_operator.plan.resolve import build_run_config, resolve
from tests.control_plane.make import UID, make_accepted_job

DEFAULTS = TrainerDefaults(image="trainer:1")
OWNER = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "name": "spam",
    "uid": UID,
    "controller": True,
    "blockOwnerDeletion": True,
}
LABELS = {
    "app.kubernetes.io/managed-by": "finetune-operator",
    "finetune.dev/job": "spam",
    "finetune.dev/job-uid": UID,
}

SCRAPING = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}


def build(spec: dict[str, Any] | None = None, defaults: TrainerDefaults = DEFAULTS, **place: Any) -> dict[str, Any]:
    job = make_accepted_job(spec)
    return make_pod(job, resolve(job), defaults, **place)


def container_of(pod: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = pod["spec"]["containers"][0]
    return container


def test_config_map_holds_the_run_config_and_cannot_change() -> None:
    job = make_accepted_job()
    config_map = make_config_map(job, build_run_config(job))
    text = config_map["data"].pop("run.json")
    assert RunConfig.from_json(text) == build_run_config(job)
    assert config_map == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "spam-0a1b2-run", "namespace": "ml", "labels": LABELS, "ownerReferences": [OWNER]},
        "immutable": True,
        "data": {},
    }


def test_network_policy_lets_in_the_jobs_own_pods_the_operator_and_whom_the_installation_names() -> None:
    prometheus = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}, "namespaceSelector": {}}
    access = NetworkAccess("system", {"app.kubernetes.io/name": "finetune-operator"}, (prometheus,))
    members = {"matchLabels": {"finetune.dev/job-uid": UID}}
    assert make_network_policy(make_accepted_job(), access) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "spam-0a1b2-network", "namespace": "ml", "labels": LABELS, "ownerReferences": [OWNER]},
        "spec": {
            "podSelector": members,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": members}]},
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "system"}},
                            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "finetune-operator"}},
                        },
                        prometheus,
                    ],
                    "ports": [{"protocol": "TCP", "port": 8080}],
                },
            ],
        },
    }


def test_users_own_word_on_scraping_wins() -> None:
    pod = build({"pod": {"annotations": {"prometheus.io/scrape": "false", "team": "nlp"}}})
    assert pod["metadata"]["annotations"] == SCRAPING | {"prometheus.io/scrape": "false", "team": "nlp"}


def test_trainer_pod_of_a_short_job() -> None:
    assert build(node_index=1) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "spam-0a1b2-1-0",
            "namespace": "ml",
            "labels": LABELS
            | {"finetune.dev/role": "trainer", "finetune.dev/node-index": "1", "finetune.dev/incarnation": "0"},
            "ownerReferences": [OWNER],
            "annotations": SCRAPING,
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 120,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": [
                {
                    "key": key,
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 20,
                }
                for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            ],
            "volumes": [
                {"name": "finetune-run", "configMap": {"name": "spam-0a1b2-run"}},
                {
                    "name": "finetune-annotations",
                    "downwardAPI": {
                        "items": [
                            {
                                "path": name,
                                "fieldRef": {"fieldPath": f"metadata.annotations['finetune.dev/{name}']"},
                            }
                            for name in ("attempt", "stop", "finish")
                        ]
                    },
                },
                {"name": "finetune-work", "emptyDir": {}},
                {"name": "finetune-tmp", "emptyDir": {}},
                {"name": "finetune-shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1073741824"}},
            ],
            "containers": [
                {
                    "name": "trainer",
                    "image": "trainer:1",
                    "command": ["python3", "-m", "finetune_trainer.agent"],
                    "env": [
                        {"name": "FINETUNE_RUN_CONFIG", "value": "/etc/finetune/run/run.json"},
                        {"name": "FINETUNE_ANNOTATIONS_DIR", "value": "/etc/finetune/annotations"},
                        {"name": "FINETUNE_WORK_DIR", "value": "/var/lib/finetune"},
                        {"name": "FINETUNE_NODE_INDEX", "value": "1"},
                        {"name": "FINETUNE_ROLE", "value": "trainer"},
                        {"name": "FINETUNE_PORT", "value": "8080"},
                        {"name": "FINETUNE_TERMINATION_LOG", "value": "/dev/termination-log"},
                        {"name": "FINETUNE_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "FINETUNE_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    ],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": "http"},
                        "periodSeconds": 1,
                        "timeoutSeconds": 1,
                        "failureThreshold": 1,
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [
                        {"name": "finetune-run", "mountPath": "/etc/finetune/run", "readOnly": True},
                        {"name": "finetune-annotations", "mountPath": "/etc/finetune/annotations", "readOnly": True},
                        {"name": "finetune-work", "mountPath": "/var/lib/finetune"},
                        {"name": "finetune-tmp", "mountPath": "/tmp"},
                        {"name": "finetune-shm", "mountPath": "/dev/shm"},
                    ],
                }
            ],
        },
    }


def test_gpus_and_memory_are_requests_and_limits_and_cpu_is_a_request() -> None:
    spec = {"resources": {"gpusPerNode": 8, "gpuResource": "amd.com/gpu", "cpu": "16", "memory": "64Gi"}}
    limits = {"memory": "64Gi", "amd.com/gpu": "8"}
    assert container_of(build(spec))["resources"] == {"requests": limits | {"cpu": "16"}, "limits": limits}


def test_prepare_pod_asks_for_no_gpu() -> None:
    pod = build({"resources": {"gpusPerNode": 8, "cpu": "16"}}, role="prepare")
    assert pod["metadata"]["name"] == "spam-0a1b2-prepare-0"
    assert container_of(pod)["resources"] == {"requests": {"cpu": "16"}}
    assert {"name": "FINETUNE_ROLE", "value": "prepare"} in container_of(pod)["env"]


def test_storage_secret_comes_before_the_users_own_variables() -> None:
    spec = {
        "storage": {"secretRef": {"name": "bucket"}},
        "pod": {"envFrom": [{"configMapRef": {"name": "more"}}], "env": [{"name": "HF_HOME", "value": "/tmp/hf"}]},
    }
    container = container_of(build(spec))
    assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}, {"configMapRef": {"name": "more"}}]
    assert container["env"][-1] == {"name": "HF_HOME", "value": "/tmp/hf"}


def test_claims_are_mounted_once_and_only_the_destination_may_be_written() -> None:
    spec = {
        "model": {"source": "pvc://models/minilm"},
        "data": {"train": {"source": "pvc://work/train.jsonl"}, "test": {"source": "pvc://models/test.jsonl"}},
        "output": {"destination": "pvc://work/out"},
    }
    pod = build(spec)
    assert pod["spec"]["volumes"][-2:] == [
        {"name": "finetune-claim-0", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "finetune-claim-1", "persistentVolumeClaim": {"claimName": "work"}},
    ]
    assert container_of(pod)["volumeMounts"][-2:] == [
        {"name": "finetune-claim-0", "mountPath": "/mnt/finetune/models", "readOnly": True},
        {"name": "finetune-claim-1", "mountPath": "/mnt/finetune/work"},
    ]


def test_users_wishes_are_merged_and_our_labels_win() -> None:
    wishes: dict[str, Any] = {
        "image": "mine:2",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpread": [{"maxSkew": 1}],
        "priorityClassName": "high",
        "schedulerName": "volcano",
        "runtimeClassName": "nvidia",
        "serviceAccountName": "identity",
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
        "labels": {"team": "search", "app.kubernetes.io/managed-by": "other"},
        "annotations": {"note": "x"},
        "terminationGracePeriodSeconds": 5,
    }
    pod = build({"pod": wishes}, TrainerDefaults("trainer:1", "IfNotPresent", "trainer"))
    spec = pod["spec"]
    assert container_of(pod)["image"] == "mine:2"
    assert container_of(pod)["imagePullPolicy"] == "IfNotPresent"
    assert {name: spec[name] for name in spec if name not in ("containers", "securityContext", "restartPolicy")} == {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "tolerations": [*build()["spec"]["tolerations"], {"key": "gpu", "operator": "Exists"}],
        "volumes": [*build()["spec"]["volumes"], {"name": "cache", "emptyDir": {}}],
        "serviceAccountName": "identity",
        "nodeSelector": {"pool": "gpu"},
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "priorityClassName": "high",
        "schedulerName": "volcano",
        "runtimeClassName": "nvidia",
        "imagePullSecrets": [{"name": "registry"}],
    }
    assert container_of(pod)["volumeMounts"][-1] == {"name": "cache", "mountPath": "/cache"}
    assert pod["metadata"]["annotations"] == SCRAPING | {"note": "x"}
    assert pod["metadata"]["labels"] | LABELS == pod["metadata"]["labels"]
    assert pod["metadata"]["labels"]["team"] == "search"


def make_away(*hosts: str) -> dict[str, Any]:
    field = {"key": "metadata.name", "operator": "NotIn", "values": list(hosts)}
    return {"weight": 100, "preference": {"matchFields": [field]}}


def test_pods_go_to_nodes_that_failed_before_only_where_no_other_is_left() -> None:
    assert build(avoided_nodes=("a", "b"))["spec"]["affinity"] == {
        "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [make_away("a", "b")]}
    }


def test_users_own_affinity_stays_beside_ours() -> None:
    wish = {"weight": 1, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]}
    node = {
        "requiredDuringSchedulingIgnoredDuringExecution": required,
        "preferredDuringSchedulingIgnoredDuringExecution": [wish],
    }
    affinity = {"podAntiAffinity": {}, "nodeAffinity": node}
    pod = build({"pod": {"affinity": affinity}}, avoided_nodes=("a",))
    assert pod["spec"]["affinity"] == {
        "podAntiAffinity": {},
        "nodeAffinity": node | {"preferredDuringSchedulingIgnoredDuringExecution": [wish, make_away("a")]},
    }


def test_trainers_service_account_of_the_installation_is_the_default() -> None:
    assert build(defaults=TrainerDefaults(service_account="trainer"))["spec"]["serviceAccountName"] == "trainer"
