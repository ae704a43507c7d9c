"""report.html: one file, no network, escaped, and with the report's own numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from finetune_contract.progress import DataPart, EvaluationResult
from finetune_contract.report import ConfusionMatrix, CurvePoint, Report, WorstExample
from finetune_trainer.data.prepared import PreparedData
from finetune_trainer.publish.figures import format_number
from finetune_trainer.publish.page import render_page
from tests.publish.html import read_page
from tests.publish.make import (
    make_chat_inputs,
    make_curves,
    make_data,
    make_evaluation,
    make_failed_evaluation,
    make_final,
    make_inputs,
    make_report,
    make_run,
    make_spec,
)


def make_bare_report() -> Report:
    """The least that a run can leave: no test rows, no gate, no curve, no checkpoint."""
    spec = make_spec(evaluation={}, data={"train": {"source": "s3://ml/rows.jsonl"}, "split": {"test": 0.0}})
    final = make_final(
        evaluation=EvaluationResult(validation={"loss": 0.5}, step=3),
        best_step=3,
        total_steps=3,
        curves={},
        confusion=None,
        worst_examples=(),
        parameters_total=0,
        seconds=0.0,
        versions={},
    )
    data = make_data(parts={"train": DataPart(rows=10, read=10), "validation": DataPart(rows=2)}, labels=())
    return make_report(
        make_inputs(run=make_run(spec), final=final, prepared=PreparedData(summary=data), checkpoints=())
    )


def make_report_with_classes(count: int) -> Report:
    """A report of a job with many classes."""
    labels = tuple(f"class {index}" for index in range(count))
    counts = tuple(
        tuple(20 if row == column else (row + column) % 3 for column in range(count)) for row in range(count)
    )
    test = {"f1": 0.8} | {f"f1/{label}": 0.8 for label in labels}
    final = make_final(
        evaluation=make_evaluation(test=test, gate=()), confusion=ConfusionMatrix(labels=labels, counts=counts)
    )
    return make_report(make_inputs(final=final, prepared=PreparedData(summary=make_data(labels=labels))))


REPORTS: dict[str, Callable[[], Report]] = {
    "classification": make_report,
    "generation": lambda: make_report(make_chat_inputs()),
    "gate missed": lambda: make_report(make_inputs(final=make_final(evaluation=make_failed_evaluation()))),
    "bare": make_bare_report,
    "5 classes": lambda: make_report_with_classes(5),
    "40 classes": lambda: make_report_with_classes(40),
}


@pytest.fixture(params=REPORTS, scope="module")
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return render_page(report)


def test_every_figure_is_shown_once_with_the_reports_value_and_its_four_digits(report: Report, html: str) -> None:
    page = read_page(html)
    expected = {
        f"{split}/{name}": value for split, metrics in report.metrics.items() for name, value in metrics.items()
    }
    judged = "test" if "test" in report.metrics else "validation"
    shown = {name: value for name, value in expected.items() if name.count("/") == 1 or name.startswith(f"{judged}/")}
    gates = {f"gate/{gate.split}/{gate.metric}": gate.value for gate in report.gate if gate.value is not None}
    assert page.figures == {name: (value, format_number(value)) for name, value in (shown | gates).items()}


def test_the_page_needs_neither_network_nor_script(html: str) -> None:
    page = read_page(html)
    outside = [address for address in page.addresses if not address.startswith(("#", "data:"))]
    assert (outside, {"script", "iframe", "object", "embed"} & set(page.tags)) == ([], set())
    assert "@import" not in html
    assert not [part for part in html.split("url(")[1:] if not part.startswith("#")]


def test_no_heading_and_no_table_is_empty(html: str) -> None:
    page = read_page(html)
    assert [heading for heading, length in page.heading_lengths.items() if not length] == []
    assert [table for table, rows in page.table_rows.items() if not rows] == []
    assert "None" not in page.text


def test_ids_are_unique_and_every_anchor_leads_somewhere(html: str) -> None:
    page = read_page(html)
    anchors = {address[1:] for address in page.addresses if address.startswith("#")}
    assert len(page.ids) == len(set(page.ids))
    assert anchors - set(page.ids) == set()


def test_rows_of_users_are_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    example = WorstExample(row=1, text=evil, expected=evil, predicted=evil, loss=1.0)
    labels = ("ham", evil)
    final = make_final(
        worst_examples=(example,),
        confusion=ConfusionMatrix(labels=labels, counts=((1, 0), (0, 1))),
        evaluation=make_evaluation(test={"f1": 1.0, f"f1/{evil}": 1.0}, gate=()),
    )
    page = read_page(
        render_page(make_report(make_inputs(final=final, prepared=PreparedData(summary=make_data(labels=labels)))))
    )
    assert {"script", "img"} & set(page.tags) == set()
    assert page.text.count(evil) >= 5


def test_a_missed_gate_is_the_first_thing_said() -> None:
    page = read_page(render_page(REPORTS["gate missed"]()))
    before_results = page.text[: page.text.index("from the exported weights")]
    assert page.succeeded == "false"
    assert "F1 (macro) on test is 0.9713, below the minimum 0.9900. Nothing was published" in before_results
    assert "Published model" not in page.text


def test_classes_fill_a_matrix_until_a_heat_map_is_easier_to_read() -> None:
    tables = {count: set(read_page(render_page(make_report_with_classes(count))).table_rows) for count in (5, 40)}
    assert ("confusion" in tables[5], "confusions" in tables[5]) == (True, False)
    assert ("confusion" in tables[40], "confusions" in tables[40]) == (False, True)


def test_a_report_read_from_its_file_makes_the_same_page() -> None:
    report = make_report()
    assert render_page(Report.from_json(report.to_json())) == render_page(report)


def test_charts_have_a_name_for_screen_readers_and_a_text_at_every_evaluation() -> None:
    text = render_page(make_report())
    assert '<title id="loss-title">Loss over 207 optimizer steps</title>' in text
    evaluations = len(make_curves()["validation/f1"])
    assert text.count(": f1 0.") == evaluations


def test_one_point_is_a_chart_too() -> None:
    curves = {name: (CurvePoint(step=1, value=0.5),) for name in ("train/loss", "validation/loss", "validation/f1")}
    final = make_final(curves=curves, best_step=1, total_steps=1)
    assert render_page(make_report(make_inputs(final=final))).count("<figure") == 3
