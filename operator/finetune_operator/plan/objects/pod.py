"""The pod of one node, under the restricted pod standard and without Kubernetes credentials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from finetune_contract import names
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJob, FineTuneJobSpec
from finetune_operator.plan.objects.defaults import TrainerDefaults
from finetune_operator.plan.objects.meta import make_labels, make_owner
from finetune_operator.plan.objects.placement import make_affinity
from finetune_operator.plan.objects.volumes import make_volumes

COMMAND: Final = ("python3", "-m", "finetune_trainer.agent")
NODE_LOSS_SECONDS: Final = 20
"""How long a pod stays on a node that does not answer; Kubernetes' own default is 300."""
USER_ID: Final = 65532
TERMINATION_LOG: Final = "/dev/termination-log"
"""Kubernetes' default terminationMessagePath."""
_SCRAPING: Final = {
    names.ANNOTATION_SCRAPE: "true",
    names.ANNOTATION_SCRAPE_PORT: str(names.AGENT_PORT),
    names.ANNOTATION_SCRAPE_PATH: names.PATH_METRICS,
}


def make_pod(
    job: FineTuneJob,
    resolved: Resolved,
    defaults: TrainerDefaults,
    *,
    role: str = names.ROLE_TRAINER,
    node_index: int = 0,
    incarnation: int = 0,
    avoided_nodes: Sequence[str] = (),
) -> dict[str, Any]:
    """The pod of one node of the job; role prepare asks for no GPU. It goes to one of `avoided_nodes` last."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _make_metadata(job, role, node_index, incarnation),
        "spec": _make_spec(job, resolved, defaults, role, node_index)
        | _make_placement(job.spec, defaults, avoided_nodes),
    }


def _make_metadata(job: FineTuneJob, role: str, node_index: int, incarnation: int) -> dict[str, Any]:
    pod = job.spec.pod
    labels = {
        **(pod.labels or {}),
        **make_labels(job),
        names.LABEL_ROLE: role,
        names.LABEL_NODE_INDEX: str(node_index),
        names.LABEL_INCARNATION: str(incarnation),
    }
    metadata = {
        "name": names.pod_name(job.metadata.name, job.metadata.uid, role, node_index, incarnation),
        "namespace": job.metadata.namespace,
        "labels": labels,
        "ownerReferences": [make_owner(job)],
    }
    return metadata | {"annotations": {**_SCRAPING, **(pod.annotations or {})}}


def _make_spec(
    job: FineTuneJob,
    resolved: Resolved,
    defaults: TrainerDefaults,
    role: str,
    node_index: int,
) -> dict[str, Any]:
    pod = job.spec.pod
    mounted = make_volumes(job, resolved.shared_memory_bytes)
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [*_make_tolerations(), *(each.to_data() for each in pod.tolerations)],
        "volumes": [*(each.volume for each in mounted), *(each.to_data() for each in pod.volumes)],
        "containers": [_make_container(job, defaults, role, node_index, [each.mount for each in mounted])],
    }


def _make_placement(spec: FineTuneJobSpec, defaults: TrainerDefaults, avoided_nodes: Sequence[str]) -> dict[str, Any]:
    pod = spec.pod
    placement: dict[str, Any] = {
        "serviceAccountName": pod.service_account_name or defaults.service_account,
        "nodeSelector": pod.node_selector,
        "affinity": make_affinity(pod.affinity, avoided_nodes),
        "topologySpreadConstraints": list(pod.topology_spread),
        "priorityClassName": pod.priority_class_name,
        "schedulerName": pod.scheduler_name,
        "runtimeClassName": pod.runtime_class_name,
        "imagePullSecrets": [secret.to_data() for secret in pod.image_pull_secrets],
    }
    return {field: value for field, value in placement.items() if value}


def _make_container(
    job: FineTuneJob, defaults: TrainerDefaults, role: str, node_index: int, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    pod = job.spec.pod
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": pod.image or defaults.image,
        "imagePullPolicy": defaults.image_pull_policy,
        "command": list(COMMAND),
        "env": [*_make_env(role, node_index), *(each.to_data() for each in pod.env)],
        "envFrom": _make_env_from(job.spec),
        "ports": [{"name": names.AGENT_PORT_NAME, "containerPort": names.AGENT_PORT}],
        "readinessProbe": {
            "httpGet": {"path": names.PATH_READY, "port": names.AGENT_PORT_NAME},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 1,
        },
        "resources": _make_resources(job.spec, role),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [*mounts, *(each.to_data() for each in pod.volume_mounts)],
    }
    return {field: value for field, value in container.items() if value}


def _make_env(role: str, node_index: int) -> list[dict[str, Any]]:
    values = {
        names.ENV_RUN_CONFIG: f"{names.RUN_CONFIG_DIR}/{names.RUN_CONFIG_FILE}",
        names.ENV_ANNOTATIONS_DIR: names.ANNOTATIONS_DIR,
        names.ENV_WORK_DIR: names.WORK_DIR,
        names.ENV_NODE_INDEX: str(node_index),
        names.ENV_ROLE: role,
        names.ENV_PORT: str(names.AGENT_PORT),
        names.ENV_TERMINATION_LOG: TERMINATION_LOG,
    }
    fields = {names.ENV_POD_IP: "status.podIP", names.ENV_NODE_NAME: "spec.nodeName"}
    return [
        *({"name": name, "value": value} for name, value in values.items()),
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
    ]


def _make_env_from(spec: FineTuneJobSpec) -> list[dict[str, Any]]:
    storage = [{"secretRef": spec.storage.secret_ref.to_data()}] if spec.storage else []
    return [*storage, *(each.to_data() for each in spec.pod.env_from)]


def _make_resources(spec: FineTuneJobSpec, role: str) -> dict[str, Any]:
    resources = spec.resources
    limits: dict[str, str] = {"memory": resources.memory} if resources.memory else {}
    if role == names.ROLE_TRAINER and resources.gpus_per_node:
        limits[resources.gpu_resource] = str(resources.gpus_per_node)
    requests = limits | ({"cpu": resources.cpu} if resources.cpu else {})
    return {kind: amounts for kind, amounts in {"requests": requests, "limits": limits}.items() if amounts}


def _make_tolerations() -> list[dict[str, Any]]:
    return [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": NODE_LOSS_SECONDS,
        }
        for taint in ("not-ready", "unreachable")
    ]
