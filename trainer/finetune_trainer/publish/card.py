"""The model card: README.md of the published folder, with the metadata that the Hub reads."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from finetune_contract.report import Report
from finetune_contract.spec import FineTuneJobSpec
from finetune_trainer.publish import figures
from finetune_trainer.publish.judgement import describe_judgement
from finetune_trainer.publish.settings import ORIGINS, list_settings
from finetune_trainer.publish.tables import build_funnel, judged_split, list_classes, list_log, list_metrics

DOWNLOADS = {
    "s3": "aws s3 cp --recursive {uri} {folder}",
    "gs": "gcloud storage cp -r {uri} {folder}",
}
"""How people fetch a folder, by the scheme of its URI."""


def write_card(report: Report, published_uri: str) -> str:
    """The text of README.md; `published_uri` is the folder that it will lie in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("finetune_trainer.publish", "templates"),
        autoescape=False,  # Markdown: `cell` escapes what could break a table or be HTML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {name: getattr(figures, name) for name in dir(figures) if name.startswith("format_")}
    environment.filters |= {
        "title_metric": figures.title_metric,
        "phrase_metric": figures.phrase_metric,
        "cell": escape_cell,
    }
    spec = FineTuneJobSpec.from_data(report.spec)
    settings = list_settings(report)
    body = environment.get_template("card.md").render(
        report=report,
        spec=spec,
        split=judged_split(report),
        metrics=list_metrics(report),
        classes=list_classes(report),
        log=list_log(report),
        funnel=build_funnel(report),
        settings={origin: [row for row in settings if row.origin == origin] for origin in ORIGINS},
        judgement=describe_judgement(report),
        base=describe_base(report),
        uri=published_uri,
        folder=local_folder(report, published_uri),
        download=describe_download(report, published_uri),
    )
    metadata = build_metadata(report, spec)
    return str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{body}"))


def build_metadata(report: Report, spec: FineTuneJobSpec) -> ModelCardData:
    """Metadata of the card: base model, task, data sets of the Hub and the test figures as model-index."""
    split = judged_split(report)
    results = [
        EvalResult(
            task_type=report.task,
            dataset_type=describe_dataset(spec),
            dataset_name=describe_dataset(spec),
            dataset_split=split,
            metric_type=name,
            metric_name=figures.title_metric(name),
            metric_value=round(value, 4),
        )
        for name, value in report.metrics.get(split, {}).items()
        if "/" not in name
    ]
    return ModelCardData(
        base_model=report.model.removeprefix("hf://") if report.model.startswith("hf://") else None,
        datasets=_list_hub_datasets(spec) or None,
        eval_results=results or None,
        library_name="transformers",
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=report.job.name,
        pipeline_tag=report.task,
        tags=["finetune-operator", "deepspeed", spec.strategy.method],
    )


def describe_base(report: Report) -> str:
    """The pre-trained model with its revision, as a link where it is on the Hub."""
    revision = f" (revision `{report.model_revision}`)" if report.model_revision else ""
    if report.model.startswith("hf://"):
        name = report.model.removeprefix("hf://")
        return f"[{name}](https://huggingface.co/{name}){revision}"
    return f"`{report.model}`{revision}"


def describe_dataset(spec: FineTuneJobSpec) -> str:
    """A name for the data: the Hub's, or the last part of the source's path."""
    source = spec.data.test or spec.data.train
    if source.source.startswith("hf://"):
        return source.source.removeprefix("hf://")
    return PurePosixPath(urlsplit(source.source).path).name or source.source


def local_folder(report: Report, published_uri: str) -> str:
    """Where the published folder lies on the reader's machine."""
    if urlsplit(published_uri).scheme == "file":
        return urlsplit(published_uri).path
    return f"./{report.job.name}"


def describe_download(report: Report, published_uri: str) -> str:
    """The command that fetches the published folder; empty where it is local or no one tool stands out."""
    command = DOWNLOADS.get(urlsplit(published_uri).scheme, "")
    return command.format(uri=published_uri, folder=local_folder(report, published_uri))


def escape_cell(text: object) -> str:
    """Text that stays one cell of a Markdown table and no HTML."""
    plain = " ".join(str(text).split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _list_hub_datasets(spec: FineTuneJobSpec) -> list[str]:
    sources = (spec.data.train, spec.data.validation, spec.data.test)
    names = [source.source.removeprefix("hf://") for source in sources if source and source.source.startswith("hf://")]
    return list(dict.fromkeys(names))
