"""The same training without us, as a user writes it by hand: runs in a bare pod, from the same image.

Fetches model and prepared rows from the bucket, joins its peer by a headless Service's name, trains one step.
It must import nothing of finetune-operator: it is what we are compared with.
"""

import json
import os
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path

import deepspeed
import obstore
import torch
from datasets import load_from_disk
from obstore.store import S3Store
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, get_scheduler

ROWS_PER_RANK = 16
LABELS = 2


def main(prepared: str, model: str) -> None:
    """Train one optimizer step of 2 x 16 rows."""
    rank, peers = int(os.environ["RANK"]), 2
    store = S3Store(os.environ["BUCKET"], client_options={"allow_http": True})
    work = Path("/tmp/bare")
    for prefix, name in ((prepared, "data"), (model, "model")):
        _download(store, prefix, work / name)
    rows = load_from_disk(str(work / "data" / "train"))
    tokenizer = AutoTokenizer.from_pretrained(work / "model")
    network = AutoModelForSequenceClassification.from_pretrained(work / "model", num_labels=LABELS)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    _await_name(os.environ["MASTER_ADDR"])
    deepspeed.init_distributed(dist_backend="gloo", timeout=timedelta(seconds=120))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    engine, *_ = deepspeed.initialize(
        model=network,
        optimizer=optimizer,
        lr_scheduler=get_scheduler("linear", optimizer, 8, 80),
        config={"train_micro_batch_size_per_gpu": ROWS_PER_RANK, "zero_optimization": {"stage": 2}},
    )
    engine.train()
    chosen = rows.select(range(rank * ROWS_PER_RANK, (rank + 1) * ROWS_PER_RANK))
    batch = [{key: row[key] for key in ("input_ids", "attention_mask", "labels") if key in row} for row in chosen]
    loss = engine(**DataCollatorWithPadding(tokenizer)(batch)).loss
    engine.backward(loss)
    engine.step()
    print(json.dumps({"first_step_at": time.time(), "loss": float(loss), "peers": peers}), flush=True)


def _download(store: S3Store, prefix: str, folder: Path) -> None:
    for item in obstore.list(store, prefix=prefix).collect():
        target = folder / str(item["path"])[len(prefix) + 1 :]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(bytes(obstore.get(store, item["path"]).bytes()))


def _await_name(host: str) -> None:
    """A headless Service's name appears a while after its pod: every hand-written launcher waits for it."""
    for _ in range(600):
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{host} has no address after 60 s")


if __name__ == "__main__":
    main(*sys.argv[1:])
