"""Prints the drills' table at the end of a session that ran some."""

from __future__ import annotations

import pytest
from rich.console import Console

from tests.drills.table import SESSION, draw, write_report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table, and the same for machines."""
    if not SESSION.rows:
        return
    write_report(SESSION.rows)
    console = Console(width=max(160, Console().width))
    with console.capture() as capture:
        console.print(draw(SESSION.rows))
    terminalreporter.write_line("")
    terminalreporter.write_line(capture.get())
