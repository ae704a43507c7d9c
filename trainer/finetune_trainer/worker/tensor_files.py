"""State dictionaries as files that are written by one copy a tensor: no serializer passes over the tensors' bytes.

    bytes of all tensors, each at a multiple of 64 | structure | table | footer (32 bytes)

`structure` is a pickle of the state with a number in the place of every tensor, `table` says as JSON what each number
stands for (dtype, shape, offset). A tensor that occurs twice is stored once, and is one tensor again after reading.
The same bytes are read on any machine of the same byte order.

Reading unpickles `structure`: files from a store have to be compared with trusted digests before.

DeepSpeed's own tools (ds_to_universal, zero_to_fp32) read torch's format: `write_torch_files(folder, target)` makes a
copy of a folder for them, and `read_state` reads one file.
"""

from __future__ import annotations

import ctypes
import io
import json
import mmap
import pickle
import struct
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.errors import FineTuneError
from finetune_trainer.worker.mapped_files import MappedFile

MAGIC: Final = b"finetun1"
ALIGNMENT: Final = 64
"""Bytes: a cache line, and enough for every dtype."""
PIECE_BYTES: Final = 4 << 20
"""What one thread copies at a time."""
FOOTER: Final = struct.Struct("<QQQ8s")
"""Bytes of tensors, of the structure, of the table; magic."""


_Piece = tuple[int, int, int]
"""Target address, source address, bytes."""


@dataclass(frozen=True)
class Layout:
    """Where everything of a state goes; holds the state's own tensors, not copies."""

    tensors: tuple[Tensor, ...]
    offsets: tuple[int, ...]
    size: int
    """Bytes of all tensors with the gaps between them."""
    structure: bytes

    @property
    def total_size(self) -> int:
        """Bytes of the whole file."""
        return self.size + len(self.make_tail())

    def make_tail(self) -> bytes:
        """What follows the tensors."""
        table = json.dumps(
            [
                [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), offset]
                for tensor, offset in zip(self.tensors, self.offsets, strict=True)
            ]
        ).encode()
        return self.structure + table + FOOTER.pack(self.size, len(self.structure), len(table), MAGIC)


def plan_layout(state: Any) -> Layout:
    """The layout of a state: anything that pickle takes, with tensors anywhere in it."""
    stream = io.BytesIO()
    pickler = _StructurePickler(stream)
    pickler.dump(state)
    offsets, end = [], 0
    for tensor in pickler.tensors:
        offsets.append(end)
        end = align(end + tensor.numel() * tensor.element_size())
    return Layout(tuple(pickler.tensors), tuple(offsets), end, stream.getvalue())


def write_state(state: Any, file: MappedFile) -> None:
    """Write a state into a file, which is complete when this returns. Raises OSError where there is no room."""
    write_layout(plan_layout(state), file)


def write_layout(layout: Layout, file: MappedFile) -> None:
    """The same for a layout that is there already."""
    with file.lock:
        copy_tensors(dict(zip(layout.offsets, layout.tensors, strict=True)), file.reserve(layout.size))
        file.finish(layout.size, layout.make_tail())


def copy_tensors(tensors: Mapping[int, Tensor], body: Tensor) -> None:
    """Copy tensors to their offsets in `body`, a tensor of bytes; returns when all bytes are there.

    Tensors of the host are copied by as many threads as this process may have. Tensors of a GPU are copied one behind
    the other and awaited once: 11 to 12 GB/s on an H100, whose driver does not know these pages.
    """
    on_device = False
    pieces: list[_Piece] = []
    for offset, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if not tensor.is_cuda and tensor.is_contiguous():
            pieces += _cut(body.data_ptr() + offset, tensor.data_ptr(), size)
        elif size:
            place = body[offset : offset + size].view(tensor.dtype).view(tensor.shape)
            place.copy_(tensor.detach(), non_blocking=True)
            on_device = on_device or tensor.is_cuda
    _copy_pieces(pieces, torch.get_num_threads())
    if on_device:
        torch.cuda.synchronize()


def _cut(target: int, source: int, size: int) -> list[_Piece]:
    return [(target + begin, source + begin, min(PIECE_BYTES, size - begin)) for begin in range(0, size, PIECE_BYTES)]


def _copy_pieces(pieces: list[_Piece], threads: int) -> None:
    """Copy from address to address, which takes a tenth of the time of copy_ for small tensors.

    Whoever is free takes the next piece, this thread among them: none of them waits while there is something to do.
    """
    rest = deque(pieces)

    def copy() -> None:
        while rest:
            try:
                piece = rest.popleft()
            except IndexError:
                return
            ctypes.memmove(*piece)

    others = threads - 1 if len(pieces) >= 2 * threads else 0
    helpers = [threading.Thread(target=copy, name="copy", daemon=True) for _ in range(others)]
    for helper in helpers:
        helper.start()
    copy()
    for helper in helpers:
        helper.join()


def align(offset: int) -> int:
    """The next offset at which a tensor may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def is_state_file(path: Path) -> bool:
    """Whether a file ends as a state file does."""
    with path.open("rb") as file:
        file.seek(-min(len(MAGIC), path.stat().st_size), io.SEEK_END)
        return file.read() == MAGIC


def read_state(path: Path) -> Any:
    """The state of a file, all tensors in memory of their own. Raises FineTuneError where it is no complete file."""
    with path.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        if length < FOOTER.size:
            raise FineTuneError(f"{path}: {length} bytes are no state file; it was cut off")
        with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ) as content:
            return _parse(path, memoryview(content).toreadonly())


def write_torch_files(folder: Path, target: Path) -> None:
    """Copy a folder of state files (*.pt) as files of torch.save under the same names; `target` is made.

    For DeepSpeed's own tools. Unpickles: only for files whose digests were compared. Raises FineTuneError.
    """
    for path in sorted(folder.rglob("*.pt")):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        torch.save(read_state(path), copy)


def _parse(path: Path, content: memoryview) -> Any:
    with content:
        size, structure, table, magic = FOOTER.unpack(content[-FOOTER.size :])
        if magic != MAGIC or size + structure + table + FOOTER.size != len(content):
            raise FineTuneError(f"{path}: this is no complete state file of this version; it was cut off or changed")
        entries = json.loads(bytes(content[size + structure : -FOOTER.size]))
        tensors = [_read_tensor(content, *entry) for entry in entries]
        return _StructureUnpickler(io.BytesIO(content[size : size + structure]), tensors).load()


def _read_tensor(content: memoryview, dtype_name: str, shape: list[int], offset: int) -> Tensor:
    dtype = getattr(torch, dtype_name)
    tensor = torch.empty(shape, dtype=dtype)
    if size := tensor.numel() * tensor.element_size():
        tensor.view(-1).view(torch.uint8).numpy()[:] = np.frombuffer(content, np.uint8, size, offset)
    return tensor


class _StructurePickler(pickle.Pickler):
    """Leaves tensors out and collects them; one that is met twice keeps its number."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=5)
        self.tensors: list[Tensor] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, Tensor):
            return None
        key = (value.data_ptr() or id(value), value.device, value.dtype, value.shape, value.stride())
        if key not in self._numbers:
            self._numbers[key] = len(self.tensors)
            self.tensors.append(value)
        return self._numbers[key]


class _StructureUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(stream)
        self._tensors = tensors

    def persistent_load(self, number: Any) -> Tensor:
        return self._tensors[int(number)]
