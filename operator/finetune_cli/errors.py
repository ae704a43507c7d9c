"""Every error of the `finetune` command, one tree.

CommandError             ends the command; the message is one sentence and `remedy` says what to do
├── InvalidError         the file, an option or their combination: exit 2
└── RunError             the run itself: exit 1
"""

from __future__ import annotations

from finetune_contract.exits import CommandExit


class CommandError(Exception):
    """The root: what was found, and what to do about it."""

    exit_code: CommandExit = CommandExit.FAILED

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class InvalidError(CommandError):
    """The user's file or options cannot be used as they are."""

    exit_code = CommandExit.INVALID


class RunError(CommandError):
    """The run on this machine could not start or did not end well."""
