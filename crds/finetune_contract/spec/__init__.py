"""What a user writes: one file a part of `spec`."""

from finetune_contract.spec.data import Columns, DataSource, DataSpec
from finetune_contract.spec.evaluation import EvaluationSpec, GateSpec
from finetune_contract.spec.job import FineTuneJob, FineTuneJobSpec, ObjectMeta
from finetune_contract.spec.model import ModelSpec
from finetune_contract.spec.pod import PodSpec
from finetune_contract.spec.resources import ResourcesSpec
from finetune_contract.spec.strategy import LoraOptions, StrategySpec
from finetune_contract.spec.task import TaskName
from finetune_contract.spec.training import TrainingSpec

__all__ = [
    "Columns",
    "DataSource",
    "DataSpec",
    "EvaluationSpec",
    "FineTuneJob",
    "FineTuneJobSpec",
    "GateSpec",
    "LoraOptions",
    "ModelSpec",
    "ObjectMeta",
    "PodSpec",
    "ResourcesSpec",
    "StrategySpec",
    "TaskName",
    "TrainingSpec",
]
