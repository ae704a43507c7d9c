"""`finetune validate`: every problem of the files, each with file, line, column, field and remedy."""

from __future__ import annotations

from pathlib import Path

from finetune_cli.job_file import FileProblem, JobFile, read_job_file
from finetune_cli.output import OutputFormat, data, print_json, talk
from finetune_contract.exits import CommandExit


def validate_files(files: list[Path], output: OutputFormat) -> CommandExit:
    """Check all files; problems go to stdout, the summary to stderr. Raises InvalidError on unreadable files."""
    results = [(file, read_job_file(file)) for file in files]
    problems = [problem for _, result in results for problem in result.problems]
    if output is OutputFormat.JSON:
        print_json(_to_data(results, problems))
    else:
        _print_problems(problems)
    _summarize(results, problems)
    return CommandExit.INVALID if problems else CommandExit.DONE


def _print_problems(problems: list[FileProblem]) -> None:
    from rich.text import Text

    for problem in problems:
        where, _, message = str(problem).partition(": ")
        data().print(Text.assemble((f"{where}:", "bold"), " ", message))


def _to_data(results: list[tuple[Path, JobFile]], problems: list[FileProblem]) -> dict[str, object]:
    return {
        "valid": not problems,
        "jobs": [{"file": str(file), "name": job.metadata.name} for file, result in results for job in result.jobs],
        "problems": [problem.to_data() for problem in problems],
    }


def _summarize(results: list[tuple[Path, JobFile]], problems: list[FileProblem]) -> None:
    for file, result in results:
        for kind in result.others:
            talk().print(f"{file}: {kind} is not ours and was not checked")
    jobs = sum(len(result.jobs) for _, result in results)
    if problems:
        files = {problem.file for problem in problems}
        talk().print(f"{_count(len(problems), 'problem')} in {_count(len(files), 'file')}; {_count(jobs, 'job')} valid")
    else:
        talk().print(f"{_count(jobs, 'job')} valid")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
