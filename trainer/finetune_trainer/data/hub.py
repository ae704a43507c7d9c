"""The Hugging Face Hub: data sets row by row, models as folders. The only module here that talks to it.

The Hub's address and key are the usual variables, HF_ENDPOINT and HF_TOKEN.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

from finetune_contract.spec import DataSource, ModelSpec
from finetune_trainer.errors import DataError, ModelError, UserError

TOKENIZER_FILES: Final = ["*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
MODEL_FILES: Final = [*TOKENIZER_FILES, "*.safetensors"]


def find_dataset_revision(source: DataSource, part: str) -> str:
    """Commit of a data set's newest revision."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(_repository(source.source)).sha)
    except Exception as error:
        _refuse(error, f"data.{part}.source", source.source, DataError)


def read_dataset(source: DataSource, part: str, revision: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set, classes by their names; the split is the part's own name where none is named."""
    from datasets import ClassLabel, load_dataset

    name = source.source.removeprefix("hf://").split("/")
    configuration = "/".join(name[2:]) or None
    try:
        rows = load_dataset(_repository(source.source), configuration, split=source.split or part, revision=revision)
    except Exception as error:
        _refuse(error, f"data.{part}.source", source.source, DataError)
    classes = {column: kind for column, kind in rows.features.items() if isinstance(kind, ClassLabel)}
    for row in rows:
        yield {column: _name_class(value, classes.get(column)) for column, value in row.items()}


def find_model_revision(model: ModelSpec) -> str:
    """Commit of the model's revision."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().model_info(_repository(model.source), revision=model.revision).sha)
    except Exception as error:
        _refuse(error, "model.source", f"{model.source} at {model.revision}", ModelError)


def list_model_files(model: ModelSpec, commit: str) -> list[str]:
    """Names of the model's files."""
    from huggingface_hub import HfApi

    try:
        return list(HfApi().list_repo_files(_repository(model.source), revision=commit))
    except Exception as error:
        _refuse(error, "model.source", f"{model.source} at {model.revision}", ModelError)


def fetch_model(model: ModelSpec, commit: str, folder: Path, patterns: list[str]) -> Path:
    """Those files of a model that fit the patterns, in the folder."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(_repository(model.source), revision=commit, local_dir=str(folder), allow_patterns=patterns)
    except Exception as error:
        _refuse(error, "model.source", f"{model.source} at {model.revision}", ModelError)
    # The client's own notes about the download are no part of the model.
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder


def _name_class(value: Any, kind: Any) -> Any:
    return kind.int2str(value) if kind is not None and isinstance(value, int) and value >= 0 else value


def _repository(uri: str) -> str:
    return "/".join(uri.removeprefix("hf://").split("/")[:2])


def _refuse(error: Exception, field: str, what: str, kind: type[UserError]) -> NoReturn:
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    raise kind(
        f"{field}: {what} cannot be read from the Hub ({type(error).__name__}: {first}); check the name, HF_TOKEN and "
        "the network, or put a copy into your bucket"
    ) from error
