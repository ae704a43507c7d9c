"""What a GPU makes of our loop: tokens a second, MFU, memory, what a save costs, and the same beside a bare loop.

    python -m tests.gpu.speed                          a Llama of 1.1 billion weights, every ZeRO stage and LoRA
    python -m tests.gpu.speed --layers 2 --hidden 256  a small one

Weights are random, rows are random tokens of full length. Our loop and a bare DeepSpeed loop (the same model, batches,
optimizer and configuration) take turns in one process, `--block` steps each, the device awaited at both ends. Our own
figures of speed would count the other loop's turns and are not used; MFU is by the formula of worker/flops.py.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from finetune_contract.progress import DataPart, DataSummary
from finetune_contract.run import RunConfig
from finetune_trainer.data.prepared import PreparedData
from tests.gpu.make import DEVICE, assemble_gpu_run, make_gpu_run
from tests.trainer.assembled import leave
from tests.trainer.bare import iterate_bare_steps
from tests.trainer.conftest import Folders
from tests.trainer.make import make_tokenizer
from tests.trainer.pool import call_in_worker

PEAK = 989e12
"""FLOP/s, dense bf16, of an H100 or H200 by its data sheet."""
WARM_UP_STEPS = 6
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 34 << 30


@dataclass(frozen=True)
class Shape:
    """Of a decoder."""

    hidden_size: int
    layers: int
    vocabulary: int

    @property
    def config(self) -> dict[str, Any]:
        """For LlamaConfig: heads of 64, a quarter of them for keys and values."""
        heads = self.hidden_size // 64
        return {
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 4),
            "intermediate_size": 4 * self.hidden_size,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "eos_token_id": 6,
        }


@dataclass(frozen=True)
class Work:
    """What one line of the table is measured with."""

    zero_stage: int
    method: str
    rows: int
    """In a step, and in a micro-batch."""
    tokens: int
    """In a row."""
    block: int
    blocks: int


def make_decoder(folder: Path, shape: Shape) -> Path:
    """A Llama with random weights and a tokenizer, as a transformers folder in bf16."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**shape.config)).to(torch.bfloat16)
    model.save_pretrained(folder)
    make_tokenizer(chat=True).save_pretrained(folder)
    return folder


def make_token_rows(folder: Path, *, rows: int, length: int, vocabulary: int) -> Path:
    """Prepared training rows of random tokens, all of one length."""
    import numpy as np
    from datasets import Dataset

    tokens = np.random.default_rng(0).integers(8, vocabulary, size=(rows, length), dtype=np.int64)
    columns = {
        "input_ids": list(tokens),
        "labels": list(tokens),
        "length": [length] * rows,
        "targets": [length - 1] * rows,
        "row": list(range(rows)),
    }
    Dataset.from_dict(columns).save_to_disk(str(folder / "train"))
    summary = DataSummary(
        fingerprint="sha256:speed", parts={"train": DataPart(rows=rows, targets=rows * (length - 1))}, max_length=length
    )
    (folder / "prepared.json").write_text(PreparedData(summary=summary).to_json())
    return folder


def measure(folders: Folders, work: Work) -> dict[str, Any]:
    """All figures of one line."""
    run = make_gpu_run(
        "text-generation",
        {"strategy": {"method": work.method}},
        zero_stage=work.zero_stage,
        batch_size=work.rows,
        micro_batch_size=work.rows,
        learning_rate=1e-5,
        epochs=None,
        # So many that losses are read every 20 steps.
        max_steps=200 * 20,
        evaluate_every_epochs=1e6,
    )
    answer: dict[str, Any] = call_in_worker(_take_turns, run.to_json(), folders, asdict(work))
    return answer


