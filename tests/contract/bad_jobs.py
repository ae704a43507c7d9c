"""Jobs that nobody may run: what is wrong, which field is blamed, and the words of both validators.

Every one of them is refused by the real API server and by Python (`finetune validate` and the operator). What only
Python can know (a field spelled almost right, a value that this version cannot do yet) is a matter of words, not of
verdict: see test_problems and test_support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contract.make import Data, make_data

_TOO_LONG = "x" * 2000


@dataclass(frozen=True)
class BadJob:
    """One job that both validators refuse."""

    name: str
    data: Data
    field: str
    """The path that both messages name."""
    remedy: str
    """Words of Python's message that say what to do."""
    server: str
    """Words of the API server's message."""


def _bad(name: str, spec: Data, field: str, remedy: str, server: str = "") -> BadJob:
    return BadJob(name, make_data(spec), field, remedy, server or remedy)


def _named(name: str, job_name: str, server: str) -> BadJob:
    return BadJob(name, make_data(name=job_name), "metadata.name", "RFC 1035", server)


def _columns(task: str, **columns: str) -> Data:
    return {"task": task, "data": {"columns": columns}}


def _gate(**gate: Any) -> Data:
    return {"evaluation": {"gate": [gate]}}


def _pod(**pod: Any) -> Data:
    return {"pod": pod}


def _without(*path: str) -> Data:
    change: Any = None
    for name in reversed(path):
        change = {name: change}
    return dict(change)


NAMES = (
    _named("name with a dot", "spam.v2", "must begin with a letter"),
    _named("name that begins with a digit", "2spam", "must begin with a letter"),
    BadJob("name of 64 letters", make_data(name="a" * 64), "metadata.name", "at most 63 characters", "63"),
)

UNKNOWN = (
    _bad("unknown field of spec", {"taks": "x"}, "spec.taks", "did you mean task?", "unknown field"),
    _bad("snake_case", {"training": {"max_steps": 3}}, "spec.training.max_steps", "maxSteps", "unknown field"),
    _bad("wrong case", {"training": {"learningrate": 0.1}}, "spec.training.learningrate", "learningRate", "unknown"),
    _bad("field one level too high", {"learningRate": 0.1}, "spec.learningRate", "spec.training", "unknown field"),
    _bad("hostPath", _pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), "spec.pod.volumes[0].hostPath",
         "remove it", "unknown field"),
)  # fmt: skip

MISSING = (
    _bad("no task", _without("task"), "spec.task", "add it", "Required value"),
    _bad("no model", _without("model"), "spec.model", "add it", "Required value"),
    _bad("no data", _without("data"), "spec.data", "add it", "Required value"),
    _bad("no training rows", {"data": {"train": None}}, "spec.data.train", "add it", "Required value"),
    _bad("no destination", {"output": {"destination": None}}, "spec.output.destination", "add it", "Required value"),
    _bad("secretRef without a name", {"storage": {"secretRef": {}}}, "spec.storage.secretRef.name", "add it",
         "Required value"),
    _bad("budget without a limit", {"budget": {}}, "spec.budget.maxGpuHours", "add it", "Required value"),
)  # fmt: skip

TYPES = (
    _bad("number in quotes", {"training": {"learningRate": "2e-5"}}, "spec.training.learningRate",
         "without quotes", "must be of type number"),
    _bad("half a step", {"training": {"maxSteps": 3.5}}, "spec.training.maxSteps", "a whole number",
         "must be of type integer"),
    _bad("yes in quotes", {"suspend": "yes"}, "spec.suspend", "true or false", "must be of type boolean"),
    _bad("number for a text", {"resources": {"memory": 64}}, "spec.resources.memory", "put it in quotes",
         "must be of type string"),
    _bad("list for a map", {"training": []}, "spec.training", "a map of fields", "must be of type object"),
    _bad("text for a list", {"evaluation": {"gate": "f1"}}, "spec.evaluation.gate", "a list",
         "must be of type array"),
    _bad("number as label value", _pod(labels={"team": 1}), "spec.pod.labels.team", "put it in quotes",
         "must be of type string"),
    _bad("empty entry of a list", {"evaluation": {"gate": [None]}}, "spec.evaluation.gate[0]", "a map of fields",
         "must be of type object"),
)  # fmt: skip

