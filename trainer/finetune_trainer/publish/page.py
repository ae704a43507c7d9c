"""report.html: the whole report as one page without script and network. Everything in it comes from the Report."""

from __future__ import annotations

import jinja2
from markupsafe import Markup

from finetune_contract.report import ConfusionMatrix, Report
from finetune_contract.spec import FineTuneJobSpec
from finetune_trainer.publish import figures
from finetune_trainer.publish.charts import draw_confusion, draw_loss, draw_metrics
from finetune_trainer.publish.judgement import describe_judgement
from finetune_trainer.publish.report import describe_gate
from finetune_trainer.publish.settings import list_settings
from finetune_trainer.publish.tables import (
    MetricRow,
    build_funnel,
    judged_split,
    list_classes,
    list_confusions,
    list_gates,
    list_log,
    list_metrics,
)

MAX_MATRIX_CLASSES = 12
"""Classes up to which the confusion matrix is a table of numbers; more become a heat map and the worst pairs."""

MAX_CLASS_ROWS = 200


def render_page(report: Report) -> str:
    """The text of report.html."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("finetune_trainer.publish", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(figures, name) for name in dir(figures) if name.startswith("format_")}
    environment.filters |= {
        "title_metric": figures.title_metric,
        "phrase_metric": figures.phrase_metric,
        "figure": tag_figure,
    }
    classes = list_classes(report)
    small = report.confusion is not None and len(report.confusion.labels) <= MAX_MATRIX_CLASSES
    return environment.get_template("report.html").render(
        report=report,
        spec=FineTuneJobSpec.from_data(report.spec),
        split=judged_split(report),
        explanation=explain_verdict(report),
        headline=choose_headline(report),
        gates=list_gates(report),
        metrics=list_metrics(report),
        classes=classes[:MAX_CLASS_ROWS],
        class_count=len(classes),
        class_metrics=list(dict.fromkeys(name for row in classes for name in row.figures)),
        log=list_log(report),
        funnel=build_funnel(report),
        settings=list_settings(report),
        judgement=describe_judgement(report),
        charts=[chart for chart in (draw_loss(report), draw_metrics(report)) if chart is not None],
        confusion=shade_confusion(report.confusion) if report.confusion is not None and small else None,
        confusion_chart=None if small else draw_confusion(report),
        confusions=() if small else list_confusions(report),
    )


def explain_verdict(report: Report) -> str:
    """What stands below the verdict: why it is so."""
    missed = [f"{describe_gate(gate)}." for gate in report.gate if not gate.passed]
    if missed:
        return " ".join([*missed, "Nothing was published; the checkpoints are kept."])
    if not report.gate:
        return "No gate was set, so the best checkpoint was published."
    gates = {1: "its gate", 2: "both gates"}.get(len(report.gate), f"all {len(report.gate)} gates")
    return f"The model passed {gates}."


def choose_headline(report: Report) -> MetricRow | None:
    """The metric that stands in large: the one that chose the checkpoint, but perplexity rather than a bare loss."""
    rows = {row.name: row for row in list_metrics(report)}
    if report.resolved.metric == "loss" and "perplexity" in rows:
        return rows["perplexity"]
    return next(iter(rows.values()), None)


def tag_figure(value: float, name: str = "") -> Markup:
    """A measured value as <data>: the text has four digits, the attribute all of them."""
    attribute = Markup(' data-figure="{}"').format(name) if name else Markup("")
    return Markup('<data value="{}"{}>{}</data>').format(repr(value), attribute, figures.format_number(value))


def shade_confusion(confusion: ConfusionMatrix) -> list[tuple[str, list[tuple[int, int]]]]:
    """The matrix by true class: each cell as (count, share of the row in per cent)."""
    return [
        (label, [(count, round(100 * count / max(1, sum(counts)))) for count in counts])
        for label, counts in zip(confusion.labels, confusion.counts, strict=True)
    ]
