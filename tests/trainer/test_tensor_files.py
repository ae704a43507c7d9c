"""State files: what is read is what was written, on whatever pages it was written, and nothing else is read."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.errors import FineTuneError
from finetune_trainer.worker.mapped_files import MappedFile
from finetune_trainer.worker.tensor_files import plan_layout, read_state, write_state, write_torch_files


def make_state(seed: int = 0, rows: int = 5) -> dict[str, Any]:
    """What a checkpoint may hold: every dtype, views, nothing in a tensor, tensors in tuples and in objects."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(rows, 7, generator=generator)
    return {
        "module": OrderedDict(weights=weights, half=weights.bfloat16(), flags=weights > 0, none=torch.empty(0, 3)),
        "optimizer": {"state": {0: {"step": torch.tensor(3.0), "moments": (weights * 2, weights[:, 2:4])}}},
        "shape": torch.Size([5, 7]),
        "dtype": torch.float16,
        "steps": [1, None, "text"],
    }


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    write_state(make_state(), file)
    assert_same(read_state(file.path), make_state())
    assert file.path.stat().st_size == plan_layout(make_state()).total_size


def test_a_file_is_written_again_with_a_larger_and_a_smaller_state(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    for seed, rows in enumerate((5, 5000, 3, 4000, 4000)):
        write_state(make_state(seed, rows), file)
        assert_same(read_state(file.path), make_state(seed, rows))


def test_a_file_that_another_process_left_is_written_again(tmp_path: Path) -> None:
    write_state(make_state(rows=900), MappedFile(tmp_path / "state.pt"))
    write_state(make_state(seed=1), MappedFile(tmp_path / "state.pt"))
    assert_same(read_state(tmp_path / "state.pt"), make_state(seed=1))


def test_touching_the_pages_changes_nothing(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    write_state(make_state(), file)
    MappedFile(tmp_path / "state.pt").touch(plan_layout(make_state()).size)
    assert_same(read_state(file.path), make_state())


def test_a_tensor_that_occurs_twice_is_stored_once_and_stays_one(tmp_path: Path) -> None:
    shared = torch.arange(1000.0)
    file = MappedFile(tmp_path / "state.pt")
    write_state({"a": shared, "b": shared.view(1000), "c": shared[1:]}, file)
    state = read_state(file.path)
    assert state["a"] is state["b"]
    assert_same(state["c"], shared[1:])
    assert file.path.stat().st_size < 2.2 * 4000


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    write_state(make_state(), file)
    state = read_state(file.path)
    write_state(make_state(seed=1), file)
    state["module"]["weights"] += 0
    assert_same(state, make_state())


@pytest.mark.parametrize("cut", [1, 100, 700])
def test_a_file_that_was_cut_off_is_refused_by_its_name(tmp_path: Path, cut: int) -> None:
    file = MappedFile(tmp_path / "state.pt")
    write_state(make_state(), file)
    file.path.write_bytes(file.path.read_bytes()[:-cut])
    with pytest.raises(FineTuneError, match=r"state\.pt: .*cut off"):
        read_state(file.path)


def test_without_room_nothing_is_written_and_it_is_an_error(tmp_path: Path) -> None:
    file = MappedFile(tmp_path / "state.pt")
    with pytest.raises(OSError, match=r"space left|too large"):
        file.reserve(1 << 60)
    write_state(make_state(), file)
    assert_same(read_state(file.path), make_state())


def test_a_folder_is_copied_for_tools_that_read_the_format_of_torch(tmp_path: Path) -> None:
    write_state(make_state(), MappedFile(tmp_path / "raw" / "engine" / "model_states.pt"))
    write_torch_files(tmp_path / "raw", tmp_path / "torch")
    found = torch.load(tmp_path / "torch" / "engine" / "model_states.pt", weights_only=False)
    assert_same(found, make_state())
