"""The tables of the card and of the page as rows of values: metrics, classes, training log, data. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from finetune_contract.progress import GateResult
from finetune_contract.report import Report
from finetune_trainer.publish.figures import lower_is_better

MAX_LOG_ROWS = 40
"""Evaluations that the training log shows at most; report.json holds more."""


@dataclass(frozen=True)
class MetricRow:
    """One metric over the splits; None where it was not measured."""

    name: str
    baseline: float | None
    test: float | None
    validation: float | None

    @property
    def improved(self) -> bool | None:
        """Whether training made it better on the test rows; None where that cannot be said."""
        if self.baseline is None or self.test is None or self.baseline == self.test:
            return None
        return (self.test < self.baseline) == lower_is_better(self.name)


@dataclass(frozen=True)
class GateRow:
    """One gate with what its drawing needs."""

    metric: str
    split: str
    value: float | None
    min: float | None
    max: float | None
    passed: bool
    margin: float | None
    """How far the value lies on the good side of its bound; negative: on the bad side."""
    scale: float | None
    """Where the drawing's axis ends, from 0; None where a value is negative or absent."""


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class on the judged rows."""

    label: str
    figures: dict[str, float]
    rows: int | None
    """Rows of the class; None where no confusion matrix was made."""


@dataclass(frozen=True)
class LogRow:
    """One evaluation during training."""

    step: int
    epoch: float | None
    train_loss: float | None
    """The last training loss that was logged up to that step."""
    metrics: dict[str, float]
    best: bool


@dataclass(frozen=True)
class Funnel:
    """What became of the rows that were read."""

    read: int
    dropped: dict[str, int]
    """By reason, the most frequent first."""
    kept: dict[str, int]
    """By part."""


def judged_split(report: Report) -> str:
    """The split whose figures stand first: test, or validation where no test rows were kept back."""
    return "test" if "test" in report.metrics else "validation"


def list_metrics(report: Report) -> tuple[MetricRow, ...]:
    """Every metric that is not of one class; the one that chose the checkpoint stands first."""
    names = dict.fromkeys(name for metrics in report.metrics.values() for name in metrics if "/" not in name)
    ordered = sorted(names, key=lambda name: name != report.resolved.metric)
    splits = [report.metrics.get(split, {}) for split in ("baseline", "test", "validation")]
    return tuple(MetricRow(name, *(metrics.get(name) for metrics in splits)) for name in ordered)


def list_gates(report: Report) -> tuple[GateRow, ...]:
    """The gates as they were written."""
    return tuple(_measure_gate(gate) for gate in report.gate)


def _measure_gate(gate: GateResult) -> GateRow:
    values = [value for value in (gate.value, gate.min, gate.max) if value is not None]
    margin = scale = None
    if gate.value is not None:
        margins = [gate.value - gate.min] if gate.min is not None else []
        margins += [gate.max - gate.value] if gate.max is not None else []
        margin = min(margins)
        if min(values) >= 0 < max(values):
            scale = 1.0 if max(values) <= 1 else 1.1 * max(values)
    return GateRow(gate.metric, gate.split, gate.value, gate.min, gate.max, gate.passed, margin, scale)


def list_classes(report: Report) -> tuple[ClassRow, ...]:
    """Figures named metric/class, in the order of the model's classes."""
    figures: dict[str, dict[str, float]] = {label: {} for label in report.data.labels}
    for name, value in report.metrics.get(judged_split(report), {}).items():
        metric, slash, label = name.partition("/")
        if slash:
            figures.setdefault(label, {})[metric] = value
    rows = count_class_rows(report)
    return tuple(ClassRow(label, values, rows.get(label)) for label, values in figures.items() if values)


def count_class_rows(report: Report) -> dict[str, int]:
    """Judged rows of every class, from the confusion matrix."""
    if report.confusion is None:
        return {}
    return {label: sum(counts) for label, counts in zip(report.confusion.labels, report.confusion.counts, strict=True)}


def list_log(report: Report) -> tuple[LogRow, ...]:
    """The evaluations during training by step; of many only every so many, but always the best and the last."""
    by_step: dict[int, dict[str, float]] = {}
    for name, points in report.curves.items():
        split, _, metric = name.partition("/")
        if split == "validation" and "/" not in metric:
            for point in points:
                by_step.setdefault(point.step, {})[metric] = point.value
    steps = sorted(by_step)
    stride = -(-len(steps) // MAX_LOG_ROWS) if steps else 1
    shown = [step for index, step in enumerate(steps) if index % stride == 0 or step in (report.best_step, steps[-1])]
    return tuple(
        LogRow(step, epoch_of(report, step), _train_loss(report, step), by_step[step], step == report.best_step)
        for step in shown
    )


def epoch_of(report: Report, step: int) -> float | None:
    """Passes over the training rows that a step stands for; None where packing makes rows and samples differ."""
    train = report.data.parts.get("train")
    if train is None or not train.rows or report.spec.get("training", {}).get("packing", False):
        return None
    return step / -(-train.rows // report.resolved.batch_size)


def _train_loss(report: Report, step: int) -> float | None:
    losses = [point.value for point in report.curves.get("train/loss", ()) if point.step <= step]
    return losses[-1] if losses else None


def build_funnel(report: Report) -> Funnel:
    """All rows from reading to use; a part that was split off is counted where it was read."""
    parts = report.data.parts
    dropped: Counter[str] = Counter()
    for part in parts.values():
        dropped.update(part.dropped)
    return Funnel(
        read=sum(part.read for part in parts.values()),
        dropped={reason: rows for reason, rows in dropped.most_common() if rows},
        kept={name: part.rows for name, part in parts.items() if part.rows},
    )


@dataclass(frozen=True)
class ConfusedPair:
    """Two classes that the model takes one for the other."""

    expected: str
    predicted: str
    count: int
    share: float
    """Of the rows of the true class."""


def list_confusions(report: Report, limit: int = 15) -> tuple[ConfusedPair, ...]:
    """The most frequent confusions, the worst first."""
    if report.confusion is None:
        return ()
    labels = report.confusion.labels
    pairs = [
        ConfusedPair(labels[row], labels[column], count, count / sum(counts))
        for row, counts in enumerate(report.confusion.counts)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair.count)[:limit])
