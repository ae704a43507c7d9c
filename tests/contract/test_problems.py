"""Problems are sentences: the field, what was found, what to do."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from finetune_contract.document import Document
from finetune_contract.problems import Problem, format_problems, list_problems
from finetune_contract.spec import FineTuneJob
from finetune_contract.status import FineTuneJobStatus
from tests.contract.make import Data, make_data


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"training": {"learningrate": 0.1}},
            Problem(
                "spec.training.learningrate", "spec.training.learningrate is no field: did you mean learningRate?", 0.1
            ),
        ),
        (
            {"epochs": 3},
            Problem("spec.epochs", "spec.epochs is no field: epochs belongs to spec.training; move it there", 3),
        ),
        (
            {"budget": {"dollars": 3, "maxGpuHours": 1}},
            Problem("spec.budget.dollars", "spec.budget.dollars is no field: remove it; known here are maxGpuHours", 3),
        ),
        (
            {"training": {"learningRate": "2e-5"}},
            Problem(
                "spec.training.learningRate",
                'spec.training.learningRate must be a number, not "2e-5": write it as a number without quotes',
                "2e-5",
            ),
        ),
        (
            {"resources": {"nodes": 0}},
            Problem("spec.resources.nodes", "spec.resources.nodes is 0: choose a value of at least 1", 0),
        ),
        (
            {"strategy": {"method": "lora", "lora": {"dropout": 1}}},
            Problem("spec.strategy.lora.dropout", "spec.strategy.lora.dropout is 1: choose a value less than 1", 1),
        ),
        (
            {"evaluation": {"gate": [{"metric": "f1", "min": 1, "split": "tset"}]}},
            Problem(
                "spec.evaluation.gate[0].split",
                'spec.evaluation.gate[0].split is "tset": did you mean test? It must be validation or test',
                "tset",
            ),
        ),
        (
            {"evaluation": {"gate": {"metric": "f1"}}},
            Problem(
                "spec.evaluation.gate",
                "spec.evaluation.gate must be a list, not a map: write each entry on a line that begins with a dash,"
                " or remove it",
                {"metric": "f1"},
            ),
        ),
        (
            {"training": {"microBatchSize": 5}},
            Problem(
                "spec.training.microBatchSize",
                "training.microBatchSize must divide training.batchSize: choose a divisor or remove microBatchSize",
                5,
            ),
        ),
        (
            {"pod": {"labels": {"example.org/team": 1}}},
            Problem(
                "spec.pod.labels[example.org/team]",
                "spec.pod.labels[example.org/team] must be a text, not 1: put it in quotes",
                1,
            ),
        ),
        (
            {"model": {"source": "a" * 100}},
            Problem(
                "spec.model.source",
                f'spec.model.source is "{"a" * 76}..., which has the wrong form: Where the model lies: hf://owner/name'
                ", or a transformers folder at s3://, gs://, az://, pvc://claim/path, file://",
                "a" * 100,
            ),
        ),
    ],
    ids=lambda value: value.field if isinstance(value, Problem) else "",
)
def test_a_problem_is_one_sentence(spec: Data, problem: Problem) -> None:
    assert _problems(make_data(spec)) == (problem,)


def test_what_is_missing_is_explained() -> None:
    data = make_data()
    del data["spec"]["output"]
    assert _problems(data) == (Problem("spec.output", "spec.output is missing: add it (Where results go)"),)


def test_every_broken_rule_is_told_at_once() -> None:
    problems = _problems(make_data({"training": {"packing": True, "precision": "fp16"}}))
    assert [problem.field for problem in problems] == ["spec.training.precision", "spec.training.packing"]
    assert format_problems(problems) == f"{problems[0].message}. {problems[1].message}"


def test_a_document_that_is_no_map_is_a_problem() -> None:
    (problem,) = _problems([1])
    assert problem.field == ""
    assert problem.message.startswith("the document must be a map of fields, not a list")


def test_problems_of_other_documents_are_told_too() -> None:
    with pytest.raises(ValidationError) as raised:
        FineTuneJobStatus.from_data({"phase": "Runing", "report": [1], "failure": {"failureClass": "Cod"}})
    problems = {problem.field: problem.message for problem in list_problems(raised.value, FineTuneJobStatus)}
    assert problems["phase"].startswith('phase is "Runing": did you mean Running?')
    assert problems["report"] == "report must be a text, not a list: put it in quotes"
    assert problems["failure.failureClass"].startswith('failure.failureClass is "Cod": did you mean Code?')
    assert problems["failure.reason"].startswith("failure.reason is missing: add it (CamelCase reason")


def test_an_error_without_a_sentence_of_its_own_keeps_pydantics() -> None:
    class Even(Document):
        number: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(ValidationError) as raised:
        Even.from_data({"number": 3})
    assert list_problems(raised.value, Even) == (Problem("number", "number is 3: Input should be a multiple of 2", 3),)


def test_numbers_that_yaml_can_write_and_json_cannot_are_refused() -> None:
    (problem,) = _problems(make_data({"evaluation": {"gate": [{"metric": "f1", "min": float("nan")}]}}))
    assert problem.message == "spec.evaluation.gate[0].min must be a finite number, not NaN: write a finite number"


def _problems(data: object) -> tuple[Problem, ...]:
    with pytest.raises(ValidationError) as raised:
        FineTuneJob.from_data(data)
    return list_problems(raised.value)
