"""The commands and their options. Each imports what it needs when it is called, so that --help costs nothing.

Must not do any work: a command's file does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from finetune_cli.errors import CommandError
from finetune_cli.output import OutputFormat, print_error
from finetune_contract.exits import CommandExit

app = typer.Typer(
    help="Fine-tune models from one YAML: on this machine, or on a Kubernetes cluster with the same file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

JobArgument = Annotated[Path, typer.Argument(metavar="JOB.yaml", help="File with one FineTuneJob.", show_default=False)]
OutputOption = Annotated[OutputFormat, typer.Option("--output", "-o", help="text for people, json for programs.")]
ClaimOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="CLAIM=PATH", help="Folder that stands for pvc://CLAIM; may be repeated."),
]


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="JOB.yaml...", help="Files to check.", show_default=False)],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Say everything that is wrong with a job, with file, line and column, and what to do about it.

    Exit code 2 if anything is. Other kinds of objects in the files are left alone.
    """

    def command() -> CommandExit:
        from finetune_cli.validate import validate_files

        return validate_files(files, output)

    _end(command)


@app.command()
def plan(job: JobArgument, claims: ClaimOption = None, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show what a job resolves to: every default with its reason, the batch arithmetic, steps, memory of a process."""

    def command() -> CommandExit:
        from finetune_cli.plan import print_plan

        return print_plan(job, claims or [], output)

    _end(command)


@app.command()
def render(job: JobArgument, output: OutputOption = OutputFormat.TEXT) -> None:
    """Print the Kubernetes objects that the operator makes of a job, as YAML or JSON."""

    def command() -> CommandExit:
        from finetune_cli.render import print_objects

        return print_objects(job, output)

    _end(command)


@app.command()
def run(
    job: JobArgument,
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Worker processes; one a GPU, or one without GPUs, when absent.", show_default=False
        ),
    ] = None,
    claims: ClaimOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what an earlier run of this name left.")] = False,
    work_dir: Annotated[Path, typer.Option(help="Scratch, logs and downloads.")] = Path(".finetune/runs"),
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run a job on this machine, without a cluster, from the same YAML.

    Nodes x processes becomes one node. file://./folder is relative to the current folder.
    Storage credentials are the shell's environment.

    Ctrl-C stops with a checkpoint, and the same command resumes.

    Exit codes: 0 done, 1 failed, 2 invalid, 3 stopped.
    """

    def command() -> CommandExit:
        from finetune_cli.run import RunOptions, run_job

        return run_job(job, RunOptions(processes, tuple(claims or []), fresh, work_dir, output))

    _end(command)


def _end(command: Callable[[], CommandExit]) -> None:
    """Run a command and leave with its exit code; an error of ours is two lines and never a traceback."""
    try:
        code = command()
    except CommandError as error:
        print_error(error)
        code = error.exit_code
    raise typer.Exit(int(code))
