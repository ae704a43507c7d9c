"""Tensors of a GPU in state files, the events that time its work, and the peak of its memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.worker.mapped_files import MappedFile
from finetune_trainer.worker.memory import measure_peak
from finetune_trainer.worker.own_time import OwnTime
from finetune_trainer.worker.randomness import capture_states, restore_states
from finetune_trainer.worker.tensor_files import read_state, write_state
from tests.gpu.make import DEVICE
from tests.trainer.test_tensor_files import assert_same, make_state

pytestmark = pytest.mark.gpu


def move(value: Any, device: str) -> Any:
    """The same state on a device; tensors only, wherever they are."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return type(value)((key, move(each, device)) for key, each in value.items())
    return type(value)(move(each, device) for each in value) if type(value) in (list, tuple) else value


def test_a_state_on_the_gpu_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    for seed, rows in enumerate((5, 400_000, 3)):
        write_state(move(make_state(seed, rows), DEVICE), file)
        assert_same(read_state(file.path), make_state(seed, rows))


def test_what_the_gpu_is_still_computing_is_waited_for(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    weight = torch.ones(4096, 4096, device=DEVICE)
    product = weight
    for _ in range(20):
        product = product @ weight / 4096
    write_state({"product": product, "transposed": product.t(), "host": torch.arange(3)}, file)
    found = read_state(file.path)
    assert torch.equal(found["product"], product.cpu())
    assert torch.equal(found["transposed"], product.t().cpu())
    assert torch.equal(found["host"], torch.arange(3))


def test_the_generator_of_the_gpu_goes_on_from_where_it_was(tmp_path: Path) -> None:
    device, file = torch.device(DEVICE, 0), MappedFile(tmp_path / "random.pt")
    torch.rand(1000, device=device)
    write_state(capture_states(device), file)
    expected = torch.rand(1000, device=device)
    torch.rand(5, device=device)
    restore_states(read_state(file.path), device)
    assert torch.equal(torch.rand(1000, device=device), expected)


def test_a_forward_pass_is_timed_by_the_device_and_not_by_its_launch() -> None:
    device, own_time = torch.device(DEVICE, 0), OwnTime()
    weight = torch.rand(8192, 8192, device=device)
    weight @ weight
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(2):
        with own_time.measure(device):
            for _ in range(5):
                weight @ weight
        launched = time.perf_counter() - began
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - began
    assert own_time.take(2) * 2 == pytest.approx(elapsed, rel=0.1)
    assert launched < elapsed / 2


def test_the_peak_is_what_torch_has_allocated_at_most() -> None:
    device = torch.device(DEVICE, 0)
    before = measure_peak(device).gpu
    held = torch.empty(before + (1 << 30), dtype=torch.uint8, device=device)
    during = measure_peak(device).gpu
    del held
    assert during >= before + (1 << 30)
    assert measure_peak(device).gpu == during
