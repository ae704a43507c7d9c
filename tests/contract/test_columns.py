"""Which columns a job reads: what is written, and the task's own names for the rest."""

from __future__ import annotations

import pytest

from finetune_contract.spec import Columns, DataSource, DataSpec
from finetune_contract.spec.columns import list_columns, resolve_columns
from finetune_contract.spec.task import TASK_COLUMNS
from tests.contract.make import make_job


@pytest.mark.parametrize(
    ("task", "written", "resolved"),
    [
        ("text-classification", {}, {"text": "text", "label": "label"}),
        ("text-classification", {"text": "body"}, {"text": "body", "label": "label"}),
        ("text-classification", {"textPair": "b"}, {"text": "text", "label": "label", "textPair": "b"}),
        ("text-generation", {}, {"messages": "messages"}),
        ("text-generation", {"messages": "chat"}, {"messages": "chat"}),
        ("text-generation", {"completion": "answer"}, {"prompt": "prompt", "completion": "answer"}),
        ("text-generation", {"text": "text"}, {"text": "text"}),
        ("image-text-to-text", {"image": "png"}, {"image": "png", "messages": "messages"}),
        ("image-text-to-text", {"prompt": "q"}, {"image": "image", "prompt": "q", "completion": "completion"}),
        ("sentence-similarity", {"negatives": "n"}, {"query": "query", "positive": "positive", "negatives": "n"}),
    ],
)
def test_written_columns_choose_the_set(task: str, written: dict[str, str], resolved: dict[str, str]) -> None:
    assert resolve_columns(make_job({"task": task, "data": {"columns": written}}).spec) == resolved


@pytest.mark.parametrize("task", TASK_COLUMNS)
def test_every_task_has_columns_without_a_word(task: str) -> None:
    names = resolve_columns(make_job({"task": task}).spec)
    assert tuple(names) == TASK_COLUMNS[task][0]
    assert set(names) <= set(list_columns(task))
    assert set(list_columns(task)) <= set(Columns().model_dump(by_alias=True))


def test_columns_that_do_not_stand_together_are_told_apart() -> None:
    data = DataSpec(train=DataSource(source="s3://a/b"), columns=Columns(messages="m", text="t"))
    spec = make_job({"task": "text-generation"}).spec.model_copy(update={"data": data})
    with pytest.raises(ValueError, match=r"messages, text do not stand together .* write messages, or prompt and"):
        resolve_columns(spec)
