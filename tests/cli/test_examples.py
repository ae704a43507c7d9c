from __future__ import annotations

from pathlib import Path

import pytest

from finetune_cli.job_file import read_one_job
from finetune_cli.plan import make_plan
from finetune_contract.spec.strategy import SUPPORTED_METHODS
from finetune_contract.spec.task import SUPPORTED_TASKS

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.yaml"))
SCREEN_LINES = 40


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_an_example_is_a_valid_job_of_at_most_a_screen_that_says_why(file: Path) -> None:
    job = read_one_job(file)
    lines = file.read_text().splitlines()
    assert len(lines) <= SCREEN_LINES
    assert lines[0].startswith("# ")
    assert make_plan(job, {}, EXAMPLES).run.spec == job.spec


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda file: str(file.relative_to(EXAMPLES)))
def test_the_path_of_an_example_is_task_and_method(file: Path) -> None:
    job = read_one_job(file)
    assert (job.spec.task, job.spec.strategy.method) == (file.parent.name, file.stem)


def test_every_supported_task_and_method_has_an_example() -> None:
    found = {(file.parent.name, file.stem) for file in EXAMPLES.glob("*/*.yaml")}
    assert {(task, method) for task in SUPPORTED_TASKS for method in SUPPORTED_METHODS} <= found
