"""How the figures came about and how far they can be trusted, in sentences for the card and the page. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_contract.progress import DataPart
from finetune_contract.report import Report
from finetune_contract.spec import FineTuneJobSpec
from finetune_contract.spec.data import DataSource
from finetune_trainer.publish.figures import format_count, format_number, format_setting, phrase_metric, wilson_interval
from finetune_trainer.publish.tables import judged_split

NEW_HEAD_TASKS = frozenset({"text-classification", "text-regression", "token-classification", "image-classification"})
"""Tasks whose model gets a new, randomly started head where the pre-trained one has none."""


def describe_judgement(report: Report) -> tuple[str, ...]:
    """Sentences in the order in which a reader doubts: which weights, which rows, how exact, what is optimistic."""
    return tuple(_list_sentences(report, FineTuneJobSpec.from_data(report.spec)))


def _list_sentences(report: Report, spec: FineTuneJobSpec) -> Iterator[str]:
    split = judged_split(report)
    part = report.data.parts.get(split, DataPart(rows=0))
    yield (
        f"All figures were computed from the exported weights of step {format_count(report.best_step)}"
        + (f", on {format_count(part.rows)} {split} rows that were not trained on." if part.rows else ".")
    )
    yield from _describe_origin(split, part, spec)
    accuracy = report.metrics.get(split, {}).get("accuracy")
    if accuracy is not None and part.rows:
        low, high = wilson_interval(accuracy, part.rows)
        yield (
            f"With {format_count(part.rows)} {split} rows, the 95 % interval of accuracy is "
            f"{format_number(low)} to {format_number(high)} (Wilson)."
        )
    yield (
        f"The checkpoint was chosen by {phrase_metric(report.resolved.metric)} on the validation rows, "
        "so figures on validation rows are a little optimistic."
    )
    if "baseline" in report.metrics:
        fresh = report.task in NEW_HEAD_TASKS
        yield "The baseline is the same model before training, on the same rows" + (
            "; where its head is new, it guesses." if fresh else "."
        )
    if part.truncated:
        yield (
            f"{format_count(part.truncated)} of the {split} rows were cut to {format_count(report.data.max_length)} "
            "tokens; the model saw only what was left."
        )


def _describe_origin(split: str, part: DataPart, spec: FineTuneJobSpec) -> Iterator[str]:
    if part.split_off:
        share = spec.data.split.test if split == "test" else spec.data.split.validation
        yield (
            f"They were split off the training source ({format_setting(100 * share)} % of its rows, "
            f"seed {spec.data.split.seed}), so they show how the model does on data like it and not on other data."
        )
    source: DataSource | None = getattr(spec.data, split)
    if source is not None:
        yield f"They come from a source of their own, {source.source}."
    if spec.data.contamination == "drop":
        yield "Training rows that also stand among the validation or test rows were left out of training."
    else:
        yield (
            "Training rows that also stand among the validation or test rows were kept "
            f"(data.contamination: {spec.data.contamination}), so figures may be too good."
        )
