from __future__ import annotations

import pytest

from finetune_cli.run_folder import RunFolder
from finetune_cli.verdict import (
    Verdict,
    describe_attempts,
    describe_gate,
    describe_lost_agent,
    judge_deadline,
    judge_failure,
    judge_kill,
    judge_outcome,
    judge_stop,
    list_metrics,
    print_verdict,
)
from finetune_contract.exits import CommandExit, FailureClass
from finetune_contract.progress import EvaluationResult, Failure, GateResult, Published
from finetune_contract.status import AttemptStatus
from tests.cli.make import make_outcome


def make_failure(lines: int = 0) -> Failure:
    return Failure(
        failure_class=FailureClass.USER,
        reason="DataError",
        message="data.columns.label: there is no column kind; the file has text, label",
        last_lines=tuple(f"line {number}" for number in range(lines)),
    )


@pytest.mark.parametrize(
    ("verdict", "code", "words"),
    [
        (judge_outcome("job", make_outcome()), CommandExit.DONE, "The model is published."),
        (judge_outcome("job", make_outcome(succeeded=False, message="missed")), CommandExit.FAILED, "missed"),
        (judge_stop("job", 120), CommandExit.STOPPED, "stopped at step 120; the same command resumes there"),
        (judge_stop("job", 0), CommandExit.STOPPED, "stopped before the first checkpoint"),
        (judge_kill("job", 120), CommandExit.FAILED, "resumes from its last verified checkpoint, step 120"),
        (judge_deadline("job", 60, 120), CommandExit.FAILED, "was stopped at step 120: raise it"),
        (judge_failure("job", make_failure(), 0), CommandExit.FAILED, "there is no column kind"),
        (judge_failure("job", make_failure(), 0, "4 attempts crashed"), CommandExit.FAILED, "4 attempts crashed"),
    ],
)
def test_every_end_has_its_exit_code_and_says_what_next(verdict: Verdict, code: CommandExit, words: str) -> None:
    assert verdict.exit_code is code
    assert words in verdict.message


@pytest.mark.parametrize(
    ("exit_code", "failure_class", "words"),
    [
        (-9, FailureClass.CODE, "the agent ended by signal 9"),
        (1, FailureClass.CODE, "the agent ended with exit code 1"),
        (10, FailureClass.USER, "the agent ended with exit code 10"),
    ],
)
def test_an_agent_that_ended_by_itself_is_a_crash_unless_it_says_otherwise(
    exit_code: int, failure_class: FailureClass, words: str
) -> None:
    failure = describe_lost_agent(exit_code, ("the last line",), at=5.0)
    assert (failure.failure_class, failure.last_lines, failure.at) == (failure_class, ("the last line",), 5.0)
    assert failure.message.startswith(words)


@pytest.mark.parametrize(
    ("lost", "words"), [((3, 0), "2 attempts; 3 steps were done again"), ((0, 0), "2 attempts; no step was lost")]
)
def test_what_restarts_cost_in_a_line(lost: tuple[int, ...], words: str) -> None:
    moment = "2026-01-01T00:00:00Z"
    attempts = tuple(
        AttemptStatus(number=number, start_time=moment, lost_steps=steps) for number, steps in enumerate(lost, 1)
    )
    assert describe_attempts(attempts) == words


def test_the_result_stands_on_stdout(run_folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = EvaluationResult(
        validation={"f1": 0.81, "f1/spam": 0.7},
        test={"f1": 0.79999, "f1/spam": 0.7},
        gate=(GateResult(metric="f1", split="test", value=0.79999, min=0.8, passed=False),),
    )
    outcome = make_outcome(
        evaluation=evaluation,
        published=Published(uri="file:///out/job/published", digest="sha256:0"),
        report="file:///r",
    )
    print_verdict(judge_outcome("job", outcome), run_folder)
    shown = capsys.readouterr()
    assert [line.split() for line in shown.out.splitlines() if line.startswith(" f1")] == [["f1", "0.8100", "0.8000"]]
    assert "Model:  file:///out/job/published" in shown.out
    assert "Report: file:///r" in shown.out
    assert shown.err == ""


def test_a_failure_shows_its_last_lines_folded_and_where_the_logs_lie(
    run_folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    print_verdict(judge_failure("job", make_failure(lines=20), 0), run_folder)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "there is no column kind" in shown.err
    assert "12 earlier lines are in the log" in shown.err
    assert [line for line in shown.err.splitlines() if line.startswith("  line")] == [
        f"  line {n}" for n in range(12, 20)
    ]
    assert str(run_folder.log) in shown.err


@pytest.mark.parametrize(
    ("gate", "text"),
    [
        (
            GateResult(metric="f1", split="test", value=0.5, min=0.4, passed=True),
            "test f1 0.5000, asked for >= 0.4: passed",
        ),
        (
            GateResult(metric="loss", split="validation", value=3.0, min=1.0, max=2.0, passed=False),
            "validation loss 3.0000, asked for >= 1 and <= 2: missed",
        ),
        (
            GateResult(metric="f2", split="test", value=None, max=2.0, passed=False),
            "test f2 not measured, asked for <= 2: missed",
        ),
    ],
)
def test_a_gate_in_a_line(gate: GateResult, text: str) -> None:
    assert describe_gate(gate) == text


def test_metrics_of_single_classes_are_left_to_the_report() -> None:
    evaluation = EvaluationResult(validation={"loss": 1.0}, test={"f1": 0.5, "f1/a": 0.1}, baseline={"f1": 0.2})
    assert list_metrics(evaluation) == [("f1", 0.2, None, 0.5), ("loss", None, 1.0, None)]
