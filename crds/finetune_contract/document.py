"""The one base of every document that crosses a border, and the rules that two validators share.

A `Rule` is written once, as CEL for the API server and as a predicate for Python, so that `kubectl apply` and
`finetune validate` refuse the same jobs with the same words. Must not know any concrete document.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError

BROKEN_RULES: Final = "broken_rules"
"""Type of the pydantic error that carries rules in its context (`rules`): all that a document breaks, not the first."""


@dataclass(frozen=True)
class Rule:
    """A cross-field rule of one document.

    `cel` is the rule as the API server evaluates it on the same node (`self` is the document, camelCase names),
    `holds` the same rule on the Python model, `message` names the field and the remedy; `field` is the path below
    the document that both validators blame ("" blames the document itself).

    Where the words depend on the document, `explain` gives them and `message_expression` is the same in CEL; `message`
    is then what can be said of any document.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field: str = ""
    explain: Callable[[Any], str] | None = None
    message_expression: str = ""

    def blame(self, document: Any) -> Rule:
        """The rule with what is to be said of a document that breaks it."""
        return replace(self, message=self.explain(document)) if self.explain is not None else self

    def to_data(self) -> dict[str, str]:
        """The rule as an entry of x-kubernetes-validations."""
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        expression = {"messageExpression": self.message_expression} if self.message_expression else {}
        return {"rule": self.cel, "message": self.message, **expression, **path}


class Document(BaseModel):
    """A frozen, camelCase, strict model: unknown fields and wrong types are errors, never dropped or coerced."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the rules to the JSON schema, by the name that the API server knows them under."""
        node = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            node["x-kubernetes-validations"] = [rule.to_data() for rule in cls.rules]
        return node

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        broken = tuple(rule.blame(self) for rule in self.rules if not rule.holds(self))
        if broken:
            message = "; ".join(rule.message for rule in broken)
            raise PydanticCustomError(BROKEN_RULES, "{message}", {"message": message, "rules": broken})
        return self

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Validate plain data (as read from YAML or JSON) as strictly as the API server does."""
        return cls.model_validate_json(json.dumps(data), by_alias=True, by_name=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Validate a JSON text."""
        return cls.model_validate_json(text, by_alias=True, by_name=False)

    def to_data(self) -> dict[str, Any]:
        """Plain data with the names users see; what was not set is absent."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return data

    def to_json(self, indent: int | None = None) -> str:
        """The document as JSON text."""
        return json.dumps(self.to_data(), ensure_ascii=False, indent=indent)
