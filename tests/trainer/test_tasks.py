"""What a task makes of rows: encoded columns, batches, losses, figures, words for people."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from finetune_trainer.errors import UserError
from finetune_trainer.strategies.strategy import find_strategy
from finetune_trainer.tasks import text_classification, text_generation
from finetune_trainer.tasks.class_metrics import ClassMetrics
from finetune_trainer.tasks.metric_names import name_class_metrics, name_token_metrics
from finetune_trainer.tasks.registry import find_task
from finetune_trainer.tasks.task import Batch, Encoding
from finetune_trainer.tasks.token_metrics import TokenMetrics
from tests.trainer.make import LABELS, make_tokenizer

IGNORED = text_generation.IGNORED
CPU = torch.device("cpu")


def test_texts_are_cut_counted_and_numbered_by_class() -> None:
    columns = {"text": ["word1 word2 word3", "word1"], "label": ["spam", "ham"]}
    encoded = text_classification.encode(columns, make_tokenizer(), Encoding(max_length=4, labels=LABELS))
    assert {name: encoded[name] for name in ("labels", "length", "targets", "truncated", "text")} == {
        "labels": [1, 0],
        "length": [4, 3],
        "targets": [1, 1],
        "truncated": [True, False],
        "text": ["word1 word2 word3", "word1"],
    }


def test_both_texts_of_a_pair_are_read() -> None:
    tokenizer = make_tokenizer()
    columns = {"text": ["word1"], "textPair": ["word2 word3"], "label": ["ham"]}
    encoded = text_classification.encode(columns, tokenizer, Encoding(max_length=16, labels=LABELS))
    assert tokenizer.decode(encoded["input_ids"][0]) == "[CLS] word1 [SEP] word2 word3 [SEP]"
    assert encoded["token_type_ids"] == [[0, 0, 0, 1, 1, 1]]
    assert encoded["text"] == ["word1\nword2 word3"]


def test_classification_losses_are_those_of_each_row() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    batch = Batch(inputs={}, targets={"labels": labels})
    losses = text_classification.compute_losses(SimpleNamespace(logits=logits), batch, 0.0)
    expected = [math.log(1 + math.exp(-2.0)), math.log(1 + math.exp(1.0))]
    assert losses.tolist() == pytest.approx(expected, abs=1e-6)


def test_the_completion_and_its_end_are_learnt_and_the_prompt_is_not() -> None:
    tokenizer = make_tokenizer(chat=True)
    columns = {"prompt": ["word1 word2 "], "completion": ["word3 word4"]}
    encoded = text_generation.encode(columns, tokenizer, Encoding(max_length=16))
    assert tokenizer.decode(encoded["input_ids"][0]) == "word1 word2 word3 word4 <|end|>"
    assert encoded["labels"] == [[IGNORED, IGNORED, *encoded["input_ids"][0][2:]]]
    assert encoded["targets"] == [3]


def test_all_of_a_plain_text_is_learnt_but_its_first_token() -> None:
    encoded = text_generation.encode({"text": ["word1 word2"]}, make_tokenizer(chat=True), Encoding(max_length=16))
    assert (encoded["labels"], encoded["targets"]) == (encoded["input_ids"], [2])


def test_targets_that_are_cut_off_do_not_count() -> None:
    columns = {"prompt": ["word1 word2 word3 "], "completion": ["word4"]}
    encoded = text_generation.encode(columns, make_tokenizer(chat=True), Encoding(max_length=3))
    assert (encoded["targets"], encoded["truncated"], encoded["length"]) == ([0], [True], [3])


def make_generation_batch() -> tuple[Batch, torch.Tensor, list[list[int]]]:
    """Two rows of 4 and 3 tokens; logits of a made-up model over 50 words."""
    labels = [[IGNORED, IGNORED, 9, 10], [IGNORED, 11, IGNORED]]
    rows = [{"input_ids": [7, 8, 9, 10], "labels": labels[0]}, {"input_ids": [7, 11, 12], "labels": labels[1]}]
    batch = text_generation.collate(rows, make_tokenizer(chat=True))
    logits = torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(1))
    return batch, logits, labels


def test_generation_losses_equal_the_plain_formula_over_shifted_labels() -> None:
    batch, logits, labels = make_generation_batch()
    losses = text_generation.compute_losses(SimpleNamespace(logits=logits), batch, 0.1)
    for row, wanted in enumerate(labels):
        shifted = torch.tensor(wanted[1:])
        expected = functional.cross_entropy(
            logits[row, : len(shifted)], shifted, ignore_index=IGNORED, reduction="sum", label_smoothing=0.1
        )
        assert losses[row].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_row_is_described_by_what_stands_before_and_instead_of_its_targets() -> None:
    tokenizer = make_tokenizer(chat=True)
    row = {"input_ids": tokenizer("word1 word2 word3")["input_ids"]}
    row["labels"] = [IGNORED, IGNORED, row["input_ids"][2]]
    described = text_generation.describe(row, tokenizer("word4")["input_ids"], tokenizer, ())
    assert (described.text, described.expected, described.predicted) == ("word1 word2", "word3", "word4")


def test_predictions_are_the_likeliest_tokens_at_each_rows_targets() -> None:
    batch, logits, _ = make_generation_batch()
    likeliest = logits.argmax(-1)
    expected = [likeliest[0, 1:3].tolist(), likeliest[1, :1].tolist()]
    assert text_generation.predict(SimpleNamespace(logits=logits), batch) == expected


def test_class_figures_are_those_worked_out_by_hand() -> None:
    stream = ClassMetrics(("a", "b", "c"), CPU)
    predicted, true = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 2])
    for places in ([0, 1], [2, 3]):
        logits = functional.one_hot(predicted[places], 3).float()
        batch = Batch(inputs={}, targets={"labels": true[places]})
        stream.update(SimpleNamespace(logits=logits), batch, torch.zeros(2))
    figures = stream.compute()
    assert set(figures) == set(name_class_metrics(("a", "b", "c")))
    expected = {"accuracy": 3 / 4, "precision/b": 1 / 2, "recall/a": 1 / 2, "f1/a": 2 / 3, "f1/b": 2 / 3, "f1/c": 1.0}
    expected |= {"precision": 5 / 6, "recall": 5 / 6, "f1": 7 / 9, "f1_weighted": (2 * 2 / 3 + 2 / 3 + 1) / 4}
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    confusion = stream.confusion()
    assert confusion is not None
    assert confusion.counts == ((1, 1, 0), (0, 1, 0), (0, 0, 1))


def test_many_classes_have_no_figures_of_their_own() -> None:
    labels = tuple(str(number) for number in range(101))
    stream = ClassMetrics(labels, CPU)
    logits = functional.one_hot(torch.tensor([3]), 101).float()
    stream.update(SimpleNamespace(logits=logits), Batch({}, {"labels": torch.tensor([3])}), torch.zeros(1))
    assert set(stream.compute()) == set(name_class_metrics(labels))
    assert not any("/" in name for name in name_class_metrics(labels))


def test_token_figures_are_counted_over_targets() -> None:
    batch, logits, _ = make_generation_batch()
    outputs = SimpleNamespace(logits=logits)
    stream = TokenMetrics((), CPU)
    losses = text_generation.compute_losses(outputs, batch, 0.0)
    stream.update(outputs, batch, losses)
    stream.update(outputs, batch, losses)
    figures = stream.compute()
    assert set(figures) == set(name_token_metrics(()))
    assert figures["perplexity"] == pytest.approx(math.exp(losses.sum().item() / 3))


def test_what_has_not_landed_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="task: summarization is not supported yet; choose one of"):
        find_task("summarization")
    with pytest.raises(UserError, match=r"strategy\.method: qlora is not supported yet; choose one of full, lora"):
        find_strategy("qlora")
