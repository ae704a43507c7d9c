"""`spec.resources` and `spec.pod`: how many nodes and processes, and what the pods look like."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.text import FreeObject, Identifier, LongText, Quantity, ShortText, StringMap

NodeCount = Annotated[int, Field(ge=1, le=1024)]


class ElasticSpec(Document):
    """How many nodes the job may run on when some are missing."""

    min_nodes: NodeCount
    """Fewest nodes the job runs on."""
    max_nodes: NodeCount
    """Most nodes the job grows to."""
    patience_seconds: Annotated[int, Field(ge=0, le=86_400)] = 120
    """How long a missing node is awaited before the job goes on with fewer."""

    rules = (
        Rule(
            cel="self.minNodes <= self.maxNodes",
            message="resources.elastic.minNodes is above maxNodes: lower minNodes or raise maxNodes",
            holds=lambda elastic: elastic.min_nodes <= elastic.max_nodes,
        ),
    )


class ResourcesSpec(Document):
    """Nodes, GPUs and processes."""

    nodes: NodeCount = 1
    """Trainer pods, one a node."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 0
    """GPUs of each pod; one worker process a GPU."""
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """Worker processes of each pod when it has no GPU; 1 when absent."""
    cpu: Quantity | None = None
    """CPU request of each pod, e.g. "8"."""
    memory: Quantity | None = None
    """Memory request and limit of each pod, e.g. "64Gi"."""
    gpu_resource: ShortText = "nvidia.com/gpu"
    """Name of the GPU resource in the cluster."""
    elastic: ElasticSpec | None = None
    """Bounds of the node count when nodes come and go."""

    rules = (
        Rule(
            cel="!has(self.processesPerNode) || !has(self.gpusPerNode) || self.gpusPerNode == 0",
            message="resources.processesPerNode is for pods without GPUs: one process a GPU is started; remove it",
            holds=lambda resources: resources.processes_per_node is None or resources.gpus_per_node == 0,
        ),
        Rule(
            cel="!has(self.elastic) || ((has(self.nodes) ? self.nodes : 1) >= self.elastic.minNodes"
            " && (has(self.nodes) ? self.nodes : 1) <= self.elastic.maxNodes)",
            message="resources.nodes must lie between elastic.minNodes and elastic.maxNodes: change one of them",
            holds=lambda resources: (
                resources.elastic is None
                or resources.elastic.min_nodes <= resources.nodes <= resources.elastic.max_nodes
            ),
        ),
    )

    @property
    def workers_per_node(self) -> int:
        """Worker processes in each pod."""
        return self.gpus_per_node or self.processes_per_node or 1


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


class PodSpec(Document):
    """What the trainer pods look like beyond resources; the names are those of a Kubernetes pod."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Trainer image; the one the operator was installed with when absent."""
    image_pull_secrets: Annotated[tuple[ObjectReference, ...], Field(max_length=16)] = ()
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
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64)] = ()
    """Environment variables."""
    env_from: Annotated[tuple[EnvFromSource, ...], Field(max_length=16)] = ()
    """Secrets and ConfigMaps whose keys become environment variables."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=32)] = ()
    """Further volumes."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32)] = ()
    """Where they appear."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm; derived when absent."""
    labels: StringMap | None = None
    """Labels of the pods."""
    annotations: StringMap | None = None
    """Annotations of the pods."""
    termination_grace_period_seconds: Annotated[int, Field(ge=1, le=86_400)] = 120
    """Time for a checkpoint when a pod is asked to go."""
