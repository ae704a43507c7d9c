from __future__ import annotations

import io

import pytest
from rich.console import Console

from finetune_cli import display
from finetune_cli.display import LineDisplay, count_done, open_display
from finetune_cli.output import talk
from finetune_cli.progress_text import describe_training, format_seconds
from finetune_contract.exits import FailureClass
from finetune_contract.progress import DataPart, DataSummary, Failure, PreparationProgress, Progress, StepProgress
from tests.cli.make import make_progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "--"), (0, "0:00"), (59.6, "1:00"), (125, "2:05"), (3723, "1:02:03")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def test_training_shows_step_loss_and_time_to_go() -> None:
    step = StepProgress(step=120, total_steps=4000, loss=0.51234, eta_seconds=63.0)
    text = describe_training("Training", step, {"f1": 0.9, "precision/spam": 0.1, "loss": 0.4})
    assert text == "step 120/4,000  loss 0.5123  ETA 1:03  validation f1 0.9 loss 0.4"


def test_time_to_go_is_unknown_before_the_second_step() -> None:
    assert describe_training("Training", StepProgress(step=1, total_steps=10), {}) == "step 1/10  ETA --"


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (make_progress(phase="Preparing", preparation=PreparationProgress(stage="read", done=3, total=9)), (3, 9)),
        (make_progress(phase="Preparing", preparation=PreparationProgress(stage="read", done=3)), (0, None)),
        (make_progress(phase="Preparing"), (0, None)),
    ],
)
def test_a_bar_is_as_long_as_what_is_known(progress: Progress, expected: tuple[int, int | None]) -> None:
    assert count_done("prepare", progress) == expected


class Story:
    """Shows a list of states on lines, with a clock that the test turns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.lines: list[str] = []
        monkeypatch.setattr(talk(), "print", lambda text, **options: self.lines.append(str(text)))
        self.display = LineDisplay(clock=lambda: self.now)

    def show(self, seconds: float, progress: Progress) -> None:
        self.now += seconds
        self.display.show(progress)


def test_the_first_evaluation_is_of_the_model_before_training() -> None:
    assert describe_training("Evaluating", StepProgress(), {}) == "the model before training"


def test_a_line_that_says_nothing_new_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    preparing = make_progress(phase="Preparing", preparation=PreparationProgress(stage="model"))
    story.show(0, preparing)
    story.show(60, preparing)
    assert story.lines == ["preparing: model"]


def test_one_line_a_phase_and_one_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    data = DataSummary(fingerprint="x", parts={"train": DataPart(rows=80), "test": DataPart(rows=10)}, max_length=64)
    story.show(0, make_progress(phase="Preparing", preparation=PreparationProgress(stage="tokenize", done=5, total=10)))
    story.show(1, make_progress(phase="Training", data=data, step=StepProgress(step=1, total_steps=10)))
    story.show(1, make_progress(phase="Training", data=data, step=StepProgress(step=2, total_steps=10)))
    story.show(9, make_progress(phase="Training", data=data, step=StepProgress(step=9, total_steps=10)))
    story.show(1, make_progress(phase="Finished", data=data))
    assert story.lines == [
        "preparing: tokenize 5/10",
        "training: step 1/10  ETA --",
        "training: step 9/10  ETA --",
        "finished",
    ]


def test_a_warning_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    story.show(0, make_progress(phase="Training", warnings=("3 rows [x] were cut",)))
    story.show(1, make_progress(phase="Training", warnings=("3 rows [x] were cut", "the bucket is slow")))
    assert [line for line in story.lines if "warning" in line] == [
        "[yellow]warning:[/] 3 rows \\[x] were cut",
        "[yellow]warning:[/] the bucket is slow",
    ]


def test_a_failure_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch)
    failure = Failure(failure_class=FailureClass.USER, reason="DataError", message="no column")
    story.show(0, make_progress(phase="Failed", failure=failure))
    assert story.lines == ["failed"]


def test_bars_complete_the_stages_that_are_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(display, "talk", lambda: console)
    bars = open_display()
    data = DataSummary(fingerprint="x", parts={"train": DataPart(rows=80)}, max_length=64)
    step = StepProgress(step=30, total_steps=60, loss=0.5)
    bars.show(make_progress(phase="Preparing", preparation=PreparationProgress(stage="read")))
    bars.show(make_progress(phase="Training", data=data, step=step))
    bars.show(make_progress(phase="Failed", data=data, step=step))
    bars.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    *_, prepare, train = [line for line in shown.splitlines() if "Prepare data" in line or "Train" in line]
    assert "80 train rows" in prepare
    assert "step 30/60" in train
    assert "Evaluate" not in shown


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "talk", lambda: Console(file=io.StringIO(), force_terminal=False))
    assert isinstance(open_display(), LineDisplay)
