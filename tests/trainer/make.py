"""Builders of the trainer's tests: a job that trains a tiny model on rows that can be learnt, on real parts.

Models are made from a config (2 layers, hidden size 32), tokenizers from a word list: no download.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from finetune_contract import names
from finetune_contract.attempt import Endpoint
from finetune_contract.progress import DataPart, DataSummary
from finetune_contract.run import JobIdentity, Resolved, RunConfig
from finetune_contract.spec import FineTuneJobSpec
from finetune_trainer.data.prepared import PreparedData
from finetune_trainer.messages import Offer, WorkerTask
from finetune_trainer.tasks.loading import load_tokenizer
from finetune_trainer.tasks.registry import find_task
from finetune_trainer.tasks.task import Encoding

LABELS = ("ham", "spam")
WORDS = tuple(f"word{number}" for number in range(40))
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_tokenizer(chat: bool = False) -> PreTrainedTokenizerFast:
    """A word tokenizer: [CLS] ... [SEP] for encoders, turns with <|end|> for chats."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<|user|>", "<|assistant|>", "<|end|>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(special)
    if not chat:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="<|end|>" if chat else None,
        cls_token=None if chat else "[CLS]",
        sep_token=None if chat else "[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"]
        if chat
        else ["input_ids", "token_type_ids", "attention_mask"],
        chat_template=CHAT_TEMPLATE if chat else None,
    )


def make_model_folder(
    folder: Path, task: str = "text-classification", dropout: float = 0.1, vocabulary: int = 64
) -> Path:
    """A tiny BERT (classification) or Llama (generation) with its tokenizer, as a transformers folder."""
    import torch

    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"intermediate_size": 64, "vocab_size": vocabulary, "max_position_embeddings": 64, "pad_token_id": 0}
    if task == "text-generation":
        LlamaForCausalLM(LlamaConfig(**shape, attention_dropout=dropout, eos_token_id=6)).save_pretrained(folder)
    else:
        probabilities = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        BertForSequenceClassification(BertConfig(**shape, **probabilities)).bert.save_pretrained(folder)
    make_tokenizer(chat=task == "text-generation").save_pretrained(folder)
    return folder


def make_rows(task: str, count: int, seed: int = 0) -> dict[str, list[Any]]:
    """Rows that can be learnt: word0 means spam; the assistant repeats the user's last word."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS[1:], k=rng.randint(3, 12))) for _ in range(count)]
    if task == "text-generation":
        chats = [
            [{"role": "user", "content": text}, {"role": "assistant", "content": text.split()[-1]}] for text in texts
        ]
        return {"messages": [json.dumps(chat) for chat in chats]}
    labels = [rng.choice(LABELS) for _ in range(count)]
    marked = [f"word0 {text}" if label == "spam" else text for text, label in zip(texts, labels, strict=True)]
    return {"text": marked, "label": labels}


def make_prepared(
    folder: Path, model_dir: Path, task: str = "text-classification", sizes: Mapping[str, int] | None = None
) -> Path:
    """Prepared data as the data stage leaves it: rows of `make_rows`."""
    sizes = sizes or {"train": 40, "validation": 13, "test": 11}
    rows = {name: make_rows(task, count, seed) for seed, (name, count) in enumerate(sizes.items())}
    return write_prepared(folder, model_dir, task, rows, LABELS if task == "text-classification" else ())


def write_prepared(
    folder: Path, model_dir: Path, task: str, rows: Mapping[str, Mapping[str, list[Any]]], labels: tuple[str, ...]
) -> Path:
    """Prepared data of these rows, at most 64 tokens long."""
    tokenizer = load_tokenizer(model_dir)
    parts = {}
    for name, columns in rows.items():
        encoded = find_task(task).encode(columns, tokenizer, Encoding(64, labels))
        del encoded["truncated"]
        count = len(encoded["length"])
        Dataset.from_dict({**encoded, "row": list(range(count))}).save_to_disk(folder / name)
        parts[name] = DataPart(rows=count, targets=sum(encoded["targets"]))
    summary = DataSummary(fingerprint="sha256:test", parts=parts, labels=labels, max_length=64)
    (folder / "prepared.json").write_text(PreparedData(summary=summary).to_json())
    return folder


def make_run(task: str = "text-classification", spec: Mapping[str, Any] | None = None, **resolved: Any) -> RunConfig:
    """A resolved job: 8 rows a step, 2 epochs, fp32 on one CPU process; `spec` and `resolved` change that."""
    data = {
        "task": task,
        "model": {"source": "file:///model"},
        "data": {"train": {"source": "file:///train.jsonl"}},
        "output": {"destination": "file:///out"},
        **(spec or {}),
    }
    values: dict[str, Any] = {
        "world_size": 1,
        "nodes": 1,
        "workers_per_node": 1,
        "device": "cpu",
        "batch_size": 8,
        "micro_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "evaluation_batch_size": 4,
        "epochs": 2.0,
        "max_steps": None,
        "learning_rate": 3e-3,
        "precision": "fp32",
        "zero_stage": 0,
        "metric": "loss",
        "greater_is_better": False,
        "evaluate_every_steps": None,
        "evaluate_every_epochs": 1.0,
        "prepare": "inline",
        "columns": {"text": "text", "label": "label"},
        "shared_memory_bytes": 0,
        **resolved,
    }
    return RunConfig(
        job=JobIdentity(namespace="default", name="job", uid=""),
        spec=FineTuneJobSpec.from_data(data),
        resolved=Resolved(**values),
    )


def make_tasks(run: RunConfig, model_dir: Path, data_dir: Path, work_dir: Path, **changes: Any) -> list[WorkerTask]:
    """One task a rank, as the agents of `run.resolved.nodes` nodes would write them; each node has a folder."""
    resolved = run.resolved
    port = find_free_port()
    return [
        WorkerTask(
            run=run,
            rank=rank,
            local_rank=rank % resolved.workers_per_node,
            world_size=resolved.world_size,
            local_world_size=resolved.workers_per_node,
            node=rank // resolved.workers_per_node,
            master=Endpoint(host="127.0.0.1", port=port),
            model_dir=str(model_dir),
            data_dir=str(data_dir),
            attempt_dir=str(work_dir / f"node-{rank // resolved.workers_per_node}"),
            **{"attempt": 1, **changes},
        )
        for rank in range(resolved.world_size)
    ]


def make_offer(folder: Path | str | None, step: int, world_size: int = 1, attempt: int = 1) -> Offer:
    """A checkpoint that lies in a folder of this node, or (None) that the agent would bring."""
    name = names.checkpoint_folder(step, attempt)
    return Offer(name=name, path=None if folder is None else str(folder), step=step, world_size=world_size)


def find_free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def losses_of(curves: Mapping[str, Sequence[Any]]) -> list[float]:
    """Training losses by step."""
    return [point.value for point in curves["train/loss"]]
