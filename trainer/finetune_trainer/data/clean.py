"""Cleaning of text columns, as `data.clean` wishes. Pure."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from typing import Final

from finetune_contract.spec.data import CleanSpec
from finetune_trainer.data.columns import Values

CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MARKUP: Final = re.compile(r"(?is)<(script|style)\b.*?</\1\s*>|<!--.*?-->|</?[a-z][^<>]*>")
SPACE: Final = re.compile(r"\s+")


def clean_text(text: str, spec: CleanSpec) -> str:
    """One text, cleaned."""
    if spec.strip_html:
        text = html.unescape(MARKUP.sub(" ", text))
    if spec.normalize_unicode:
        text = CONTROL.sub("", unicodedata.normalize("NFC", text))
    if spec.collapse_whitespace:
        text = SPACE.sub(" ", text).strip()
    return text


def clean_values(values: Values, spec: CleanSpec) -> Values:
    """One row, cleaned; classes stay as they are, chats are cleaned message by message."""
    return {column: _clean_column(column, text, spec) for column, text in values.items()}


def is_too_short(values: Values, spec: CleanSpec) -> bool:
    """Whether a text of the row is shorter than `minCharacters` (white space at its ends does not count)."""
    texts = [_spoken(column, text) for column, text in values.items() if column not in ("label", "prompt")]
    return any(len(text.strip()) < spec.min_characters for text in texts)


def _clean_column(column: str, text: str, spec: CleanSpec) -> str:
    if column == "label":
        return text
    if column == "messages":
        messages = json.loads(text)
        cleaned = [{**message, "content": clean_text(message["content"], spec)} for message in messages]
        return json.dumps(cleaned, ensure_ascii=False)
    return clean_text(text, spec)


def _spoken(column: str, text: str) -> str:
    if column != "messages":
        return text
    return "".join(message["content"] for message in json.loads(text) if message["role"] == "assistant")
