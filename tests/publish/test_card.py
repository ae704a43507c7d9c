"""The model card: metadata that the Hub reads, and the report's own numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from finetune_contract.report import Report
from finetune_trainer.publish.card import write_card
from finetune_trainer.publish.figures import format_number
from tests.publish.make import (
    URI,
    make_chat_inputs,
    make_data,
    make_final,
    make_inputs,
    make_report,
    make_run,
    make_spec,
)
from tests.publish.test_page import REPORTS


@pytest.fixture(params=REPORTS, scope="module")
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


def load_metadata(report: Report, folder: Path) -> ModelCardData:
    path = folder / "README.md"
    path.write_text(write_card(report, URI))
    data = ModelCard.load(path).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_metadata_loads_with_the_judged_figures_to_four_digits(report: Report, tmp_path: Path) -> None:
    data = load_metadata(report, tmp_path)
    judged = report.metrics.get("test", report.metrics["validation"])
    expected = {name: round(value, 4) for name, value in judged.items() if "/" not in name}
    assert {result.metric_type: result.metric_value for result in data.eval_results or ()} == expected
    assert (data.model_name, data.pipeline_tag, data.library_name) == (
        report.job.name,
        report.task,
        "transformers",
    )


def test_every_judged_figure_stands_in_the_text(report: Report) -> None:
    text = write_card(report, URI)
    split = "test" if "test" in report.metrics else "validation"
    figures = [
        value
        for name, metrics in report.metrics.items()
        for metric, value in metrics.items()
        if "/" not in metric or name == split
    ]
    assert [value for value in figures if format_number(value) not in text] == []


def test_no_section_and_no_table_is_empty(report: Report) -> None:
    text = write_card(report, URI)
    body = text.split("---\n", 2)[2]
    sections = re.split(r"^## .*$", body, flags=re.MULTILINE)
    assert [section for section in sections if not section.strip()] == []
    assert not re.search(r"^\|(?: ?--?:? ?\|?|-+:?\|)+$\n(?!\|)", body, flags=re.MULTILINE)
    assert "More Information Needed" not in body
    assert "None" not in body
    assert "\n\n\n" not in body


def test_all_rows_of_a_table_have_the_same_number_of_cells(report: Report) -> None:
    tables = re.findall(r"(?:^\|.*\|\n)+", write_card(report, URI), flags=re.MULTILINE)
    widths = [{len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().split("\n")} for table in tables]
    assert len(tables) >= 3
    assert [width for width in widths if len(width) != 1] == []


def test_the_base_model_is_named_with_its_commit() -> None:
    card = write_card(make_report(), URI)
    assert "base_model: sentence-transformers/all-MiniLM-L6-v2\n" in card
    assert "revision `8b3219a92973c328a8e22fadcfa821b5dc75636a`" in card


def test_the_published_checkpoint_is_the_bold_row_of_the_log() -> None:
    assert "| **160** | **2.32** |" in write_card(make_report(), URI)


def test_rows_left_out_are_told_with_their_reasons() -> None:
    card = write_card(make_report(), URI)
    assert "| 391 duplicate, 54 empty, 42 in validation or test |" in card
    assert "391 left out as duplicate, 54 left out as empty, 42 left out as in validation or test." in card


def test_class_names_cannot_break_a_table() -> None:
    labels = ("ham", "a|b <b>c</b>")
    data = make_inputs().prepared.model_copy(update={"summary": make_data(labels=labels)})
    card = write_card(make_report(make_inputs(prepared=data)), URI)
    assert "| Classes | ham, a\\|b &lt;b>c&lt;/b> |" in card


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("s3://ml/spam/published", "aws s3 cp --recursive s3://ml/spam/published ./spam\n"),
        ("gs://ml/spam/published", "gcloud storage cp -r gs://ml/spam/published ./spam\n"),
        ("file:///models/spam/published", 'model="/models/spam/published")\n'),
    ],
)
def test_the_card_says_how_to_get_at_the_model(uri: str, line: str) -> None:
    assert line in write_card(make_report(), uri)


def test_usage_follows_the_columns_of_the_task() -> None:
    pair = make_run(columns={"text": "body", "textPair": "reply", "label": "label"})
    plain = make_inputs(
        run=make_run(
            make_spec(task="text-generation", data={"train": {"source": "s3://ml/x.jsonl"}}), columns={"text": "text"}
        ),
        final=make_final(confusion=None),
    )
    assert '"text_pair": ' in write_card(make_report(make_inputs(run=pair)), URI)
    assert 'generate("Once upon a time"' in write_card(make_report(plain), URI)
    assert '[{"role": "user"' in write_card(make_report(make_chat_inputs()), URI)
