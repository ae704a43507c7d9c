"""`spec.task`: the tasks, by the Hub's names where one exists, and the columns that each of them reads."""

from typing import Final, Literal

TaskName = Literal[
    "text-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "summarization",
    "extractive-summarization",
    "translation",
    "text-generation",
    "sentence-similarity",
    "image-classification",
    "image-text-to-text",
]

TASK_COLUMNS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "text-classification": (("text", "label"),),
    "text-regression": (("text", "value"),),
    "token-classification": (("tokens", "tags"),),
    "question-answering": (("question", "context", "answers"),),
    "summarization": (("text", "summary"),),
    "extractive-summarization": (("sentences", "labels"),),
    "translation": (("source", "target"),),
    "text-generation": (("messages",), ("prompt", "completion"), ("text",)),
    "sentence-similarity": (("query", "positive"),),
    "image-classification": (("image", "label"),),
    "image-text-to-text": (("image", "messages"), ("image", "prompt", "completion")),
}
"""Column sets that a task accepts (alternatives); every column of one of them is needed."""

TASK_OPTIONAL_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "text-classification": ("textPair",),
    "text-regression": ("textPair",),
    "sentence-similarity": ("negatives",),
}

SUPPORTED_TASKS: Final = ("text-classification", "text-generation")
"""Tasks whose code has landed; the others are refused with reason NotYetSupported."""