def _take_turns(connection: Connection, run_json: str, folders: Folders, work: dict[str, Any]) -> None:
    """In a process of its own: both loops by turns, then saves."""
    import torch

    from finetune_trainer.worker.memory import measure_peak
    from finetune_trainer.worker.train import iterate_steps

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // 2))
    where = Work(**work)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=MEMORY) as memory:
        room = {"memory_dir": memory, "memory_bytes": MEMORY_BYTES}
        run = assemble_gpu_run(RunConfig.from_json(run_json), folders, Path(folder), **room)
        ours = iterate_steps(run)
        _advance(ours, WARM_UP_STEPS)
        peak = measure_peak(run.ranks.device).gpu
        bare = iterate_bare_steps(run, fused=True)
        _advance(bare, WARM_UP_STEPS)
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(where.blocks):
            for name, loop in (("ours", ours), ("bare", bare)):
                seconds[name].append(_measure(lambda loop=loop: _advance(loop, where.block)) / where.block)
        flops_per_token = run.meter._flops_per_token
        size, saves = _measure_saves(run, ours)
    tokens = where.rows * where.tokens
    step = median(seconds["ours"])
    answer = {
        **work,
        "step_ms": step * 1e3,
        "bare_step_ms": median(seconds["bare"]) * 1e3,
        "ratio": step / median(seconds["bare"]),
        "tokens_per_second": tokens / step,
        "mfu": flops_per_token * tokens / step / PEAK,
        "peak_gib": peak / 2**30,
        "snapshot_gb": size / 1e9,
        "save_seconds": saves,
        "seconds": seconds,
    }
    leave(connection, answer)


def _advance(loop: Iterator[object], steps: int) -> None:
    for _ in range(steps):
        next(loop)


def _measure(work: Callable[[], object]) -> float:
    """Seconds until the device has nothing more to do."""
    import torch

    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _measure_saves(run: Any, ours: Iterator[int]) -> tuple[int, list[float]]:
    """Bytes of a snapshot, and the seconds that training waits for each of the slots' first and later uses."""
    seconds = []
    _wait_for_pages()
    for _ in range(3):
        next(ours)
        seconds.append(_measure(lambda: run.snapshots.write(run.state)))
        for slot in run.snapshots._slots.folders:
            run.snapshots._slots.release(str(slot))
    return sum(run.snapshots._files.sizes.values()), seconds


def _wait_for_pages() -> None:
    """Until the thread that meets the slots' pages has ended, as it has long before an ordinary job saves."""
    import threading

    for thread in threading.enumerate():
        if thread.name == "warm-slots":
            thread.join()


def main() -> None:
    """Measure what the command line says, and print a table and one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--block", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["0", "1", "2", "3", "lora"], help="ZeRO stages, lora")
    arguments = parser.parse_args()
    # Read by DeepSpeed when the pool's first process imports it.
    os.environ["DS_ACCELERATOR"] = DEVICE
    # Its imports go on while the model is made.
    forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as root:
        shape = Shape(arguments.hidden, arguments.layers, arguments.vocabulary)
        model = make_decoder(Path(root) / "model", shape)
        rows = {"rows": 512, "length": arguments.tokens, "vocabulary": arguments.vocabulary}
        folders = Folders(model, make_token_rows(Path(root) / "data", **rows))
        print("| | ms a step | bare loop | ours/bare | tokens/s | MFU | peak of torch | a save, warm pages |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        lines = []
        for name in arguments.only:
            stage, method = (0, "lora") if name == "lora" else (int(name), "full")
            work = Work(stage, method, arguments.rows, arguments.tokens, arguments.block, arguments.blocks)
            lines.append(measure(folders, work))
            print(_describe(name, lines[-1]), flush=True)
        for line in lines:
            print(json.dumps(line))


def _describe(name: str, line: dict[str, Any]) -> str:
    what = "LoRA" if name == "lora" else f"full, ZeRO {name}"
    return (
        f"| {what} | {line['step_ms']:.1f} | {line['bare_step_ms']:.1f} | {line['ratio']:.3f} "
        f"| {line['tokens_per_second']:,.0f} | {line['mfu']:.1%} "
        f"| {line['peak_gib']:.1f} GiB | {line['snapshot_gb']:.2f} GB in "
        f"{', '.join(f'{seconds:.2f}' for seconds in line['save_seconds'])} s |"
    )


if __name__ == "__main__":
    main()
