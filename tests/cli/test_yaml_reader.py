from __future__ import annotations

import pytest

from finetune_cli.yaml_reader import Position, YamlError, read_documents


def test_values_and_positions_of_fields_and_items() -> None:
    (document,) = read_documents("spec:\n  rate: 2e-5\n  gate:\n    - {metric: f1}\n    - metric: loss\n")
    assert document.value == {"spec": {"rate": 2e-5, "gate": [{"metric": "f1"}, {"metric": "loss"}]}}
    assert document.locate(("spec", "rate")) == Position(2, 9)
    assert document.locate(("spec", "rate"), key=True) == Position(2, 3)
    assert document.locate(("spec", "gate", 1)) == Position(5, 7)
    assert document.locate(("spec", "gate", 1, "metric")) == Position(5, 15)


def test_an_absent_field_is_located_at_what_was_written_around_it() -> None:
    (document,) = read_documents("---\nspec:\n  data: {}\n")
    assert document.locate(("spec", "data", "train", "source"), key=True) == Position(3, 3)
    assert document.locate(("metadata",), key=True) == Position(2, 1)


def test_empty_documents_are_left_out() -> None:
    documents = read_documents("---\n# only words\n---\na: 1\n---\n---\nb: 2\n")
    assert [(document.value, document.position.line) for document in documents] == [({"a": 1}, 4), ({"b": 2}, 7)]


def test_quoted_and_tagged_texts_stay_texts() -> None:
    (document,) = read_documents("""a: ["5", '2e-5', !!str 5, "yes", !!int "7"]""")
    assert document.value == {"a": ["5", "2e-5", "5", "yes", 7]}


def test_anchors_and_merges_as_in_kubectl() -> None:
    (document,) = read_documents("base: &base {a: 1, b: 2}\nown: {b: 3, <<: *base}\nsame: *base\n")
    assert document.value == {"base": {"a": 1, "b": 2}, "own": {"b": 3, "a": 1}, "same": {"a": 1, "b": 2}}


def test_keys_are_texts_as_in_json() -> None:
    assert read_documents("{1: a, yes: b, 1.5: c, ~: d}")[0].value == {"1": "a", "true": "b", "1.5": "c", "null": "d"}


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", Position(3, 1), "a is written twice (first in line 1)"),
        ("a:\n  b: {c: 1, c: 2}\n", Position(2, 13), "a.b.c is written twice"),
        ("a: [1\n", Position(2, 1), "expected ',' or ']'"),
        ("a:\n\t- b\n", Position(2, 1), "indent with spaces"),
        ("a: &x [*x]\n", Position(1, 4), "contains itself"),
        ("a: &x {<<: &y {<<: *x}}\n", Position(1, 12), "<< merges other maps only"),
        ("a: .nan\n", Position(1, 4), ".nan is no number"),
        ("a: !secret b\n", Position(1, 4), "tag !secret has no meaning here"),
        ("a: !!set {b}\n", Position(1, 4), "has no meaning here"),
        ("? [a]\n: b\n", Position(1, 3), "a field name must be a word"),
        ("a: \x01\n", Position(1, 1), "U+0001 is not allowed"),
    ],
)
def test_what_kubectl_would_not_read_is_refused_with_its_place(text: str, position: Position, words: str) -> None:
    with pytest.raises(YamlError) as caught:
        read_documents(text)
    assert caught.value.position == position
    assert words in str(caught.value)


def test_a_document_that_explodes_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 7)]
    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_documents("\n".join(lines))
