"""Which weights a strategy trains, and that what is exported is what was trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from finetune_contract.spec import StrategySpec
from finetune_trainer.publish.export import export_model, read_dtype
from finetune_trainer.strategies.lora import find_targets, find_whole_modules
from finetune_trainer.strategies.strategy import find_strategy
from finetune_trainer.tasks.registry import find_task
from finetune_trainer.worker.engine import group_parameters
from finetune_trainer.worker.snapshot_files import SnapshotFiles, drop_frozen, find_frozen_names
from finetune_trainer.worker.weights import FILE_WEIGHTS, find_weights, read_weights, save_weights
from tests.trainer.conftest import Folders
from tests.trainer.make import LABELS, make_tokenizer

SHAPE: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
LORA = StrategySpec.from_data({"method": "lora", "lora": {"rank": 2}})


def load(folders: Folders, task: str = "text-classification") -> Any:
    torch.manual_seed(0)
    return find_task(task).load_model(folders.model, LABELS, torch.float32)


def trained(model: torch.nn.Module) -> set[str]:
    return {re.sub(r"\d+", "#", name) for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("model", "layers", "whole"),
    [
        (
            BertForSequenceClassification(BertConfig(**SHAPE)),
            {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense", "pooler.dense"},
            ("classifier",),
        ),
        (
            RobertaForSequenceClassification(RobertaConfig(**SHAPE)),
            {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"},
            ("classifier",),
        ),
        (
            DistilBertForSequenceClassification(DistilBertConfig(dim=8, n_layers=2, n_heads=2, hidden_dim=8)),
            {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"},
            ("pre_classifier", "classifier"),
        ),
        (GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=2, n_head=2)), {"c_attn", "c_proj", "c_fc"}, ("lm_head",)),
    ],
    ids=["bert", "roberta", "distilbert", "gpt2"],
)
def test_every_linear_layer_but_the_head_is_found(model: Any, layers: set[str], whole: tuple[str, ...]) -> None:
    assert find_whole_modules(model, new_head=True) == whole
    pattern = find_targets(model, whole)
    found = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    assert all(any(name.endswith(layer) for layer in layers) for name in found)
    assert all(any(name.endswith(layer) for name in found) for layer in layers)


def test_lora_trains_adapters_and_the_new_head_only(plain_classifier: Folders) -> None:
    names = trained(find_strategy("lora").prepare(load(plain_classifier), LORA, find_task("text-classification")))
    assert {name for name in names if "lora_" not in name} == {
        "base_model.model.classifier.modules_to_save.default.weight",
        "base_model.model.classifier.modules_to_save.default.bias",
    }
    assert "base_model.model.bert.encoder.layer.#.attention.self.query.lora_A.default.weight" in names


def test_lora_leaves_a_language_head_alone(chat_model: Folders) -> None:
    names = trained(
        find_strategy("lora").prepare(load(chat_model, "text-generation"), LORA, find_task("text-generation"))
    )
    assert names
    assert all("lora_" in name and "lm_head" not in name for name in names)


def test_weights_that_the_folder_lacks_are_trained_whole(tmp_path: Path) -> None:
    BertForSequenceClassification(BertConfig(**SHAPE, vocab_size=16)).bert.save_pretrained(tmp_path)
    state = {name: w for name, w in _read(tmp_path).items() if "pooler" not in name}
    _write(tmp_path, state)
    model = find_task("text-classification").load_model(tmp_path, LABELS, torch.float32)
    assert find_whole_modules(model, new_head=True) == ("classifier", "bert.pooler.dense")
    assert not re.fullmatch(find_targets(model, ("classifier", "bert.pooler.dense")), "bert.pooler.dense")


def _read(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _write(folder: Path, state: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_biases_and_normalisations_do_not_decay(plain_classifier: Folders) -> None:
    model = load(plain_classifier)
    decayed, plain = group_parameters(model, 0.01)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert len(decayed["params"]) + len(plain["params"]) == len(named)
    assert all(named[id(p)].endswith("bias") or "LayerNorm" in named[id(p)] for p in plain["params"])
    assert not any(named[id(p)].endswith("bias") or "LayerNorm" in named[id(p)] for p in decayed["params"])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_weights_survive_the_way_over_a_file(plain_classifier: Folders, tmp_path: Path, method: str) -> None:
    strategy, task = find_strategy(method), find_task("text-classification")
    spec = StrategySpec.from_data({"method": method})
    model = strategy.prepare(load(plain_classifier), spec, task)
    disturb(model)
    save_weights(model, SnapshotFiles(), tmp_path / FILE_WEIGHTS, keep=True)
    other = strategy.prepare(load(plain_classifier), spec, task)
    read_weights(other, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert _read(tmp_path).keys() == find_weights(model).keys()


def disturb(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.1)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks
def test_the_exported_model_says_what_the_adapted_one_says(plain_classifier: Folders, tmp_path: Path) -> None:
    strategy, task, tokenizer = find_strategy("lora"), find_task("text-classification"), make_tokenizer()
    model = strategy.prepare(load(plain_classifier), LORA, task)
    disturb(model)
    model.eval()
    inputs = tokenizer(["word0 word1", "word5"], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs).logits
    export_model(model, strategy, tokenizer, plain_classifier.model, base_name="some/model", folder=tmp_path)
    exported = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    adapted = PeftModel.from_pretrained(load(plain_classifier), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").read_text().count('"some/model"') == 1
    with torch.no_grad():
        assert torch.allclose(exported(**inputs).logits, expected, atol=1e-5)
        assert torch.allclose(adapted(**inputs).logits, expected, atol=1e-5)
    assert exported.config.id2label == dict(enumerate(LABELS))


def test_tied_weights_are_exported_once_and_stay_tied(chat_model: Folders, tmp_path: Path) -> None:
    base = tmp_path / "base"
    config = LlamaConfig.from_pretrained(chat_model.model, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(base)
    task, strategy = find_task("text-generation"), find_strategy("full")
    tied = strategy.prepare(task.load_model(base, (), torch.float32), StrategySpec(), task)
    disturb(tied)
    assert "lm_head.weight" not in find_weights(tied)
    folder = tmp_path / "export"
    export_model(tied, strategy, make_tokenizer(chat=True), base, base_name="x", folder=folder)
    exported = LlamaForCausalLM.from_pretrained(folder)
    assert read_dtype(base) is exported.dtype is torch.bfloat16
    assert exported.lm_head.weight.data_ptr() == exported.model.embed_tokens.weight.data_ptr()
    assert torch.equal(exported.lm_head.weight, tied.get_parameter("model.embed_tokens.weight").to(torch.bfloat16))


def test_a_checkpoint_of_an_adapter_holds_no_frozen_weight_under_a_second_name(
    chat_model: Folders, tmp_path: Path
) -> None:
    config = LlamaConfig.from_pretrained(chat_model.model, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    task, strategy = find_task("text-generation"), find_strategy("lora")
    model = strategy.prepare(task.load_model(tmp_path, (), torch.float32), LORA, task)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    state = model.state_dict()
    # As DeepSpeed leaves it: it knows one name of each parameter.
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            del state[name]
    assert state.keys() - trained
    kept = drop_frozen({"module": state, "step": 3}, find_frozen_names(model))
    assert (kept["module"].keys(), kept["step"]) == (trained, 3)
