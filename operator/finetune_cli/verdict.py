"""What the end of a local run means: exit code, the words for people, the document for programs.

Must not ask the agent or the store anything: it is given what they said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from finetune_cli.output import data, talk
from finetune_cli.run_folder import RunFolder
from finetune_contract.exits import CommandExit, FailureClass, classify_exit
from finetune_contract.names import Reason
from finetune_contract.progress import EvaluationResult, Failure, GateResult, Outcome
from finetune_contract.status import AttemptStatus

_SHOWN_LINES = 8


@dataclass(frozen=True)
class Verdict:
    """The end of a run."""

    job: str
    exit_code: CommandExit
    message: str
    step: int = 0
    outcome: Outcome | None = None
    failure: Failure | None = None
    attempts: tuple[AttemptStatus, ...] = ()
    """Attempts of this command, oldest first."""

    def to_data(self) -> dict[str, Any]:
        """The verdict for --output json."""
        results = {CommandExit.DONE: "succeeded", CommandExit.STOPPED: "stopped"}
        return {
            "job": self.job,
            "result": results.get(self.exit_code, "failed"),
            "message": self.message,
            "step": self.step,
            "outcome": self.outcome.to_data() if self.outcome else None,
            "failure": self.failure.to_data() if self.failure else None,
            "attempts": [attempt.to_data() for attempt in self.attempts],
        }


def judge_outcome(job: str, outcome: Outcome) -> Verdict:
    """The verdict of a job that has its outcome."""
    code = CommandExit.DONE if outcome.succeeded else CommandExit.FAILED
    return Verdict(job, code, outcome.message, outcome.step, outcome, outcome.failure)


def judge_stop(job: str, step: int) -> Verdict:
    """The verdict of a job that was stopped; step: its newest verified checkpoint, 0 without one."""
    message = f"stopped at step {step:,}; the same command resumes there"
    if not step:
        message = "stopped before the first checkpoint; the same command begins again"
    return Verdict(job, CommandExit.STOPPED, message, step)


def judge_kill(job: str, step: int) -> Verdict:
    """The verdict of a job whose user did not wait for the checkpoint."""
    where = f"from its last verified checkpoint, step {step:,}" if step else "from the beginning"
    return Verdict(job, CommandExit.FAILED, f"ended without a checkpoint; the same command resumes {where}", step)


def judge_deadline(job: str, seconds: int, step: int) -> Verdict:
    """The verdict of a job that ran too long."""
    where = f"at step {step:,}" if step else "before its first checkpoint"
    message = (
        f"spec.lifecycle.activeDeadlineSeconds ({seconds}) is over; the job was stopped {where}:"
        " raise it, and the same command resumes"
    )
    failure = Failure(failure_class=FailureClass.USER, reason=Reason.DEADLINE_EXCEEDED, message=message)
    return judge_failure(job, failure, step)


def judge_failure(job: str, failure: Failure, step: int, message: str = "") -> Verdict:
    """The verdict of a job that failed; `message`: why it is not tried again, where that is not the failure itself."""
    return Verdict(job, CommandExit.FAILED, message or failure.message, step, failure=failure)


def describe_lost_agent(exit_code: int, last_lines: tuple[str, ...], at: float) -> Failure:
    """The failure of an agent that ended by itself, which it never should."""
    how = f"by signal {-exit_code}" if exit_code < 0 else f"with exit code {exit_code}"
    return Failure(
        failure_class=classify_exit(exit_code) or FailureClass.CODE,
        reason=Reason.CODE_CRASH,
        message=f"the agent ended {how} before the job did: see its last lines",
        exit_code=exit_code,
        last_lines=last_lines,
        at=at,
    )


def print_verdict(verdict: Verdict, folder: RunFolder) -> None:
    """Print the end for people: figures to stdout, what went wrong and where to look to stderr."""
    if verdict.outcome is not None:
        _print_outcome(verdict, verdict.outcome)
    else:
        style = "bold yellow" if verdict.exit_code is CommandExit.STOPPED else "bold red"
        talk().print(f"{verdict.job}: {verdict.message}", style=style, markup=False)
    if verdict.failure is not None:
        _print_lines(verdict.failure)
    if len(verdict.attempts) > 1:
        talk().print(describe_attempts(verdict.attempts))
    if verdict.exit_code is CommandExit.FAILED:
        talk().print(f"Logs: {folder.log} (each rank's own: {folder.work}/attempt-*/rank-*.log)", markup=False)


def list_metrics(evaluation: EvaluationResult) -> list[tuple[str, float | None, float | None, float | None]]:
    """(metric, before training, validation, test) of the whole; figures of single classes stand in the report."""
    names = dict.fromkeys((*evaluation.test, *evaluation.validation))
    return [
        (name, evaluation.baseline.get(name), evaluation.validation.get(name), evaluation.test.get(name))
        for name in sorted(names)
        if "/" not in name
    ]


def describe_gate(gate: GateResult) -> str:
    """One gate in a line."""
    bounds = [f">= {gate.min:g}"] if gate.min is not None else []
    bounds += [f"<= {gate.max:g}"] if gate.max is not None else []
    value = "not measured" if gate.value is None else f"{gate.value:.4f}"
    return (
        f"{gate.split} {gate.metric} {value}, asked for {' and '.join(bounds)}: {'passed' if gate.passed else 'missed'}"
    )


def describe_attempts(attempts: tuple[AttemptStatus, ...]) -> str:
    """How often the job was begun again, and what that cost."""
    lost = sum(attempt.lost_steps for attempt in attempts)
    again = f"{lost:,} steps were done again" if lost else "no step was lost"
    return f"{len(attempts)} attempts; {again}"


def _print_outcome(verdict: Verdict, outcome: Outcome) -> None:
    out = data()
    out.print(
        f"{verdict.job}: {verdict.message}", style="bold green" if outcome.succeeded else "bold red", markup=False
    )
    if outcome.evaluation is not None:
        out.print(_metrics_table(outcome.evaluation))
        for gate in outcome.evaluation.gate:
            out.print(f"Gate:   {describe_gate(gate)}", markup=False)
    if outcome.published is not None:
        out.print(f"Model:  {outcome.published.uri}", markup=False)
    if outcome.report is not None:
        out.print(f"Report: {outcome.report}", markup=False)


def _metrics_table(evaluation: EvaluationResult) -> Table:
    table = Table("Metric", box=box.SIMPLE_HEAD, pad_edge=False)
    rows = list_metrics(evaluation)
    with_baseline = any(row[1] is not None for row in rows)
    for title in ("Before (test)", "Validation", "Test") if with_baseline else ("Validation", "Test"):
        table.add_column(title, justify="right")
    for name, *values in rows:
        shown = values if with_baseline else values[1:]
        table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in shown))
    return table


def _print_lines(failure: Failure) -> None:
    shown = failure.last_lines[-_SHOWN_LINES:]
    folded = len(failure.last_lines) - len(shown)
    if folded > 0:
        talk().print(f"  ... {folded} earlier lines are in the log", style="dim")
    for line in shown:
        talk().print(f"  {line}", style="dim", markup=False)
