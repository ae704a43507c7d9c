"""The FineTuneJobs of a YAML file, and everything that is wrong with them, with line and column.

Must not decide what is valid (the contract does) nor what YAML means (yaml_reader does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, Final

from pydantic import ValidationError

from finetune_cli.errors import InvalidError
from finetune_cli.yaml_reader import Path, Position, YamlDocument, YamlError, read_documents
from finetune_contract.fields import document_at, list_fields
from finetune_contract.names import API_VERSION, GROUP, KIND
from finetune_contract.problems import list_problems
from finetune_contract.spec import FineTuneJob
from finetune_contract.support import check_support

_PATH_PART: Final = re.compile(r"\[(?P<index>\d+)\]|\[(?P<bracketed>[^\]]+)\]|(?P<name>[^.\[]+)")


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong in a file."""

    file: str
    position: Position
    field: str
    message: str
    """One sentence that names the field, what was found and the remedy."""

    def __str__(self) -> str:
        return f"{self.file}:{self.position.line}:{self.position.column}: {self.message}"

    def to_data(self) -> dict[str, Any]:
        """The problem for --output json."""
        return {
            "file": self.file,
            "line": self.position.line,
            "column": self.position.column,
            "field": self.field,
            "message": self.message,
        }


@dataclass(frozen=True)
class JobFile:
    """What a file holds."""

    jobs: tuple[FineTuneJob, ...]
    problems: tuple[FileProblem, ...]
    others: tuple[str, ...]
    """Kinds of documents that are not ours."""


def read_job_file(file: FilePath) -> JobFile:
    """Read and validate every document. Raises InvalidError where the file itself cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{file} cannot be read: {error}", "name a YAML file in UTF-8 that you may read") from error
    try:
        documents = read_documents(text)
    except YamlError as error:
        return JobFile((), (FileProblem(str(file), error.position, "", str(error)),), ())
    return _sort(str(file), documents)


def read_one_job(file: FilePath) -> FineTuneJob:
    """The one job of a file. Raises InvalidError with every problem of the file, or when it holds none or several."""
    found = read_job_file(file)
    if found.problems:
        raise InvalidError("\n".join(str(problem) for problem in found.problems), f"correct {file} and try again")
    if len(found.jobs) > 1:
        names = ", ".join(job.metadata.name for job in found.jobs)
        raise InvalidError(
            f"{file} holds {len(found.jobs)} jobs ({names})", "put the one you mean into a file of its own"
        )
    return found.jobs[0]


def _sort(file: str, documents: tuple[YamlDocument, ...]) -> JobFile:
    jobs: list[FineTuneJob] = []
    problems: list[FileProblem] = []
    others: list[str] = []
    for document in documents:
        if not _is_ours(document.value):
            others.append(str(document.value.get("kind")))
            continue
        found = _validate(document.value)
        if isinstance(found, FineTuneJob):
            jobs.append(found)
        else:
            problems += sorted(
                (_place(file, document, field, message) for field, message in found), key=lambda each: each.position
            )
    if not jobs and not problems:
        message = f"there is no {KIND} in this file: write apiVersion: {API_VERSION} and kind: {KIND}"
        problems.append(FileProblem(file, Position(1, 1), "kind", message))
    return JobFile(tuple(jobs), tuple(problems), tuple(others))


def _is_ours(value: Any) -> bool:
    """Documents of other kinds may share the file; what looks like a job of ours with a slip is ours."""
    if not isinstance(value, dict) or "kind" not in value:
        return True
    kind, group = str(value["kind"]), str(value.get("apiVersion")).partition("/")[0]
    return group == GROUP or bool(get_close_matches(kind.lower(), [KIND.lower()], cutoff=0.8))


def _validate(value: Any) -> FineTuneJob | list[tuple[str, str]]:
    try:
        job = FineTuneJob.from_data(value)
    except ValidationError as error:
        return [(problem.field, problem.message) for problem in list_problems(error)]
    unsupported = check_support(job)
    if unsupported is None:
        return job
    field = unsupported.partition(" ")[0].rstrip(":")  # the sentence begins with the field's path
    return [(field, unsupported)]


def _place(file: str, document: YamlDocument, field: str, message: str) -> FileProblem:
    path = tuple(_parse_path(field))
    position = document.locate(path, key=not _is_known(path) or path not in document.values)
    return FileProblem(file, position, field, message)


def _is_known(path: Path) -> bool:
    owner = document_at(FineTuneJob, path[:-1]) if path else None
    return owner is None or isinstance(path[-1], int) or path[-1] in list_fields(owner)


def _parse_path(field: str) -> Iterator[str | int]:
    for match in _PATH_PART.finditer(field):
        if match["index"] is not None:
            yield int(match["index"])
        else:
            yield match["bracketed"] or match["name"]
