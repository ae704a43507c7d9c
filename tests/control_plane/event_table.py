"""docs/reference/events.md as data."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"


@cache
def list_documented_events() -> frozenset[tuple[str, str]]:
    """Type and reason of every event."""
    return frozenset(
        (type_, reason) for reason, type_ in re.findall(r"^\| `(\w+)` \| (Normal|Warning) \|", _read(), re.MULTILINE)
    )


def list_silent_reasons() -> list[str]:
    """Reasons that stand in conditions and attempts only."""
    return re.findall(r"^\| `(\w+)` \| (?:condition|attempt)", _read(), re.MULTILINE)


def _read() -> str:
    return PAGE.read_text(encoding="utf-8")