BOUNDS = (
    _bad("learning rate 0", {"training": {"learningRate": 0}}, "spec.training.learningRate", "greater than 0"),
    _bad("learning rate 20", {"training": {"learningRate": 20}}, "spec.training.learningRate", "at most 10",
         "less than or equal to 10"),
    _bad("negative epochs", {"training": {"epochs": -1}}, "spec.training.epochs", "greater than 0"),
    _bad("no rows a step", {"training": {"batchSize": 0}}, "spec.training.batchSize", "at least 1",
         "greater than or equal to 1"),
    _bad("warm-up of the whole", {"training": {"warmupRatio": 1}}, "spec.training.warmupRatio", "less than 1"),
    _bad("ZeRO stage 4", {"training": {"deepspeed": {"zeroStage": 4}}}, "spec.training.deepspeed.zeroStage",
         "at most 3", "less than or equal to 3"),
    _bad("no node", {"resources": {"nodes": 0}}, "spec.resources.nodes", "at least 1", "greater than or equal to 1"),
    _bad("rank 0", {"strategy": {"method": "lora", "lora": {"rank": 0}}}, "spec.strategy.lora.rank", "at least 1",
         "greater than or equal to 1"),
    _bad("URI of 2000 characters", {"model": {"source": f"s3://{_TOO_LONG}"}}, "spec.model.source",
         "at most 1024 characters", "1024"),
    _bad("empty column", _columns("text-classification", text=""), "spec.data.columns.text", "at least 1 character",
         "at least 1"),
    _bad("17 gates", {"evaluation": {"gate": [{"metric": "f1", "min": 0}] * 17}}, "spec.evaluation.gate",
         "at most 16", "at most 16"),
    _bad("no LoRA target", {"strategy": {"method": "lora", "lora": {"targets": []}}}, "spec.strategy.lora.targets",
         "at least 1", "at least 1"),
    _bad("long label key", _pod(labels={"k" * 400: "x"}), "spec.pod.labels", "shorten it", "shorten it"),
)  # fmt: skip

CHOICES = (
    _bad("unknown task", {"task": "text-clasification"}, "spec.task", "did you mean text-classification?",
         "supported values"),
    _bad("unknown method", {"strategy": {"method": "dora"}}, "spec.strategy.method", "did you mean lora?",
         "supported values"),
    _bad("unknown precision", {"training": {"precision": "int8"}}, "spec.training.precision", "bf16",
         "supported values"),
    _bad("unknown scheduler", {"training": {"lrScheduler": "cosinus"}}, "spec.training.lrScheduler",
         "did you mean cosine?", "supported values"),
    _bad("training split in a gate", _gate(metric="f1", split="train", min=0.5), "spec.evaluation.gate[0].split",
         "validation or test", "supported values"),
)  # fmt: skip

FORMS = (
    _bad("model without a scheme", {"model": {"source": "MiniLM-L6"}}, "spec.model.source", "hf://owner/name",
         "should match"),
    _bad("destination on the Hub", {"output": {"destination": "hf://a/b"}}, "spec.output.destination",
         "folder of the job's name", "should match"),
    _bad("bucket left out", {"output": {"destination": "s3:///models"}}, "spec.output.destination",
         "folder of the job's name", "should match"),
    _bad("memory without a unit's form", {"resources": {"memory": "64 GB"}}, "spec.resources.memory", '"64Gi"',
         "should match"),
    _bad("metric with a space", _gate(metric="F1 score", min=0.5), "spec.evaluation.gate[0].metric", "f1 (macro)",
         "should match"),
    _bad("upper case in a claim", _pod(volumes=[{"name": "Data", "emptyDir": {}}]), "spec.pod.volumes[0].name",
         "The volume's name", "should match"),
)  # fmt: skip

