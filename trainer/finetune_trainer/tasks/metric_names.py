"""Names of the metrics of each task, and whether those that a job names are among them. Must not import torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from finetune_contract.run import RunConfig
from finetune_trainer.errors import UserError
from finetune_trainer.evaluation.gate import write_gate_name

AVERAGED: Final = ("precision", "recall", "f1")
"""Figures by class that are averaged: macro without a suffix, and `_weighted`."""
CLASSES_SHOWN: Final = 100
"""Figures by class are left out where there are more classes."""
NAMES_SHOWN: Final = 40


def name_class_metrics(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Figures of a classifier with these classes."""
    shown = labels if len(labels) <= CLASSES_SHOWN else ()
    return (
        "accuracy",
        *(name for metric in AVERAGED for name in (metric, f"{metric}_weighted")),
        *(name_of_class(metric, label) for metric in AVERAGED for label in shown),
    )


def name_of_class(metric: str, label: str) -> str:
    """The name of one class's figure."""
    return f"{metric}/{label}"[:128]


def name_token_metrics(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Figures of a language model."""
    return ("perplexity", "token_accuracy")


METRIC_NAMES: Final[dict[str, Callable[[tuple[str, ...]], tuple[str, ...]]]] = {
    "text-classification": name_class_metrics,
    "text-generation": name_token_metrics,
}
"""Task -> names of its figures for the given classes; `loss` is every task's."""


def check_metrics(run: RunConfig, labels: tuple[str, ...]) -> None:
    """Raise `UserError` where the job names a metric that its task does not compute."""
    task = run.spec.task
    known = {"loss", *METRIC_NAMES[task](labels)}
    writable = known | {write_gate_name(name) for name in known}
    wanted = {"evaluation.metric": run.resolved.metric}
    wanted |= {f"evaluation.gate[{index}].metric": gate.metric for index, gate in enumerate(run.spec.evaluation.gate)}
    for field, metric in wanted.items():
        if metric not in writable:
            names = ", ".join(sorted(known)[:NAMES_SHOWN])
            raise UserError(f"{field}: task {task} has no metric {metric!r}; use one of {names}")
