"""`spec.pod`: what the trainer pods look like beyond resources, by the names of a Kubernetes pod."""

from typing import Annotated, Final, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.names import ANNOTATIONS_DIR, GROUP, PVC_DIR, RUN_CONFIG_DIR, WORK_DIR
from finetune_contract.text import FreeObject, Identifier, KeyedBy, LongText, Quantity, ShortText, StringMap

RESERVED_PATHS: Final = (RUN_CONFIG_DIR, ANNOTATIONS_DIR, WORK_DIR, PVC_DIR, "/dev/shm", "/tmp")
"""Folders of the container that the operator mounts itself."""


class ObjectReference(Document):
    """Name of an object in the job's namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The object's name."""


class EnvVar(Document):
    """One environment variable, as in a container."""

    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")]
    """The variable's name; names that begin with FINETUNE_ are ours."""
    value: LongText | None = None
    """Its value."""
    value_from: FreeObject | None = None
    """Where its value comes from: secretKeyRef, configMapKeyRef, fieldRef, resourceFieldRef."""

    rules = (
        Rule(
            cel="!self.name.startsWith('FINETUNE_')",
            message="pod.env: names that begin with FINETUNE_ are reserved; choose another name",
            holds=lambda variable: not variable.name.startswith("FINETUNE_"),
            field="name",
        ),
        Rule(
            cel="has(self.value) != has(self.valueFrom)",
            message="pod.env: a variable needs either value or valueFrom; set one of them",
            holds=lambda variable: (variable.value is None) != (variable.value_from is None),
        ),
    )


class EnvFromSource(Document):
    """All variables of a Secret or ConfigMap."""

    prefix: ShortText | None = None
    """Put before each name."""
    secret_ref: ObjectReference | None = None
    """The Secret."""
    config_map_ref: ObjectReference | None = None
    """The ConfigMap."""

    rules = (
        Rule(
            cel="has(self.secretRef) != has(self.configMapRef)",
            message="pod.envFrom: an entry names one Secret or one ConfigMap; set either secretRef or configMapRef",
            holds=lambda source: (source.secret_ref is None) != (source.config_map_ref is None),
        ),
    )


class Toleration(Document):
    """A toleration, as in a pod."""

    key: Annotated[str, Field(max_length=316)] | None = None
    """The taint's key; all keys when absent."""
    operator: Literal["Exists", "Equal"] | None = None
    """How value is compared; Equal when absent."""
    value: Annotated[str, Field(max_length=63)] | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; all effects when absent."""
    toleration_seconds: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How long a NoExecute taint is tolerated."""

    rules = (
        Rule(
            cel="(has(self.key) && self.key != '') || (has(self.operator) && self.operator == 'Exists')",
            message="pod.tolerations: without a key every taint is meant; set operator: Exists, or a key",
            holds=lambda toleration: bool(toleration.key) or toleration.operator == "Exists",
            field="key",
        ),
        Rule(
            cel="!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            message="pod.tolerations: operator Exists compares no value; remove value or set operator: Equal",
            holds=lambda toleration: not toleration.value or toleration.operator in (None, "Equal"),
            field="value",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            message="pod.tolerations: tolerationSeconds is for effect NoExecute; set that effect or remove it",
            holds=lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
            field="tolerationSeconds",
        ),
    )


class Volume(Document):
    """A volume of the pods. hostPath is refused: it would open the node to whoever may create a job."""

    name: Identifier
    """The volume's name."""
    config_map: FreeObject | None = None
    """A ConfigMap."""
    secret: FreeObject | None = None
    """A Secret."""
    persistent_volume_claim: FreeObject | None = None
    """A claim of the namespace."""
    empty_dir: FreeObject | None = None
    """Scratch space."""
    projected: FreeObject | None = None
    """Several sources in one folder."""
    csi: FreeObject | None = None
    """An inline CSI volume."""
    ephemeral: FreeObject | None = None
    """A claim that lives as long as the pod."""
    nfs: FreeObject | None = None
    """An NFS share."""

    rules = (
        Rule(
            cel="[has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), has(self.emptyDir),"
            " has(self.projected), has(self.csi), has(self.ephemeral), has(self.nfs)].exists_one(given, given)",
            message="pod.volumes: a volume has exactly one kind; set one of configMap, secret, persistentVolumeClaim,"
            " emptyDir, projected, csi, ephemeral, nfs",
            holds=lambda volume: len(volume.to_data()) == 2,
        ),
    )


