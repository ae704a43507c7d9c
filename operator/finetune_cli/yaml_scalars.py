"""What a plain YAML scalar means to kubectl: the rules of sigs.k8s.io/yaml, which reads YAML 1.1 with Go's numbers.

PyYAML alone takes 2e-5, 1e6 and 0o10 for strings and 12:30:00 for a number, so that one file would mean two jobs.
Pure; must not know files, nodes or jobs.
"""

from __future__ import annotations

import math
import re
from typing import Final

Scalar = str | int | float | bool | None

_NAMED: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hexadecimal>[0-9a-fA-F]+)|0[oO](?P<octal>[0-7]+)|0[bB](?P<binary>[01]+)"
    r"|0(?P<old_octal>[0-7]+)|(?P<decimal>0|[1-9][0-9]*))"
)
_SIGN_BEHIND_PREFIX: Final = re.compile(r"0b(?P<digits>[-+][01]+)")  # 0b-1 is -1 for kubectl
_RADIX: Final = {"hexadecimal": 16, "octal": 8, "binary": 2, "old_octal": 8, "decimal": 10}
_INT64: Final = range(-(2**63), 2**63)
_LARGEST_WRITTEN_AS_INTEGER: Final = 1e21


def resolve_scalar(text: str) -> Scalar:
    """Value of a plain (unquoted) scalar as the API server receives it.

    A float without a fraction arrives as an integer (kubectl sends 1e6 and 2.0 as 1000000 and 2). Raises ValueError
    for .nan and .inf, which JSON cannot hold.
    """
    value = _resolve(text)
    if isinstance(value, float):
        return _as_json_number(value)
    return value


def _resolve(text: str) -> Scalar:
    if text in _NAMED:
        return _NAMED[text]
    if text[0] == ".":  # Go skips underscores behind a digit or a sign only
        return float(text) if _FLOAT.fullmatch(text) else text
    if text[0] in "+-0123456789":
        number = _parse_number(text.replace("_", ""))
        return text if number is None else number
    return text


def _parse_number(digits: str) -> int | float | None:
    integer = _parse_integer(digits)
    if integer is not None:
        return integer
    if match := _SIGN_BEHIND_PREFIX.fullmatch(digits):
        return int(match["digits"], 2)
    if _FLOAT.fullmatch(digits) and math.isfinite(float(digits)):
        return float(digits)
    return None


def _parse_integer(digits: str) -> int | float | None:
    match = _INTEGER.fullmatch(digits)
    if match is None:
        return None
    value = next(int(match[name], radix) for name, radix in _RADIX.items() if match[name] is not None)
    value = -value if match["sign"] == "-" else value
    if value in _INT64:
        return value
    fits_unsigned = not match["sign"] and value < 2**64
    return float(value) if fits_unsigned or match["decimal"] is not None else None


def _as_json_number(value: float) -> int | float:
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that JSON can hold")
    whole = value.is_integer() and abs(value) < _LARGEST_WRITTEN_AS_INTEGER and int(value) in _INT64
    return int(value) if whole else value
