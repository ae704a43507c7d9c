"""What trainer pods get where the job says nothing: chosen once, when the operator is installed."""

from dataclasses import dataclass

from finetune_operator.version import VERSION


@dataclass(frozen=True, slots=True)
class TrainerDefaults:
    """Installation-wide defaults of trainer pods."""

    image: str = f"ghcr.io/finetune-operator/trainer:{VERSION}"
    image_pull_policy: str | None = None
    """Kubernetes' own default when absent."""
    service_account: str | None = None
    """The namespace's default when absent; its token is never mounted."""
