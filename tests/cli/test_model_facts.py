from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.memory import TransformerShape
from finetune_cli.model_facts import ModelFacts
from finetune_cli.sources import look_at_model
from tests.cli.make import write_model_files

BERT = {"hidden_size": 8, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 32}
TENSORS: dict[str, tuple[str, list[int]]] = {
    "bert.embeddings.word_embeddings.weight": ("F32", [100, 8]),
    "bert.embeddings.position_ids": ("I64", [1, 32]),
    "bert.encoder.layer.0.attention.self.query.weight": ("F32", [8, 8]),
    "bert.encoder.layer.0.attention.self.query.bias": ("F32", [8]),
    "bert.encoder.layer.0.output.dense.weight": ("F32", [8, 32]),
    "classifier.weight": ("F32", [2, 8]),
}


def look(folder: Path) -> tuple[ModelFacts | None, str]:
    return look_at_model(f"file://{folder}", {}, folder)


def test_parameters_and_shape_without_loading_the_model(tmp_path: Path) -> None:
    facts, _ = look(write_model_files(tmp_path, BERT, TENSORS))
    assert facts is not None
    assert facts.parameters == 800 + 64 + 8 + 256 + 16
    assert facts.shape == TransformerShape(layers=2, hidden_size=8, vocabulary=100)
    assert facts.length_limits == (32,)


@pytest.mark.parametrize(
    ("targets", "parameters"),
    [(None, 4 * (8 + 8 + 8 + 32)), (("query",), 4 * 16), (("output.dense",), 4 * 40), (("absent",), 0)],
)
def test_adapters_are_counted_on_linear_layers_but_the_head(
    tmp_path: Path, targets: tuple[str, ...] | None, parameters: int
) -> None:
    facts, _ = look(write_model_files(tmp_path, BERT, TENSORS))
    assert facts is not None
    assert facts.lora_parameters(4, targets) == parameters


def test_all_files_of_a_sharded_model_are_counted(tmp_path: Path) -> None:
    for number in (1, 2):
        shard = write_model_files(tmp_path / "shard", BERT, {f"layer.{number}.weight": ("BF16", [number, 8])})
        (shard / "model.safetensors").rename(tmp_path / f"model-{number}.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    index = {"weight_map": {"layer.1.weight": "model-1.safetensors", "layer.2.weight": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    facts, _ = look(tmp_path)
    assert facts is not None
    assert facts.parameters == 24


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"n_embd": 8, "n_layer": 3, "vocab_size": 5}, TransformerShape(3, 8, 5)),
        ({"dim": 8, "n_layers": 3, "vocab_size": 5}, TransformerShape(3, 8, 5)),
        ({"d_model": 8, "encoder_layers": 2, "decoder_layers": 4, "vocab_size": 5}, TransformerShape(6, 8, 5)),
        ({"text_config": {"hidden_size": 8, "num_hidden_layers": 3, "vocab_size": 5}}, TransformerShape(3, 8, 5)),
        ({"hidden_size": 8}, None),
    ],
)
def test_families_name_their_sizes_differently(
    tmp_path: Path, config: dict[str, Any], shape: TransformerShape | None
) -> None:
    facts, _ = look(write_model_files(tmp_path, config, {}))
    assert facts is not None
    assert facts.shape == shape


def test_a_folder_without_a_model_is_no_error(tmp_path: Path) -> None:
    assert look(tmp_path / "absent") == (None, f"file://{tmp_path}/absent has no config.json, or is not there")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    write_model_files(tmp_path, BERT, TENSORS)
    (tmp_path / "model.safetensors").write_bytes(b"\x01")
    facts, why = look(tmp_path)
    assert facts is None
    assert "model.safetensors is shorter than a safetensors header" in why


def test_a_model_in_a_bucket_is_read_by_ranges(object_store: dict[str, str], make_bucket: Any, tmp_path: Path) -> None:
    from finetune_trainer.store.store import Store

    uri = f"s3://{make_bucket()}/models/tiny"
    store = Store.open(uri, object_store)
    for file in write_model_files(tmp_path, BERT, TENSORS).iterdir():
        store.upload(file, file.name)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store.items():
            patch.setenv(name, value)
        facts, why = look_at_model(uri, {}, tmp_path)
    assert why == ""
    assert facts is not None
    assert facts.parameters == 1144
