"""`spec.resources`: how many nodes, GPUs and processes."""

from typing import Annotated

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.text import Quantity, ShortText

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
            field="minNodes",
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
            field="processesPerNode",
        ),
        Rule(
            cel="!has(self.elastic) || ((has(self.nodes) ? self.nodes : 1) >= self.elastic.minNodes"
            " && (has(self.nodes) ? self.nodes : 1) <= self.elastic.maxNodes)",
            message="resources.nodes must lie between elastic.minNodes and elastic.maxNodes: change one of them",
            holds=lambda resources: (
                resources.elastic is None
                or resources.elastic.min_nodes <= resources.nodes <= resources.elastic.max_nodes
            ),
            field="nodes",
        ),
    )

    @property
    def workers_per_node(self) -> int:
        """Worker processes in each pod."""
        return self.gpus_per_node or self.processes_per_node or 1
