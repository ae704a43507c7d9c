"""Single rows: what a value may be, how text is cleaned, when two rows are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_contract.spec.data import CleanSpec
from finetune_trainer.data.clean import clean_text, clean_values, is_too_short
from finetune_trainer.data.columns import check_columns, order_labels, read_values
from finetune_trainer.data.duplicates import digest_input, digest_row
from finetune_trainer.errors import DataError


@pytest.mark.parametrize(
    ("value", "label"), [("spam", "spam"), (" spam ", "spam"), (1, "1"), (-2, "-2"), (3.0, "3"), (True, "true")]
)
def test_a_class_is_a_string_or_an_integer(value: Any, label: str) -> None:
    assert read_values({"label": value}, {"label": "label"}, "here") == {"label": label}


@pytest.mark.parametrize(("column", "value", "words"), [
    ("label", None, "holds nothing where a class (a string or an integer) is expected"),
    ("label", "", "holds nothing where a class"),
    ("label", 0.5, "holds float 0.5 where a class"),
    ("label", ["a"], 'holds list ["a"] where a class'),
    ("text", {"a": 1}, 'holds dict {"a": 1} where text is expected'),
    ("messages", "hello", "holds text that is not JSON where a list of messages is expected"),
    ("messages", [], "holds list [] where a list of messages is expected"),
    ("messages", ["hi"], "holds str \"hi\" as message 1 where {role, content} is expected"),
    ("messages", [{"role": "bot", "content": "hi"}], "has role 'bot' in message 1; roles are system, user"),
    ("messages", [{"role": "user", "content": None}], "has no text as content of message 1"),
])  # fmt: skip
def test_a_value_that_cannot_be_used_is_named_with_its_place(column: str, value: Any, words: str) -> None:
    with pytest.raises(DataError) as raised:
        read_values({"c": value}, {column: "c"}, "s3://ml/train.jsonl line 7")
    message = str(raised.value)
    assert message.startswith("s3://ml/train.jsonl line 7: column 'c' ")
    assert words in message
    assert message.endswith(f"; mend or remove the row, or set data.columns.{column}")


def test_a_missing_column_is_named_with_those_that_there_are() -> None:
    with pytest.raises(DataError) as raised:
        check_columns({"text": "body", "label": "label"}, ["a", "body", "c"], "s3://ml/train.jsonl")
    assert str(raised.value) == (
        "data.columns.label: column 'label' is not in s3://ml/train.jsonl; found: a, body, c. "
        "Set data.columns.label to one of them"
    )


def test_chats_are_read_from_lists_json_and_text_parts() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    expected = json.dumps([{"role": "user", "content": "ab"}])
    assert read_values({"m": parts}, {"messages": "m"}, "") == {"messages": expected}
    assert read_values({"m": json.dumps(parts)}, {"messages": "m"}, "") == {"messages": expected}


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [(["10", "9", "-1"], ("-1", "9", "10")), (["b", "a", "10"], ("10", "a", "b")), (["a", "a"], ("a",))],
)
def test_classes_are_ordered_by_number_or_by_alphabet(labels: list[str], ordered: tuple[str, ...]) -> None:
    assert order_labels(labels) == ordered


@pytest.mark.parametrize(
    ("spec", "text", "cleaned"),
    [
        ({}, "e\u0301\x00 a\tb", "\u00e9 a\tb"),
        ({"normalizeUnicode": False}, "e\u0301", "e\u0301"),
        ({"collapseWhitespace": True}, "  a \n\t b ", "a b"),
        ({"stripHtml": True, "collapseWhitespace": True}, "<p>1 &lt; 2</p><script>x()</script>", "1 < 2"),
        ({"stripHtml": True}, "1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
    ],
)
def test_text_is_cleaned_as_wished(spec: dict[str, Any], text: str, cleaned: str) -> None:
    assert clean_text(text, CleanSpec.from_data(spec)) == cleaned


def test_chats_are_cleaned_message_by_message_and_classes_are_left_alone() -> None:
    chat = json.dumps([{"role": "assistant", "content": "a  b"}])
    cleaned = clean_values({"messages": chat, "label": "a  b"}, CleanSpec(collapse_whitespace=True))
    assert cleaned == {"messages": json.dumps([{"role": "assistant", "content": "a b"}]), "label": "a  b"}


@pytest.mark.parametrize(
    ("values", "short"),
    [
        ({"text": "abc", "label": "x"}, False),
        ({"text": " ab ", "label": "x"}, True),
        ({"text": "abc", "textPair": ""}, True),
        ({"prompt": "", "completion": "abc"}, False),
        ({"messages": json.dumps([{"role": "user", "content": "abcdef"}])}, True),
        ({"messages": json.dumps([{"role": "assistant", "content": "abc"}])}, False),
    ],
)
def test_a_row_is_too_short_by_what_is_learnt_from(values: dict[str, str], short: bool) -> None:
    assert is_too_short(values, CleanSpec(min_characters=3)) is short


def test_rows_are_equal_up_to_white_space_and_the_input_leaves_out_the_class() -> None:
    row, same = {"text": "a  b", "label": "x"}, {"text": "a b\n", "label": "x"}
    other_class = {"text": "a b", "label": "y"}
    assert digest_row(row) == digest_row(same) != digest_row(other_class)
    assert digest_input(row) == digest_input(other_class) != digest_input({"text": "ab"})
