"""The process behind `finetune`: starts the commands and ends with their exit code."""

from __future__ import annotations

from finetune_cli.app import app


def main() -> None:
    """Entry point of the command."""
    app(prog_name="finetune")


if __name__ == "__main__":
    main()
