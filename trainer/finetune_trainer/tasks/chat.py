"""Which characters of a rendered chat are the assistant's: by the model's own template, with or without markers.

Most templates carry no `{% generation %}` marker. There, a turn's place is found by rendering the chat once more with a
stand-in for its content: what stands before and after the stand-in must be what stands around the turn. Must not
tokenize.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from finetune_trainer.errors import ModelError
from finetune_trainer.tasks.task import Tokenizer

Message = dict[str, Any]
Span = tuple[int, int]

STAND_IN: Final = "zzSTANDxINzz"
CHANGED: Final = (
    "data.columns.messages: the model's chat template changes what the assistant says, so its tokens cannot be told "
    "apart; add {% generation %} markers to the tokenizer's chat template"
)
MARKER: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


def render_chat(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[str, list[Span]]:
    """The chat as the model sees it, and the spans that the assistant says, ends of turns included.

    Raises `ModelError` where the model has no chat template or its template places turns in a way that cannot be
    followed.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "data.columns.messages: the model has no chat template; choose an instruction-tuned model, or write the "
            "rows as columns prompt and completion"
        )
    text = _render(messages, tokenizer)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = _find_content(text, messages, index, tokenizer)
        closing = _find_closing(messages[: index + 1], tokenizer)
        if closing and text.startswith(closing, end):
            end += len(closing)
        elif index == len(messages) - 1 and tokenizer.eos_token:
            text, end = text[:end] + tokenizer.eos_token, end + len(tokenizer.eos_token)
        spans.append((start, end))
    return text, spans


def has_markers(tokenizer: Tokenizer) -> bool:
    """Whether the template itself says which tokens are the assistant's."""
    return bool(MARKER.search(tokenizer.chat_template or ""))


def _render(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False)
    except Exception as error:
        raise ModelError(f"data.columns.messages: the model's chat template refuses a row: {error}") from error
    return text


def _find_content(text: str, messages: Sequence[Message], index: int, tokenizer: Tokenizer) -> Span:
    before, after = _render_around(messages, index, tokenizer)
    start, end = len(before), len(text) - len(after)
    fits = start <= end and text.startswith(before) and text.endswith(after)
    if not fits or text[start:end].strip() != str(messages[index]["content"]).strip():
        raise ModelError(CHANGED)
    return start, end


def _find_closing(messages: Sequence[Message], tokenizer: Tokenizer) -> str:
    """What ends the last turn, up to its first special token; empty where the template writes no such token."""
    _, after = _render_around(messages, len(messages) - 1, tokenizer)
    closing = _special_tokens(tokenizer).search(after)
    return after[: closing.end()] if closing else ""


def _render_around(messages: Sequence[Message], index: int, tokenizer: Tokenizer) -> tuple[str, str]:
    replaced = [*messages]
    replaced[index] = {**messages[index], "content": STAND_IN}
    before, found, after = _render(replaced, tokenizer).partition(STAND_IN)
    if not found:
        raise ModelError(CHANGED)
    return before, after


def _special_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {tokenizer.eos_token} if tokenizer.eos_token else set()
    return re.compile("|".join(sorted(map(re.escape, special), key=len, reverse=True)) or r"(?!)")