class VolumeMount(Document):
    """Where a volume appears in the container."""

    name: Identifier
    """The volume's name."""
    mount_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Where it appears."""
    sub_path: Annotated[str, Field(max_length=512)] | None = None
    """Folder of the volume that appears."""
    read_only: bool | None = None
    """No writing."""

    rules = (
        Rule(
            cel="self.mountPath.startsWith('/') && !self.mountPath.contains(':')",
            message="pod.volumeMounts: mountPath is an absolute path without a colon; write it from / on",
            holds=lambda mount: mount.mount_path.startswith("/") and ":" not in mount.mount_path,
            field="mountPath",
        ),
        Rule(
            cel=f"![{', '.join(repr(path) for path in RESERVED_PATHS)}]"
            ".exists(path, self.mountPath == path || self.mountPath.startsWith(path + '/'))",
            message=f"pod.volumeMounts: {', '.join(RESERVED_PATHS)} are mounted already; choose another mountPath",
            holds=lambda mount: not any(f"{mount.mount_path}/".startswith(f"{path}/") for path in RESERVED_PATHS),
            field="mountPath",
        ),
    )


def _make_own_keys_rule(field: str) -> Rule:
    return Rule(
        cel=f"!has(self.{field}) || !self.{field}.exists(key, key.startsWith('{GROUP}/'))",
        message=f"pod.{field}: keys that begin with {GROUP}/ are the operator's own; choose another prefix",
        holds=lambda pod: not any(key.startswith(f"{GROUP}/") for key in getattr(pod, field) or {}),
        field=field,
    )


class PodSpec(Document):
    """What the trainer pods look like beyond resources; the names are those of a Kubernetes pod."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Trainer image; the one the operator was installed with when absent."""
    image_pull_secrets: Annotated[tuple[ObjectReference, ...], Field(max_length=16), KeyedBy("name")] = ()
    """Secrets for the registry."""
    node_selector: StringMap | None = None
    """Labels that the nodes must carry."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that the pods tolerate."""
    affinity: FreeObject | None = None
    """Affinity, as in a pod."""
    topology_spread: Annotated[tuple[FreeObject, ...], Field(max_length=8)] = ()
    """topologySpreadConstraints, as in a pod."""
    priority_class_name: Identifier | None = None
    """Priority class."""
    scheduler_name: Identifier | None = None
    """Scheduler."""
    runtime_class_name: Identifier | None = None
    """Runtime class."""
    service_account_name: Identifier | None = None
    """Service account (for workload identity); its token is not mounted."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), KeyedBy("name")] = ()
    """Environment variables."""
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=16)] = ()
    """Secrets and ConfigMaps whose keys become environment variables."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32), KeyedBy("name")] = ()
    """Further volumes."""
    volume_mounts: Annotated[
        tuple[VolumeMount, ...], Field(max_length=32), KeyedBy("mount_path", alias="mountPath")
    ] = ()
    """Where they appear."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm; derived when absent."""
    labels: StringMap | None = None
    """Labels of the pods."""
    annotations: StringMap | None = None
    """Annotations of the pods."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """Time for a checkpoint when a pod is asked to go."""

    rules = (
        Rule(
            cel="!has(self.volumeMounts) || self.volumeMounts.all(mount,"
            " has(self.volumes) && self.volumes.exists(volume, volume.name == mount.name))",
            message="pod.volumeMounts: a mount names a volume that is not there; add it to pod.volumes",
            holds=lambda pod: {mount.name for mount in pod.volume_mounts} <= {volume.name for volume in pod.volumes},
            field="volumeMounts",
        ),
        _make_own_keys_rule("labels"),
        _make_own_keys_rule("annotations"),
    )
