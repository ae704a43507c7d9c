"""The NetworkPolicy of a job: who may talk to its pods. What they may reach is not restricted.

One policy holds for all pods of the job, present and future. The kubelet's probes need no rule: Kubernetes lets a node
talk to its own pods whatever policies say.
"""

from __future__ import annotations

from typing import Any

from finetune_contract import names
from finetune_contract.spec import FineTuneJob
from finetune_operator.plan.objects.defaults import NetworkAccess
from finetune_operator.plan.objects.meta import make_labels, make_owner


def make_network_policy(job: FineTuneJob, access: NetworkAccess) -> dict[str, Any]:
    """The job's own pods on every port; the operator and the peers of the installation on the agents' port."""
    members = {names.LABEL_JOB_UID: job.metadata.uid}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": names.network_policy_name(job.metadata.name, job.metadata.uid),
            "namespace": job.metadata.namespace,
            "labels": make_labels(job),
            "ownerReferences": [make_owner(job)],
        },
        "spec": {
            "podSelector": {"matchLabels": members},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": members}}]},
                {
                    "from": [_make_operator_peer(access), *access.peers],
                    "ports": [{"protocol": "TCP", "port": names.AGENT_PORT}],
                },
            ],
        },
    }


def _make_operator_peer(access: NetworkAccess) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {names.LABEL_NAMESPACE_NAME: access.operator_namespace}},
        "podSelector": {"matchLabels": dict(access.operator_labels)},
    }
