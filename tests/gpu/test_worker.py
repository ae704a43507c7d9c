"""What a worker on a GPU is made of: groups, optimizer, number types, and the figures it tells."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from finetune_contract.run import RunConfig
from finetune_trainer.messages import Logged
from tests.gpu.make import CASES, DEVICE, Case, assemble_gpu_run, make_gpu_run, name_case
from tests.trainer.assembled import leave
from tests.trainer.conftest import Folders
from tests.trainer.make import make_tasks
from tests.trainer.pool import call_in_worker, run_attempt

pytestmark = [pytest.mark.gpu, pytest.mark.distributed]


def look(connection: Connection) -> None:
    import torch

    found = torch.cuda.is_initialized(), torch.cuda._is_in_bad_fork()
    torch.ones(1, device=DEVICE)
    connection.send(found)


def test_the_imports_of_the_forkserver_leave_the_gpu_to_the_workers() -> None:
    assert call_in_worker(look) == (False, False)


def describe(connection: Connection, run_json: str, folders: Folders, work_dir: Path) -> None:
    import torch.distributed as dist

    from finetune_trainer.worker.train import iterate_steps

    run = assemble_gpu_run(RunConfig.from_json(run_json), folders, work_dir)
    steps = iterate_steps(run)
    next(steps), next(steps)
    optimizer = run.engine.optimizer
    while hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer
    states = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.numel() > 1]
    weights = list(run.engine.module.parameters())
    facts = {
        "groups": (dist.get_backend(), dist.get_backend(run.ranks.control)),
        "optimizer": type(optimizer).__name__,
        "fused": bool(optimizer.param_groups[0].get("fused")),
        "weights": {str(weight.dtype) for weight in weights},
        "moments": {(str(tensor.dtype), tensor.device.type) for tensor in states},
    }
    leave(connection, facts)


@pytest.mark.parametrize("case", CASES, ids=name_case)
def test_the_model_is_in_bf16_and_its_optimizer_in_fp32_where_it_was_asked_for(
    classifier: Folders, tmp_path: Path, case: Case
) -> None:
    run = make_gpu_run(spec=case.spec, zero_stage=case.zero_stage)
    on_gpu = case.offload == "none"
    assert call_in_worker(describe, run.to_json(), classifier, tmp_path) == {
        "groups": ("nccl", "gloo"),
        "optimizer": "AdamW",
        "fused": on_gpu,
        "weights": {"torch.bfloat16"},
        "moments": {("torch.float32", DEVICE if on_gpu else "cpu")},
    }


def test_a_worker_tells_the_peak_of_its_gpu_and_its_own_seconds(classifier: Folders, tmp_path: Path) -> None:
    attempt = run_attempt(make_tasks(make_gpu_run(), classifier.model, classifier.data, tmp_path))
    assert attempt.exit_codes == [0]
    last = attempt.heard(Logged)[-1]
    (peak,), (own,), seconds = last.rank_gpu_bytes, last.rank_seconds, last.progress.step_seconds
    # 22,400 parameters of 16 bytes each with AdamW in bf16, a few batches, and what cuBLAS works in.
    assert 16 * 22_400 < peak < 256 << 20
    assert seconds is not None
    assert 0 < own < 2 * seconds


def measure(connection: Connection, run_json: str, folders: Folders, work_dir: Path) -> None:
    """Seconds a step by the clock, the device awaited at both ends, and what the meter says of the same steps."""
    import time

    import torch

    from finetune_trainer.worker.train import iterate_steps

    run = assemble_gpu_run(RunConfig.from_json(run_json), folders, work_dir)
    steps = iterate_steps(run)
    for _ in range(30):
        next(steps)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(50):
        next(steps)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / 50
    message = run.meter.report(run.state.step, None, 0.0)
    leave(connection, (seconds, message.progress.step_seconds, message.progress.tokens_per_second))


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A decoder whose steps take the GPU longer than the host, on rows of 64 tokens."""
    from tests.gpu.speed import Shape, make_decoder, make_token_rows

    root = tmp_path_factory.mktemp("heavy")
    model = make_decoder(root / "model", Shape(hidden_size=1024, layers=6, vocabulary=1024))
    return Folders(model, make_token_rows(root / "data", rows=4096, length=64, vocabulary=1024))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_seconds_a_step_are_those_of_the_device_where_nothing_is_read_for_many_steps(
    heavy: Folders, tmp_path: Path, zero_stage: int, precision: str
) -> None:
    run = make_gpu_run(
        "text-generation", precision=precision, zero_stage=zero_stage, batch_size=32, micro_batch_size=32,
        epochs=None, max_steps=200 * 100, evaluate_every_epochs=1e6,
    )  # fmt: skip
    seconds, told, tokens = call_in_worker(measure, run.to_json(), heavy, tmp_path)
    print(f"zero {zero_stage} {precision}: {seconds * 1e3:.2f} ms a step, told {told * 1e3:.2f} ms, {tokens:.0f} tok/s")
    assert told == pytest.approx(seconds, rel=0.15)
    assert tokens == pytest.approx(32 * 64 / seconds, rel=0.15)
