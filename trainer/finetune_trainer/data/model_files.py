"""The model as preparation needs it: tokenizer and config here, a Hub model's copy in the store. Reads no weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from finetune_contract.names import MODELS_FOLDER
from finetune_contract.run import RunConfig
from finetune_trainer.data import hub
from finetune_trainer.data.fingerprint import TOKENIZER_FILES
from finetune_trainer.errors import ModelError
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import upload_folder

FILE_CONFIG: Final = "config.json"
FILE_TOKENIZER: Final = "tokenizer_config.json"
LONGEST_DERIVED: Final = 2048
"""Tokens in a row where the user says nothing: what a model allows is often more than its memory does."""
NO_LIMIT: Final = 1_000_000
"""Tokenizers without a limit say a number far above this."""


def find_model_commit(run: RunConfig) -> str:
    """Commit of a Hub model; empty for other sources."""
    return hub.find_model_revision(run.spec.model) if run.spec.model.source.startswith("hf://") else ""


def fetch_tokenizer(run: RunConfig, commit: str, folder: Path) -> Path:
    """Tokenizer and config files of the model in a local folder.

    Raises `ModelError` where the model has no config or no safetensors weights.
    """
    source = run.spec.model.source
    if commit:
        _check_files(source, hub.list_model_files(run.spec.model, commit))
        return hub.fetch_model(run.spec.model, commit, folder, hub.TOKENIZER_FILES)
    store = Store.open(source)
    store.probe()
    names = [entry.path for entry in store.list()]
    _check_files(source, names)
    if store.folder is not None:
        return store.folder
    for name in {FILE_CONFIG, *TOKENIZER_FILES} & set(names):
        store.download(name, folder / name)
    return folder


def _check_files(source: str, names: list[str]) -> None:
    if not names:
        raise ModelError(f"model.source: {source} is empty or does not exist; check the address")
    missing = FILE_CONFIG if FILE_CONFIG not in names else ""
    if not missing and not any(name.endswith(".safetensors") for name in names):
        missing = "weights as safetensors"
    if missing:
        raise ModelError(
            f"model.source: {source} has no {missing}; name a transformers folder (config, safetensors, tokenizer)"
        )


def store_model(run: RunConfig, commit: str, destination: Store, folder: Path) -> str:
    """URI of the folder that trainers fetch; a Hub model is copied into the store once."""
    if not commit:
        return run.spec.model.source.rstrip("/")
    name = hashlib.sha256(f"{run.spec.model.source}@{commit}".encode()).hexdigest()[:32]
    path = f"{MODELS_FOLDER}/{name}"
    if destination.find(f"{path}/{FILE_CONFIG}") is None:
        hub.fetch_model(run.spec.model, commit, folder, hub.MODEL_FILES)
        upload_folder(destination, folder, path, last=FILE_CONFIG)
    return f"{destination.uri}/{path}"


def choose_max_length(wished: int | None, folder: Path) -> int:
    """Tokens in a row: the user's wish, or the least of what tokenizer and model allow. Raises `ModelError`."""
    limits = [limit for limit in (_tokenizer_limit(folder), _model_limit(folder)) if limit]
    if wished is not None:
        if limits and wished > min(limits):
            raise ModelError(
                f"training.maxLength: {wished} tokens are more than the model's {min(limits)}; lower maxLength"
            )
        return wished
    return min([*limits, LONGEST_DERIVED])


def _tokenizer_limit(folder: Path) -> int | None:
    file = folder / FILE_TOKENIZER
    limit = json.loads(file.read_text()).get("model_max_length") if file.is_file() else None
    return int(limit) if limit and 0 < limit < NO_LIMIT else None


def _model_limit(folder: Path) -> int | None:
    config = json.loads((folder / FILE_CONFIG).read_text())
    inner = config.get("text_config") or config
    limit = inner.get("max_position_embeddings") or inner.get("n_positions")
    return int(limit) if limit else None
