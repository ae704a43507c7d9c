"""One row of the user's file as the task's columns: what a value may be, and words for what it must not be. Pure.

Every column becomes text: classes as their names, chats as JSON. So parts are plain tables whatever the format was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from finetune_trainer.errors import DataError

Values = dict[str, str]
"""Task column -> text."""

ROLES: Final = ("system", "user", "assistant", "tool")
INPUTS: Final = ("text", "textPair", "messages", "prompt", "completion")
"""Columns that say what a row is about; a class is not one of them."""


class ValueProblemError(ValueError):
    """What is wrong with a value, without the place."""


def check_columns(columns: Mapping[str, str], found: Iterable[str], uri: str) -> None:
    """Raise `DataError` for the first column of the task that the file lacks, naming those that it has."""
    names = list(found)
    for task_column, file_column in columns.items():
        if file_column not in names:
            listed = ", ".join(names[:50]) or "none"
            raise DataError(
                f"data.columns.{task_column}: column '{file_column}' is not in {uri}; found: {listed}. "
                f"Set data.columns.{task_column} to one of them"
            )


def read_values(row: Mapping[str, Any], columns: Mapping[str, str], place: str) -> Values:
    """The task's columns of one row. Raises `DataError` that names the place and what was found there."""
    values = {}
    for task_column, file_column in columns.items():
        try:
            values[task_column] = READERS.get(task_column, read_text)(row.get(file_column))
        except ValueProblemError as problem:
            raise DataError(
                f"{place}: column '{file_column}' {problem}; mend or remove the row, or set data.columns.{task_column}"
            ) from problem
    return values


def read_text(value: Any) -> str:
    """A text; a missing one is empty, so that cleaning counts it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueProblemError(f"holds {_describe(value)} where text is expected")


def read_label(value: Any) -> str:
    """A class: a string or an integer."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise ValueProblemError(f"holds {_describe(value)} where a class (a string or an integer) is expected")


def read_messages(value: Any) -> str:
    """A chat as JSON: a list of {role, content}."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueProblemError("holds text that is not JSON where a list of messages is expected") from error
    if not isinstance(value, list) or not value:
        raise ValueProblemError(f"holds {_describe(value)} where a list of messages is expected")
    messages = [_read_message(message, number) for number, message in enumerate(value, start=1)]
    return json.dumps(messages, ensure_ascii=False)


def _read_message(message: Any, number: int) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ValueProblemError(f"holds {_describe(message)} as message {number} where {{role, content}} is expected")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueProblemError(f"has role {role!r} in message {number}; roles are {', '.join(ROLES)}")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
        content = "".join(text for text in texts if isinstance(text, str)) if len(texts) == len(content) else None
    if not isinstance(content, str):
        raise ValueProblemError(f"has no text as content of message {number}")
    return {"role": str(role), "content": content}


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order of the model's ids: integers by value, names by alphabet."""
    names = set(labels)
    if all(_is_integer(name) for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdigit() and name.isascii()


def _describe(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return f"{type(value).__name__} {shown[:60]}"


READERS: Final[dict[str, Callable[[Any], str]]] = {"label": read_label, "messages": read_messages}
"""Task columns that are not plain text."""
