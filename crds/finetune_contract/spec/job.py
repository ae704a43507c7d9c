"""`spec` as a whole, and the FineTuneJob around it."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from finetune_contract.document import Document, Rule
from finetune_contract.names import LABEL_QUEUE
from finetune_contract.normalization import normalize
from finetune_contract.spec.columns import make_column_rules
from finetune_contract.spec.data import DataSpec
from finetune_contract.spec.evaluation import EvaluationSpec
from finetune_contract.spec.lifecycle import (
    BudgetSpec,
    CheckpointsSpec,
    FailurePolicySpec,
    LifecycleSpec,
    OutputSpec,
    StorageSpec,
)
from finetune_contract.spec.model import ModelSpec
from finetune_contract.spec.pod import PodSpec
from finetune_contract.spec.resources import ResourcesSpec
from finetune_contract.spec.strategy import StrategySpec
from finetune_contract.spec.task import TaskName
from finetune_contract.spec.training import TrainingSpec

MUTABLE_FIELDS: Final = ("suspend", "budget", "lifecycle.ttlSecondsAfterFinished", "resources.elastic")
"""Paths below spec that may change after the job has started; every other field is immutable then."""


class FineTuneJobSpec(Document):
    """What to train, on what, how, and where the result goes."""

    task: TaskName
    """What the model shall do; decides columns, head, loss and metrics."""
    model: ModelSpec
    """The pre-trained model."""
    data: DataSpec
    """The rows, and how they are prepared."""
    strategy: StrategySpec = StrategySpec()
    """How much of the model is trained, and by which method."""
    training: TrainingSpec = TrainingSpec()
    """Hyper-parameters."""
    evaluation: EvaluationSpec = EvaluationSpec()
    """How the model is judged, and what it must reach to be published."""
    output: OutputSpec
    """Where results go."""
    resources: ResourcesSpec = ResourcesSpec()
    """Nodes, GPUs and processes."""
    pod: PodSpec = PodSpec()
    """What the trainer pods look like."""
    suspend: bool = False
    """true: stop with a checkpoint and give the nodes back; false: go on from there."""
    lifecycle: LifecycleSpec = LifecycleSpec()
    """Limits of the job's life."""
    failure_policy: FailurePolicySpec = FailurePolicySpec()
    """What happens when training goes wrong without crashing."""
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    """Resume points and how many are kept."""
    budget: BudgetSpec | None = None
    """What the job may cost."""
    storage: StorageSpec | None = None
    """Access to the object storage."""

    rules = (
        *make_column_rules(),
        Rule(
            cel="!has(self.training) || !has(self.training.precision) || self.training.precision != 'fp16'"
            " || (has(self.resources) && has(self.resources.gpusPerNode) && self.resources.gpusPerNode > 0)",
            message="training.precision: fp16 needs GPUs; set resources.gpusPerNode, or precision: fp32 or bf16",
            holds=lambda spec: spec.training.precision != "fp16" or spec.resources.gpus_per_node > 0,
            field="training.precision",
        ),
        Rule(
            cel="!has(self.training) || !has(self.training.packing) || !self.training.packing"
            " || self.task == 'text-generation'",
            message="training.packing is for task text-generation; remove it",
            holds=lambda spec: not spec.training.packing or spec.task == "text-generation",
            field="training.packing",
        ),
        Rule(
            cel="!has(self.strategy) || !has(self.strategy.method) || self.strategy.method != 'qlora'"
            " || (has(self.resources) && has(self.resources.gpusPerNode) && self.resources.gpusPerNode > 0)",
            message="strategy.method: qlora needs GPUs; set resources.gpusPerNode, or method: lora",
            holds=lambda spec: spec.strategy.method != "qlora" or spec.resources.gpus_per_node > 0,
            field="strategy.method",
        ),
        Rule(
            cel="!has(self.model.revision) || self.model.revision == 'main' || self.model.source.startsWith('hf://')",
            message="model.revision is for hf:// sources; remove it or name a model of the Hub",
            holds=lambda spec: spec.model.revision == "main" or spec.model.source.startswith("hf://"),
            field="model.revision",
        ),
        Rule(
            cel="!self.model.source.startsWith('http')",
            message="model.source: a model is a folder and cannot be read over http; use hf://, s3://, gs://, az://, pvc://",
            holds=lambda spec: not spec.model.source.startswith("http"),
            field="model.source",
        ),
    )


class ObjectMeta(Document):
    """The part of metadata that we read; the rest is kept as it is."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", alias_generator=to_camel, populate_by_name=True)

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
    """Name of the job: RFC 1035, at most 63 characters, since the names of its objects derive from it."""
    namespace: str = "default"
    uid: str = ""
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    resource_version: str = ""


class FineTuneJob(Document):
    """A user's FineTuneJob as written (without status)."""

    api_version: Literal["finetune.dev/v1alpha1"]
    kind: Literal["FineTuneJob"]
    metadata: ObjectMeta
    spec: FineTuneJobSpec
    status: dict[str, Any] | None = None

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Validate a job as read from YAML or JSON, exactly as the API server would."""
        return super().from_data(normalize(data, cls))

    @property
    def queue(self) -> str | None:
        """Kueue's local queue, by Kueue's own label."""
        return self.metadata.labels.get(LABEL_QUEUE)
