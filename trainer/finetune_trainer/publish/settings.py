"""The settings of a run as rows: what was set, by whom, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic.alias_generators import to_camel

from finetune_contract.document import Document
from finetune_contract.report import Report
from finetune_contract.run import Resolved
from finetune_contract.spec import FineTuneJobSpec, StrategySpec
from finetune_trainer.publish.figures import format_setting

Origin = Literal["yours", "derived", "default"]
ORIGINS: tuple[Origin, ...] = ("yours", "derived", "default")

SHOWN_SECTIONS = ("strategy", "training", "evaluation", "data", "resources")
"""Sections of the spec that shape the result; pods, storage and limits of the job's life do not."""

HIDDEN_PATHS = frozenset({"evaluation.gate", "resources.gpuResource"})
"""Shown elsewhere, or without influence on the result."""

RESOLVED_PATHS = {
    "batch_size": "training.batchSize",
    "micro_batch_size": "training.microBatchSize",
    "gradient_accumulation_steps": "training.gradientAccumulationSteps",
    "epochs": "training.epochs",
    "max_steps": "training.maxSteps",
    "learning_rate": "training.learningRate",
    "precision": "training.precision",
    "zero_stage": "training.deepspeed.zeroStage",
    "metric": "evaluation.metric",
    "evaluate_every_steps": "evaluation.everySteps",
    "evaluate_every_epochs": "evaluation.everyEpochs",
    "evaluation_batch_size": "evaluation.batchSize",
    "columns": "data.columns",
    "prepare": "data.prepare",
    "nodes": "resources.nodes",
    "workers_per_node": "resources.workersPerNode",
    "world_size": "resources.worldSize",
    "device": "resources.device",
}
"""Field of Resolved -> where a user would look for it."""


@dataclass(frozen=True)
class Setting:
    """One row of the settings table."""

    path: str
    """Where it stands, or would stand, in the spec: training.learningRate."""
    value: str
    origin: Origin
    reason: str
    """Why a derived value is what it is; what the field means otherwise."""

    @property
    def section(self) -> str:
        """First part of the path."""
        return self.path.partition(".")[0]

    @property
    def name(self) -> str:
        """The path without its section."""
        return self.path.partition(".")[2]


def list_settings(report: Report) -> tuple[Setting, ...]:
    """Every setting that shapes the result: in the order of the spec's sections, your own ones first in each."""
    rows = {row.path: row for row in _list_written_or_default(report)}
    for row in _list_resolved(report):
        if row.path not in rows or rows[row.path].value != row.value:
            rows[row.path] = row
    return tuple(
        sorted(
            (row for row in rows.values() if row.path not in HIDDEN_PATHS and not row.path.startswith("data.columns.")),
            key=lambda row: (SHOWN_SECTIONS.index(row.section), ORIGINS.index(row.origin)),
        )
    )


def _list_written_or_default(report: Report) -> Iterator[Setting]:
    spec = FineTuneJobSpec.from_data(report.spec)
    spec = spec.model_copy(update={"strategy": _add_method_options(spec.strategy)})
    for section in SHOWN_SECTIONS:
        yield from _list_fields(getattr(spec, section), report.spec.get(section, {}), section)


def _add_method_options(strategy: StrategySpec) -> StrategySpec:
    """The strategy with its method's options, which are absent where all of them are defaults."""
    name = strategy.method.replace("-", "_")
    field = StrategySpec.model_fields.get(name)
    if field is None or getattr(strategy, name) is not None:
        return strategy
    return strategy.model_copy(update={name: get_args(field.annotation)[0]()})


def _list_fields(document: Document, written: dict[str, Any], prefix: str) -> Iterator[Setting]:
    for name, field in type(document).model_fields.items():
        alias = to_camel(name)
        value = getattr(document, name)
        if isinstance(value, Document):
            yield from _list_fields(value, written.get(alias, {}), f"{prefix}.{alias}")
        elif value is not None:
            origin: Origin = "yours" if alias in written else "default"
            yield Setting(f"{prefix}.{alias}", format_setting(value), origin, _shorten(field.description))


def _list_resolved(report: Report) -> Iterator[Setting]:
    reasons = {to_camel(name): reason for name, reason in report.resolved.reasons.items()}
    for name, path in RESOLVED_PATHS.items():
        value = getattr(report.resolved, name)
        if value is not None:
            reason = reasons.get(to_camel(name)) or _shorten(Resolved.model_fields[name].description)
            origin: Origin = "default" if reason.startswith("default") else "derived"
            if _is_written(report.spec, path):
                origin = "yours"
            yield Setting(path, format_setting(value), origin, reason)
    yours = _is_written(report.spec, "training.maxLength")
    yield Setting(
        "training.maxLength",
        format_setting(report.data.max_length),
        "yours" if yours else "derived",
        "Tokens in a row" + ("" if yours else ", from the model and the length of the rows"),
    )


def _is_written(spec: dict[str, Any], path: str) -> bool:
    node: Any = spec
    for part in path.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _shorten(description: str | None) -> str:
    """A field's description up to its first stop, without what holds only where the field is absent."""
    text = " ".join((description or "").split()).split(". ")[0].rstrip(".")
    head = text.split(": ")[0]
    text = head if " " in head else text  # one word before a colon begins a list of the field's values
    return "; ".join(clause for clause in text.split("; ") if not re.search(r"\babsent\b|\bneither\b", clause))
