"""Draws the charts of report.html: loss and learning rate, metrics, and confusion of many classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from finetune_contract.report import CurvePoint, Report
from finetune_trainer.publish.figures import format_number, title_metric
from finetune_trainer.publish.svg import GRID, INK, MUTED, SERIES, STYLE, SURFACE, render_svg

SIZE = (6.6, 3.6)
MAX_LINES = 4
MAX_TIPS = 60
SMOOTHING_MIN_POINTS = 20
LOG_SCALE_RATIO = 30.0
MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True)
class Chart:
    """A chart with the words around it."""

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    """(class of the swatch, label)."""


@dataclass
class Canvas:
    """A figure while it is drawn, with the texts that a pointer over its points shows."""

    figure: Figure
    name: str
    total_steps: int
    best_step: int
    best_label: str
    tips: dict[str, str] = field(default_factory=dict)


def draw_loss(report: Report) -> Chart | None:
    """Training loss, raw and smoothed, validation loss and the learning rate; None where no loss was logged."""
    train, validation = report.curves.get("train/loss", ()), report.curves.get("validation/loss", ())
    rate = report.curves.get("train/learning_rate", ())
    if not train and not validation:
        return None
    with matplotlib.rc_context(STYLE):
        canvas = _start(report, "loss")
        panels = _split_panels(canvas.figure, (4.4, 1.0) if rate else (1.0,))
        legend = _plot_training(panels[0], train)
        if validation:
            _plot_points(canvas, panels[0], validation, "validation loss", 1)
            legend.append(("line-2", "validation"))
        _scale_loss(panels[0], [point.value for point in (*train, *validation)])
        _mark_best(canvas, panels[0])
        if rate:
            panels[1].plot(*_coordinates(rate), color=MUTED, linewidth=1.5)
            panels[1].set_yticks([0, max(point.value for point in rate)])
            panels[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
            legend.append(("line-muted", "learning rate"))
        _finish_axes(panels, report.total_steps)
        description = f"Loss over {report.total_steps} optimizer steps"
        return Chart("Loss", render_svg(canvas.figure, canvas.name, description, canvas.tips), tuple(legend))


def draw_metrics(report: Report) -> Chart | None:
    """The validation metrics, those of one scale in one panel; None where nothing but the loss was measured."""
    panels_of_metrics = group_metrics(report)
    if not panels_of_metrics:
        return None
    with matplotlib.rc_context(STYLE):
        canvas = _start(report, "metrics")
        panels = _split_panels(canvas.figure, (1.0,) * len(panels_of_metrics))
        legend: list[tuple[str, str]] = []
        for panel, metrics in zip(panels, panels_of_metrics, strict=True):
            for metric in metrics:
                _plot_points(canvas, panel, report.curves[f"validation/{metric}"], metric, len(legend))
                legend.append((f"line-{len(legend) + 1}", title_metric(metric)))
            panel.margins(y=0.12)
            panel.yaxis.set_major_locator(MaxNLocator(8 // len(panels), steps=[1, 2, 2.5, 5, 10]))
            _mark_best(canvas, panel)
        _finish_axes(panels, report.total_steps)
        names = ", ".join(label for _, label in legend)
        description = f"{names} on the validation rows over {report.total_steps} optimizer steps"
        return Chart("Validation", render_svg(canvas.figure, canvas.name, description, canvas.tips), tuple(legend))


def group_metrics(report: Report) -> tuple[tuple[str, ...], ...]:
    """Metrics to draw, at most four: shares between 0 and 1 share a panel, every other one has its own."""
    names = [name.removeprefix("validation/") for name in report.curves if name.startswith("validation/")]
    shown = [name for name in names if name != "loss" and "/" not in name]
    shown = sorted(shown, key=lambda name: (name != report.resolved.metric, "_weighted" in name))[:MAX_LINES]
    shares = tuple(name for name in shown if _is_share(report.curves[f"validation/{name}"]))
    return tuple(group for group in (shares, *((name,) for name in shown if name not in shares)) if group)


def draw_confusion(report: Report) -> Chart | None:
    """Confusion of many classes as a heat map, each row as shares of its true class."""
    if report.confusion is None:
        return None
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        canvas = Canvas(Figure(figsize=(6.6, 6.0), dpi=72), "confusion", 0, 0, "")
        axes = canvas.figure.add_axes((0.1, 0.09, 0.88, 0.88))
        shares = [[count / max(1, sum(row)) for count in row] for row in report.confusion.counts]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        description = f"Confusion of {len(report.confusion.labels)} classes"
        return Chart("Confusion", render_svg(canvas.figure, canvas.name, description, {}), ())


def smooth(values: Sequence[float], span: float) -> list[float]:
    """Exponential moving average over about `span` values, without the pull towards 0 at the beginning."""
    weight, total, smoothed = 0.0, 0.0, []
    keep = 1 - 2 / (span + 1)
    for value in values:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        smoothed.append(total / weight)
    return smoothed


def _start(report: Report, name: str) -> Canvas:
    label = f"{'published' if report.published else 'best'}: step {report.best_step:,}"
    return Canvas(Figure(figsize=SIZE, dpi=72), name, report.total_steps, report.best_step, label)


def _split_panels(figure: Figure, heights: Sequence[float]) -> list[Axes]:
    figure.subplots_adjust(left=0.1, right=0.975, top=0.93, bottom=0.12, hspace=0.5)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=list(heights))
    panels: list[Axes] = []
    for index in range(len(heights)):
        panels.append(figure.add_subplot(grid[index], sharex=panels[0] if panels else None))
    return panels


def _coordinates(points: Sequence[CurvePoint]) -> tuple[list[int], list[float]]:
    return [point.step for point in points], [point.value for point in points]


def _plot_training(axes: Axes, points: Sequence[CurvePoint]) -> list[tuple[str, str]]:
    if not points:
        return []
    steps, values = _coordinates(points)
    if len(points) < SMOOTHING_MIN_POINTS:
        axes.plot(steps, values, color=SERIES[0])
        return [("line-1", "training")]
    axes.plot(steps, values, color=SERIES[0], linewidth=1, alpha=0.3)
    axes.plot(steps, smooth(values, max(8.0, len(values) / 20)), color=SERIES[0])
    return [("line-1", "training, smoothed")]


def _plot_points(canvas: Canvas, axes: Axes, points: Sequence[CurvePoint], metric: str, series: int) -> None:
    steps, values = _coordinates(points)
    color = SERIES[series % len(SERIES)]
    axes.plot(steps, values, color=color)
    if len(points) > MAX_TIPS:
        return
    for index, point in enumerate(points):
        gid = f"tip-{metric.replace(' ', '-')}-{index}"
        canvas.tips[gid] = f"step {point.step:,}: {metric} {format_number(point.value)}"
        marker: dict[str, Any] = {
            "marker": MARKERS[series % len(MARKERS)],
            "markersize": 5,
            "color": color,
            "clip_on": False,
        }
        if point.step == canvas.best_step:
            marker |= {"markersize": 9, "markeredgewidth": 2, "markerfacecolor": SURFACE, "zorder": 5}
        axes.plot([point.step], [point.value], gid=gid, **marker)


def _mark_best(canvas: Canvas, axes: Axes) -> None:
    axes.axvline(canvas.best_step, color=INK, linewidth=1, linestyle=(0, (3, 3)), zorder=1)
    if axes.get_subplotspec().is_first_row():  # type: ignore[union-attr]
        late = canvas.best_step > canvas.total_steps / 2
        axes.annotate(
            canvas.best_label,
            (canvas.best_step, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if late else 5, 4),
            textcoords="offset points",
            ha="right" if late else "left",
            color=INK,
            fontsize=10,
        )


def _finish_axes(panels: Sequence[Axes], total_steps: int) -> None:
    for panel in panels:
        panel.set_xlim(0, max(1, total_steps))
        panel.spines["bottom"].set_color(GRID)
        panel.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        panel.tick_params(axis="x", labelbottom=panel is panels[-1])
    panels[-1].set_xlabel("optimizer step", fontsize=10)


def _scale_loss(axes: Axes, values: Sequence[float]) -> None:
    lowest, highest = min(values), max(values)
    if lowest > 0 and highest / lowest > LOG_SCALE_RATIO:
        axes.set_yscale("log")
        # Plain numbers at 1, 2 and 5 of each decade: powers of ten between them overlap and nobody reads them.
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif 0 <= lowest < highest / 3:
        axes.set_ylim(bottom=0)


def _is_share(points: Sequence[CurvePoint]) -> bool:
    return all(0 <= point.value <= 1 or math.isclose(point.value, 1) for point in points)
