"""What is wrong with a document, as sentences for people: the field, what was found, what to do.

`finetune validate` puts file, line and column before each of them, the operator puts them into `Accepted=False`.
Must not decide what is valid: the models do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from finetune_contract.document import BROKEN_RULES, Rule
from finetune_contract.fields import Location, describe_field, document_at, find_homes, format_path, list_fields
from finetune_contract.spec import FineTuneJob
from finetune_contract.text import REPEATED_KEY


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `field` is a path like spec.evaluation.gate[0].min, empty for the whole document."""

    field: str
    message: str
    """One sentence that names the field and the remedy."""
    found: Any = None
    """The value that stood there; None where something is missing."""


def list_problems(error: ValidationError, document: type[BaseModel] = FineTuneJob) -> tuple[Problem, ...]:
    """Every problem behind a ValidationError of `document`, in the order of the document's fields."""
    return tuple(problem for details in error.errors() for problem in _read_details(details, document))


def format_problems(problems: tuple[Problem, ...]) -> str:
    """All problems in one line, each a sentence, for a condition's message."""
    return ". ".join(problem.message for problem in problems)


def _read_details(details: ErrorDetails, document: type[BaseModel]) -> tuple[Problem, ...]:
    location = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == BROKEN_RULES:
        return tuple(_read_rule(rule, location, details["input"]) for rule in details["ctx"]["rules"])
    describe = _SENTENCES.get(details["type"], _describe_other)
    found = None if details["type"] == "missing" else details["input"]
    return (Problem(format_path(location), describe(details, location, document), found),)


def _read_rule(rule: Rule, location: Location, found: Any) -> Problem:
    names = tuple(rule.field.split(".")) if rule.field else ()
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return Problem(format_path((*location, *names)), rule.message, found)


def _describe_missing(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    meaning = describe_field(document, location)
    return f"{format_path(location)} is missing: add it{f' ({meaning})' if meaning else ''}"


def _describe_unknown(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    name, path = str(location[-1]), format_path(location)
    owner = document_at(document, location[:-1])
    names = list_fields(owner) if owner else []
    homes = find_homes(document, name)
    if homes:
        return f"{path} is no field: {name} belongs to {homes[0]}; move it there"
    close = _suggest(name, names)
    if close:
        return f"{path} is no field: did you mean {close}?"
    return f"{path} is no field: remove it; known here are {', '.join(names)}"


def _describe_choice(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    expected = details["ctx"]["expected"].replace("'", "")
    close = _suggest(str(details["input"]), expected.replace(" or ", ", ").split(", "))
    hint = f"did you mean {close}? It" if close else "it"
    return f"{format_path(location)} is {_show(details['input'])}: {hint} must be {expected}"


def _describe_pattern(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    meaning = describe_field(document, location) or f"it must match {details['ctx']['pattern']}"
    return f"{format_path(location)} is {_show(details['input'])}, which has the wrong form: {meaning}"


def _describe_type(expected: str, remedy: str) -> _Describe:
    def describe(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
        return f"{format_path(location) or 'the document'} must be {expected}, not {_show(details['input'])}: {remedy}"

    return describe


def _describe_number(expected: str) -> _Describe:
    def describe(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
        quoted = isinstance(details["input"], str)
        remedy = "write it as a number without quotes" if quoted else f"write {expected}"
        return f"{format_path(location)} must be {expected}, not {_show(details['input'])}: {remedy}"

    return describe


def _describe_bound(relation: str, limit: str) -> _Describe:
    def describe(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
        bound = f"{relation} {_show_number(details['ctx'][limit])}"
        return f"{format_path(location)} is {_show(details['input'])}: choose a value {bound}"

    return describe


def _describe_length(relation: str, limit: str, unit: str) -> _Describe:
    def describe(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
        count = details["ctx"][limit]
        noun = unit if count == 1 else f"{unit}s"
        return f"{format_path(location)} must have {relation} {count} {noun}: {_resize(relation)}"

    return describe


def _describe_repeated_key(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    key, value = details["ctx"]["key"], details["ctx"]["value"]
    return f"{format_path(location)} has two entries with the {key} {value}: remove or rename one of them"


def _describe_other(details: ErrorDetails, location: Location, document: type[BaseModel]) -> str:
    return f"{format_path(location)} is {_show(details['input'])}: {details['msg']}"


def _resize(relation: str) -> str:
    return "shorten it" if relation == "at most" else "fill it or remove the field"


def _suggest(name: str, names: list[str]) -> str | None:
    by_lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None


def _show(value: object) -> str:
    """A value as it could stand in YAML, cut to a line."""
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    return "empty (null)" if value is None else text if len(text) <= 80 else f"{text[:77]}..."


def _show_number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


_Describe = Callable[[ErrorDetails, Location, type[BaseModel]], str]

_MAP: Final = "write its fields indented below it, or remove it"
_SENTENCES: Final[Mapping[str, _Describe]] = {
    "missing": _describe_missing,
    "extra_forbidden": _describe_unknown,
    "literal_error": _describe_choice,
    "enum": _describe_choice,
    "string_pattern_mismatch": _describe_pattern,
    "model_type": _describe_type("a map of fields", _MAP),
    "dict_type": _describe_type("a map", _MAP),
    "tuple_type": _describe_type("a list", "write each entry on a line that begins with a dash, or remove it"),
    "string_type": _describe_type("a text", "put it in quotes"),
    "bool_type": _describe_type("true or false", "write true or false without quotes"),
    "int_type": _describe_number("a whole number"),
    "int_from_float": _describe_number("a whole number"),
    "float_type": _describe_number("a number"),
    "finite_number": _describe_number("a finite number"),
    "greater_than": _describe_bound("greater than", "gt"),
    "greater_than_equal": _describe_bound("of at least", "ge"),
    "less_than": _describe_bound("less than", "lt"),
    "less_than_equal": _describe_bound("of at most", "le"),
    "string_too_short": _describe_length("at least", "min_length", "character"),
    "string_too_long": _describe_length("at most", "max_length", "character"),
    "too_short": _describe_length("at least", "min_length", "value"),
    "too_long": _describe_length("at most", "max_length", "value"),
    REPEATED_KEY: _describe_repeated_key,
}
