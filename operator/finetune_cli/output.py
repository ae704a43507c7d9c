"""stdout is data, stderr is talk: the two consoles, and JSON where data is asked for.

Colours follow the terminal and NO_COLOR (rich does both). Must not know what is printed.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

    from finetune_cli.errors import CommandError


_WIDTH_OF_A_PIPE: Final = 240
"""Tables in a file or a pipe are not folded to the width of a terminal that is not there."""


class OutputFormat(StrEnum):
    """How a command prints its data."""

    TEXT = "text"
    JSON = "json"


@lru_cache
def talk() -> Console:
    """Console for what people should know: stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


@lru_cache
def data() -> Console:
    """Console for what was asked for: stdout."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)


def print_json(value: Any) -> None:
    """Write plain data as JSON to stdout, without colours or wrapping."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_error(error: CommandError) -> None:
    """Say what was found and what to do."""
    from rich.text import Text

    talk().print(Text.assemble(("error: ", "bold red"), str(error)))
    talk().print(Text.assemble(("to do: ", "bold"), error.remedy))
