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
    ends = _end_tokens(tokenizer)
    text = _render(messages, tokenizer)
    last = len(messages) - 1
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start, end = _find_content(text, messages, index, tokenizer)
        closing = ends.match(text, end)
        if closing:
            end = closing.end()
        elif index == last and tokenizer.eos_token:
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
    replaced = [*messages]
    replaced[index] = {**messages[index], "content": STAND_IN}
    before, found, after = _render(replaced, tokenizer).partition(STAND_IN)
    start, end = len(before), len(text) - len(after)
    fits = found and start <= end and text.startswith(before) and text.endswith(after)
    if not fits or text[start:end].strip() != str(messages[index]["content"]).strip():
        raise ModelError(
            "data.columns.messages: the model's chat template changes what the assistant says, so its tokens cannot be "
            "told apart; add {% generation %} markers to the tokenizer's chat template"
        )
    return start, end


def _end_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    special |= {tokenizer.eos_token} if tokenizer.eos_token else set()
    return re.compile(r"\s*(?:" + "|".join(sorted(map(re.escape, special), key=len, reverse=True)) + ")")
