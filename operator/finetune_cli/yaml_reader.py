"""Reads YAML as kubectl reads it, and remembers where everything stands.

Values by the rules of yaml_scalars, positions (line, column, from 1) of every field and item by its path. A field
written twice is an error here, although kubectl takes the last one: nobody means it. Must not know what a job is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from finetune_cli.yaml_scalars import resolve_scalar

Path = tuple[str | int, ...]

_PLAIN: Final = "plain"
_MAX_VALUES: Final = 100_000
_STRING_TAG: Final = "tag:yaml.org,2002:str"
_CORE_TAGS: Final = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
_COLLECTION_TAGS: Final = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, order=True)
class Position:
    """Where something stands in a file; line and column count from 1."""

    line: int
    column: int


class YamlError(Exception):
    """The text is no YAML that kubectl would read; `position` says where."""

    def __init__(self, message: str, position: Position) -> None:
        super().__init__(message)
        self.position = position


@dataclass
class YamlDocument:
    """One document of a file."""

    position: Position
    value: Any = None
    keys: dict[Path, Position] = field(default_factory=dict)
    """Path -> where its name stands (for a list item: where its value stands)."""
    values: dict[Path, Position] = field(default_factory=dict)
    """Path -> where its value stands."""

    def locate(self, path: Path, *, key: bool = False) -> Position:
        """Position of the path, or of the nearest field around it that was written."""
        table = self.keys if key else self.values
        for length in range(len(path), 0, -1):
            if path[:length] in table:
                return table[path[:length]]
        return self.position


def read_documents(text: str) -> tuple[YamlDocument, ...]:
    """All documents of the text that are not empty. Raises YamlError."""
    try:
        nodes = list(yaml.compose_all(text, _Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _position(mark) if mark is not None else Position(1, 1)
        raise YamlError(_describe(error), position) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(
            f"character {_name(error.character)} is not allowed in YAML; remove it", Position(line, 1)
        ) from error
    documents = (_Builder(node).build() for node in nodes if node is not None)
    return tuple(document for document in documents if document.value is not None)


class _Loader(yaml.SafeLoader):
    """Composes nodes only; a plain scalar keeps a tag of its own, so that `5` and `!!str 5` stay apart."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        if kind is yaml.ScalarNode:
            return _STRING_TAG
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]


class _Builder:
    """Turns the nodes of one document into values and positions."""

    def __init__(self, root: yaml.Node) -> None:
        self._root = root
        self._document = YamlDocument(position=_position(root.start_mark))
        self._open: list[yaml.Node] = []
        self._count = 0

    def build(self) -> YamlDocument:
        self._document.value = self._value(self._root, ())
        return self._document

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES:
            raise YamlError(f"the document has more than {_MAX_VALUES:,} values; split it", _position(node.start_mark))
        if node in self._open:
            raise YamlError("an anchor contains itself; write the value out", _position(node.start_mark))
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTION_TAGS:
            raise YamlError(f"tag {node.tag} has no meaning here; remove it", _position(node.start_mark))
        self._document.values[path] = _position(node.start_mark)
        self._open.append(node)
        try:
            return self._construct(node, path)
        finally:
            self._open.pop()

    def _construct(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(child, (*path, index)) for index, child in enumerate(node.value)]
        return _scalar(node)

    def _item(self, node: yaml.Node, path: Path) -> Any:
        self._document.keys[path] = _position(node.start_mark)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        own = [(key, child) for key, child in node.value if not _is_merge(key)]
        merged = [pair for key, child in node.value if _is_merge(key) for pair in _merged_pairs(child)]
        result: dict[str, Any] = {}
        for key, child in own:
            name = _key(key)
            if name in result:
                first = self._document.keys[*path, name].line
                raise YamlError(
                    f"{_join(path, name)} is written twice (first in line {first}); remove one",
                    _position(key.start_mark),
                )
            self._document.keys[*path, name] = _position(key.start_mark)
            result[name] = self._value(child, (*path, name))
        for key, child in merged:
            name = _key(key)
            if name not in result:
                self._document.keys[*path, name] = _position(key.start_mark)
                result[name] = self._value(child, (*path, name))
        return result


def _scalar(node: yaml.Node) -> Any:
    if node.tag == _STRING_TAG:
        return node.value
    if node.tag == _PLAIN or node.tag in _CORE_TAGS:
        try:
            return resolve_scalar(node.value)
        except ValueError as error:
            raise YamlError(f"{node.value} is no number; write a finite one", _position(node.start_mark)) from error
    raise YamlError(f"tag {node.tag} has no meaning here; remove it", _position(node.start_mark))


def _key(node: yaml.Node) -> str:
    """Name of a field as JSON has it: a key that reads as a number or boolean becomes its text."""
    if not isinstance(node, yaml.ScalarNode):
        raise YamlError("a field name must be a word, not a list or a map", _position(node.start_mark))
    value = _scalar(node)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.tag == _PLAIN and key.value == "<<"


def _merged_pairs(node: yaml.Node, around: tuple[yaml.Node, ...] = ()) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(source, yaml.MappingNode) or source in around:
            raise YamlError("<< merges other maps only; name an anchor of a map", _position(source.start_mark))
        yield from ((key, child) for key, child in source.value if not _is_merge(key))
        for key, child in source.value:
            if _is_merge(key):
                yield from _merged_pairs(child, (*around, source))


def _name(character: int | str) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"


def _position(mark: yaml.Mark) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _join(path: Path, name: str) -> str:
    return ".".join(str(part) for part in (*path, name))


def _describe(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    hint = "; indent with spaces" if "'\\t'" in str(error.problem) else "; check indentation, quotes and colons"
    return "no YAML: " + ", ".join(parts) + hint
