"""The tasks that there are, by name."""

from __future__ import annotations

from finetune_trainer.errors import UserError
from finetune_trainer.tasks import text_classification, text_generation
from finetune_trainer.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (text_classification.TASK, text_generation.TASK)}


def find_task(name: str) -> Task:
    """The task of that name; `UserError` where its code has not landed."""
    if name not in TASKS:
        raise UserError(f"task: {name} is not supported yet; choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name]
