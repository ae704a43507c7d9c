"""What trainer pods get where the job says nothing: chosen once, when the operator is installed."""

from dataclasses import dataclass
from typing import Any

from finetune_operator.version import VERSION


@dataclass(frozen=True, slots=True)
class NetworkAccess:
    """Who may reach trainer pods besides the pods of the same job."""

    operator_namespace: str
    operator_labels: dict[str, str]
    """Labels of the operator's pods."""
    peers: tuple[dict[str, Any], ...] = ()
    """NetworkPolicyPeers that may read the agents' answers and metrics too."""


@dataclass(frozen=True, slots=True)
class TrainerDefaults:
    """Installation-wide defaults of trainer pods."""

    image: str = f"ghcr.io/finetune-operator/trainer:{VERSION}"
    image_pull_policy: str | None = None
    """Kubernetes' own default when absent."""
    service_account: str | None = None
    """The namespace's default when absent; its token is never mounted."""
    network: NetworkAccess | None = None
    """Each job gets a NetworkPolicy for these; None: it gets none."""
