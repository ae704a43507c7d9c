"""Every value that the user left out and that can be known without data and model, each with its reason.

Shown by `finetune plan` and in status.resolved. Must not look at data, model or cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final, Literal, NamedTuple

from pydantic.alias_generators import to_camel

from finetune_contract.run import JobIdentity, Resolved, RunConfig
from finetune_contract.spec import FineTuneJob, FineTuneJobSpec
from finetune_contract.spec.columns import resolve_columns
from finetune_operator.plan.metric_order import choose_metric, is_greater_better
from finetune_operator.plan.quantities import parse_bytes
from finetune_operator.version import VERSION

DEFAULT_EPOCHS: Final = 3.0
LEARNING_RATE_FULL: Final = 2e-5
LEARNING_RATE_FEW_WEIGHTS: Final = 2e-4
MICRO_BATCH_MAX: Final = 16
MICRO_BATCH_MAX_GENERATIVE: Final = 4
SHARED_MEMORY_PER_WORKER: Final = 1 << 30
_GENERATIVE: Final = ("text-generation", "summarization", "translation", "image-text-to-text")


class Derived(NamedTuple):
    """A value and why it is so."""

    value: object
    reason: str


def resolve(job: FineTuneJob) -> Resolved:
    """Derive what the job does not say."""
    derived = {field: derive(job.spec) for field, derive in _RULES.items()}
    return Resolved.model_validate(
        {field: each.value for field, each in derived.items()}
        | {"reasons": {to_camel(field): each.reason for field, each in derived.items()}}
    )


def build_run_config(job: FineTuneJob, resolved: Resolved | None = None) -> RunConfig:
    """The whole task of the job's trainer pods; the uid is empty in local runs.

    `resolved` is what an earlier look at the same job made of it, where there was one.
    """
    metadata = job.metadata
    return RunConfig(
        job=JobIdentity(namespace=metadata.namespace, name=metadata.name, uid=metadata.uid),
        spec=job.spec,
        resolved=resolved or resolve(job),
        program=VERSION,
    )


def _world_size(spec: FineTuneJobSpec) -> Derived:
    nodes, workers = spec.resources.nodes, spec.resources.workers_per_node
    return Derived(nodes * workers, f"resources.nodes {nodes} x worker processes of each {workers}")


def _nodes(spec: FineTuneJobSpec) -> Derived:
    return Derived(spec.resources.nodes, "resources.nodes")


def _workers_per_node(spec: FineTuneJobSpec) -> Derived:
    resources = spec.resources
    if resources.gpus_per_node:
        return Derived(resources.workers_per_node, "resources.gpusPerNode: one worker process a GPU")
    if resources.processes_per_node:
        return Derived(resources.workers_per_node, "resources.processesPerNode")
    return Derived(resources.workers_per_node, "one worker process on a node without GPUs")


def _device(spec: FineTuneJobSpec) -> Derived:
    if spec.resources.gpus_per_node:
        return Derived("cuda", "resources.gpusPerNode is above 0")
    return Derived("cpu", "resources.gpusPerNode is 0")


def _batch_size(spec: FineTuneJobSpec) -> Derived:
    return Derived(spec.training.batch_size, "training.batchSize, over all processes")


def _rows_per_worker(spec: FineTuneJobSpec) -> int:
    return ceil(spec.training.batch_size / (spec.resources.nodes * spec.resources.workers_per_node))


def _micro_batch(spec: FineTuneJobSpec) -> int:
    limit = MICRO_BATCH_MAX_GENERATIVE if spec.task in _GENERATIVE else MICRO_BATCH_MAX
    return spec.training.micro_batch_size or min(_rows_per_worker(spec), limit)


def _micro_batch_size(spec: FineTuneJobSpec) -> Derived:
    if spec.training.micro_batch_size:
        return Derived(spec.training.micro_batch_size, "training.microBatchSize")
    rows, micro = _rows_per_worker(spec), _micro_batch(spec)
    if micro < rows:
        return Derived(micro, f"{rows} rows a process in one step; at most {micro} at a time for {spec.task}")
    return Derived(micro, f"{rows} rows a process in one step fit at once")


def _gradient_accumulation_steps(spec: FineTuneJobSpec) -> Derived:
    rows, micro = _rows_per_worker(spec), _micro_batch(spec)
    return Derived(ceil(rows / micro), f"{rows} rows a process in micro-batches of {micro}")


def _evaluation_batch_size(spec: FineTuneJobSpec) -> Derived:
    if spec.evaluation.batch_size:
        return Derived(spec.evaluation.batch_size, "evaluation.batchSize")
    return Derived(2 * _micro_batch(spec), "twice the micro-batch: no gradients are kept")


def _epochs(spec: FineTuneJobSpec) -> Derived:
    if spec.training.epochs is not None:
        return Derived(spec.training.epochs, "training.epochs")
    if spec.training.max_steps is not None:
        return Derived(None, "training.maxSteps ends the training")
    return Derived(DEFAULT_EPOCHS, "default: neither training.epochs nor training.maxSteps is set")


def _max_steps(spec: FineTuneJobSpec) -> Derived:
    if spec.training.max_steps is not None:
        return Derived(spec.training.max_steps, "training.maxSteps")
    return Derived(None, "the epochs end the training")


def _learning_rate(spec: FineTuneJobSpec) -> Derived:
    if spec.training.learning_rate is not None:
        return Derived(spec.training.learning_rate, "training.learningRate")
    if spec.strategy.method in ("full", "partial"):
        return Derived(LEARNING_RATE_FULL, f"default of strategy {spec.strategy.method}: weights of the model itself")
    return Derived(LEARNING_RATE_FEW_WEIGHTS, f"default of strategy {spec.strategy.method}: few new weights")


def _precision(spec: FineTuneJobSpec) -> Derived:
    if spec.training.precision is not None:
        return Derived(spec.training.precision, "training.precision")
    if spec.resources.gpus_per_node:
        return Derived("bf16", "default on GPUs")
    return Derived("fp32", "default on CPUs")


def _zero_stage(spec: FineTuneJobSpec) -> Derived:
    if spec.training.deepspeed.zero_stage is not None:
        return Derived(spec.training.deepspeed.zero_stage, "training.deepspeed.zeroStage")
    if spec.resources.nodes * spec.resources.workers_per_node == 1:
        return Derived(0, "one process has nobody to share with")
    return Derived(2, "several processes share optimizer state and gradients")


def _metric(spec: FineTuneJobSpec) -> Derived:
    if spec.evaluation.metric is not None:
        return Derived(spec.evaluation.metric, "evaluation.metric")
    return Derived(choose_metric(spec.task), f"default of task {spec.task}")


def _greater_is_better(spec: FineTuneJobSpec) -> Derived:
    metric = spec.evaluation.metric or choose_metric(spec.task)
    better = is_greater_better(metric)
    return Derived(better, f"a {'higher' if better else 'lower'} {metric} is a better model")


def _evaluate_every_steps(spec: FineTuneJobSpec) -> Derived:
    if spec.evaluation.every_steps is not None:
        return Derived(spec.evaluation.every_steps, "evaluation.everySteps")
    return Derived(None, "evaluations are counted in epochs")


def _evaluate_every_epochs(spec: FineTuneJobSpec) -> Derived:
    if spec.evaluation.every_epochs is not None:
        return Derived(spec.evaluation.every_epochs, "evaluation.everyEpochs")
    if spec.evaluation.every_steps is not None:
        return Derived(None, "evaluations are counted in steps")
    return Derived(1.0, "default: after every epoch")


def _prepare(spec: FineTuneJobSpec) -> Derived:
    if spec.data.prepare != "auto":
        return Derived(spec.data.prepare, "data.prepare")
    where: Literal["pod", "inline"] = "pod" if spec.resources.gpus_per_node else "inline"
    reason = "GPUs do not wait for data" if where == "pod" else "no GPU would have to wait"
    return Derived(where, f"data.prepare auto: {reason}")


def _columns(spec: FineTuneJobSpec) -> Derived:
    columns = resolve_columns(spec)
    named = ", ".join(sorted(set(spec.data.columns.to_data()) & set(columns)))
    return Derived(columns, f"data.columns names {named}" if named else f"the columns' own names in task {spec.task}")


def _shared_memory_bytes(spec: FineTuneJobSpec) -> Derived:
    if spec.pod.shared_memory is not None:
        return Derived(parse_bytes(spec.pod.shared_memory), "pod.sharedMemory")
    if spec.resources.memory is not None:
        return Derived(parse_bytes(spec.resources.memory) // 2, "half of resources.memory, which it counts against")
    workers = spec.resources.workers_per_node
    return Derived(SHARED_MEMORY_PER_WORKER * workers, f"1 GiB a worker process, of which a node has {workers}")


_RULES: Final[dict[str, Callable[[FineTuneJobSpec], Derived]]] = {
    "world_size": _world_size,
    "nodes": _nodes,
    "workers_per_node": _workers_per_node,
    "device": _device,
    "batch_size": _batch_size,
    "micro_batch_size": _micro_batch_size,
    "gradient_accumulation_steps": _gradient_accumulation_steps,
    "evaluation_batch_size": _evaluation_batch_size,
    "epochs": _epochs,
    "max_steps": _max_steps,
    "learning_rate": _learning_rate,
    "precision": _precision,
    "zero_stage": _zero_stage,
    "metric": _metric,
    "greater_is_better": _greater_is_better,
    "evaluate_every_steps": _evaluate_every_steps,
    "evaluate_every_epochs": _evaluate_every_epochs,
    "prepare": _prepare,
    "columns": _columns,
    "shared_memory_bytes": _shared_memory_bytes,
}