RULES = (
    _bad("columns of another task", _columns("text-classification", messages="m"), "spec.data.columns",
         "reads only text, label, textPair"),
    _bad("two column sets", _columns("text-generation", messages="m", prompt="p"), "spec.data.columns",
         "write messages, or prompt and completion, or text"),
    _bad("text and completion", _columns("text-generation", text="t", completion="c"), "spec.data.columns",
         "write messages, or prompt and completion, or text"),
    _bad("micro-batch that does not divide", {"training": {"batchSize": 32, "microBatchSize": 5}},
         "spec.training.microBatchSize", "choose a divisor"),
    _bad("micro-batch above the default batch", {"training": {"microBatchSize": 64}}, "spec.training.microBatchSize",
         "choose a divisor"),
    _bad("parameters offloaded at stage 2", {"training": {"deepspeed": {"offload": "parameters", "zeroStage": 2}}},
         "spec.training.deepspeed.offload", "set zeroStage: 3"),
    _bad("fp16 on a CPU", {"training": {"precision": "fp16"}}, "spec.training.precision", "set resources.gpusPerNode"),
    _bad("packing of labels", {"training": {"packing": True}}, "spec.training.packing", "remove it"),
    _bad("qlora on a CPU", {"strategy": {"method": "qlora"}}, "spec.strategy.method", "set resources.gpusPerNode"),
    _bad("options of another method", {"strategy": {"method": "full", "lora": {"rank": 8}}}, "spec.strategy.lora",
         "set strategy.method to lora"),
    _bad("options without a method", {"strategy": {"promptTuning": {}}}, "spec.strategy.promptTuning",
         "set strategy.method to prompt-tuning"),
    _bad("revision of a bucket", {"model": {"source": "s3://ml/m", "revision": "v1"}}, "spec.model.revision",
         "name a model of the Hub"),
    _bad("model over http", {"model": {"source": "https://example.org/m"}}, "spec.model.source", "use hf://"),
    _bad("split of a bucket", {"data": {"train": {"split": "train"}}}, "spec.data.train.split", "remove it"),
    _bad("nothing left to train on", {"data": {"split": {"validation": 0.5, "test": 0.5}}},
         "spec.data.split.validation", "less than 1"),
    _bad("gate without a bound", _gate(metric="f1"), "spec.evaluation.gate[0]", "set min or max"),
    _bad("gate nobody passes", _gate(metric="f1", min=0.9, max=0.1), "spec.evaluation.gate[0].min", "swap them"),
    _bad("steps and epochs", {"evaluation": {"everySteps": 1, "everyEpochs": 1}}, "spec.evaluation.everyEpochs",
         "remove one"),
    _bad("steps and minutes", {"checkpoints": {"everySteps": 1, "everyMinutes": 1}}, "spec.checkpoints.everyMinutes",
         "remove one"),
    _bad("processes beside GPUs", {"resources": {"gpusPerNode": 1, "processesPerNode": 2}},
         "spec.resources.processesPerNode", "remove it"),
    _bad("elastic bounds swapped", {"resources": {"nodes": 2, "elastic": {"minNodes": 3, "maxNodes": 2}}},
         "spec.resources.elastic.minNodes", "raise maxNodes"),
    _bad("nodes outside the elastic bounds", {"resources": {"nodes": 4, "elastic": {"minNodes": 1, "maxNodes": 2}}},
         "spec.resources.nodes", "change one of them"),
)  # fmt: skip

POD_RULES = (
    _bad("reserved variable", _pod(env=[{"name": "FINETUNE_ROLE", "value": "x"}]), "spec.pod.env[0].name",
         "choose another name"),
    _bad("variable without a value", _pod(env=[{"name": "A"}]), "spec.pod.env[0]", "set one of them"),
    _bad("variable twice", _pod(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "spec.pod.env",
         "remove or rename one", "Duplicate value"),
    _bad("envFrom of nothing", _pod(envFrom=[{"prefix": "A_"}]), "spec.pod.envFrom[0]",
         "set either secretRef or configMapRef"),
    _bad("volume of no kind", _pod(volumes=[{"name": "a"}]), "spec.pod.volumes[0]", "set one of configMap"),
    _bad("volume of two kinds", _pod(volumes=[{"name": "a", "emptyDir": {}, "nfs": {}}]), "spec.pod.volumes[0]",
         "set one of configMap"),
    _bad("mount of no volume", _pod(volumeMounts=[{"name": "a", "mountPath": "/a"}]), "spec.pod.volumeMounts",
         "add it to pod.volumes"),
    _bad("relative mount", _pod(volumes=[{"name": "a", "emptyDir": {}}],
                                volumeMounts=[{"name": "a", "mountPath": "a"}]),
         "spec.pod.volumeMounts[0].mountPath", "write it from / on"),
    _bad("mount over ours", _pod(volumes=[{"name": "a", "emptyDir": {}}],
                                 volumeMounts=[{"name": "a", "mountPath": "/etc/finetune/run/x"}]),
         "spec.pod.volumeMounts[0].mountPath", "choose another mountPath"),
    _bad("our own label", _pod(labels={"finetune.dev/job": "x"}), "spec.pod.labels", "choose another prefix"),
    _bad("our own annotation", _pod(annotations={"finetune.dev/attempt": "x"}), "spec.pod.annotations",
         "choose another prefix"),
    _bad("toleration of nothing", _pod(tolerations=[{"effect": "NoSchedule"}]), "spec.pod.tolerations[0].key",
         "set operator: Exists"),
    _bad("toleration that compares and does not", _pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
         "spec.pod.tolerations[0].value", "remove value"),
    _bad("toleration in time of no eviction", _pod(tolerations=[{"key": "a", "tolerationSeconds": 3}]),
         "spec.pod.tolerations[0].tolerationSeconds", "NoExecute"),
)  # fmt: skip

BAD_JOBS: tuple[BadJob, ...] = (*NAMES, *UNKNOWN, *MISSING, *TYPES, *BOUNDS, *CHOICES, *FORMS, *RULES, *POD_RULES)
