"""Which columns a task reads, from what the user wrote and what the task needs.

The rules are shared by the API server (CEL) and Python; whether the file has such columns only data preparation knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_contract.document import Rule
from finetune_contract.spec.task import TASK_COLUMNS, TASK_OPTIONAL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetune_contract.spec.job import FineTuneJobSpec


def list_columns(task: str) -> tuple[str, ...]:
    """Every column that a task can read, by the names users see."""
    names = [name for columns in TASK_COLUMNS[task] for name in columns]
    return tuple(dict.fromkeys((*names, *TASK_OPTIONAL_COLUMNS.get(task, ()))))


def resolve_columns(spec: FineTuneJobSpec) -> dict[str, str]:
    """Task column -> file column, complete: of several column sets the one that the written columns belong to.

    The first set (messages for text-generation) stands for a job that names none. An optional column is read only
    when it is written. Raises ValueError when the written columns fit no set of the task, which a validated spec
    excludes.
    """
    written = spec.data.columns.to_data()
    optional = TASK_OPTIONAL_COLUMNS.get(spec.task, ())
    for columns in TASK_COLUMNS[spec.task]:
        if written.keys() <= {*columns, *optional}:
            chosen = (*columns, *(name for name in optional if name in written))
            return {name: written.get(name, name) for name in chosen}
    raise ValueError(
        f"data.columns: {', '.join(sorted(written))} do not stand together in task {spec.task}; "
        f"write {_describe_sets(spec.task)}"
    )


def make_column_rules() -> tuple[Rule, ...]:
    """Rules of FineTuneJobSpec: only the task's own columns, and of several column sets only one."""
    alternatives = [task for task, sets in TASK_COLUMNS.items() if len(sets) > 1]
    return (_make_foreign_rule(), *map(_make_one_set_rule, alternatives))


def _make_foreign_rule() -> Rule:
    """One rule for all tasks, that looks at `data.columns` once: the API server pays for each look."""
    readers: dict[str, list[str]] = {}
    for task in TASK_COLUMNS:
        for name in list_columns(task):
            readers.setdefault(name, []).append(task)
    is_read = " && ".join(f"(!has(columns.{name}) || self.task in {readers[name]})" for name in sorted(readers))
    lists = {task: ", ".join(list_columns(task)) for task in TASK_COLUMNS}
    return Rule(
        cel=f"!has(self.data.columns) || [self.data.columns].all(columns, {is_read})",
        message="data.columns: the task does not read all of these columns; remove the others",
        holds=lambda spec: spec.data.columns.to_data().keys() <= set(list_columns(spec.task)),
        field="data.columns",
        explain=lambda spec: _tell_foreign(spec.task, lists[spec.task]),
        message_expression="'" + _tell_foreign("' + self.task + '", f"' + {lists}[self.task] + '") + "'",
    )


def _tell_foreign(task: str, columns: str) -> str:
    return f"data.columns: task {task} reads only {columns}; remove the other columns"


def _make_one_set_rule(task: str) -> Rule:
    known = list_columns(task)
    outside = [[name for name in known if name not in columns] for columns in TASK_COLUMNS[task]]
    fits = " || ".join(f"({_none_written(names)})" for names in outside)
    return Rule(
        cel=f"self.task != '{task}' || !has(self.data.columns) || {fits}",
        message=f"data.columns: task {task} reads one set of columns; write {_describe_sets(task)}",
        holds=lambda spec: spec.task != task or any(not _is_written(spec, names) for names in outside),
        field="data.columns",
    )


def _none_written(names: Iterable[str]) -> str:
    return " && ".join(f"!has(self.data.columns.{name})" for name in names)


def _is_written(spec: FineTuneJobSpec, names: Iterable[str]) -> bool:
    return not spec.data.columns.to_data().keys().isdisjoint(names)


def _describe_sets(task: str) -> str:
    return ", or ".join(" and ".join(columns) for columns in TASK_COLUMNS[task])
