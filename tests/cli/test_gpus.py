from __future__ import annotations

import pytest

from finetune_cli.gpus import count_visible


@pytest.mark.parametrize(
    ("variable", "count"), [("", 0), ("0", 1), ("0,1", 2), ("0,-1,1", 1), ("-1", 0), ("GPU-8f2,GPU-9a1", 2)]
)
def test_visible_devices_are_counted_as_cuda_reads_them(variable: str, count: int) -> None:
    assert count_visible(variable) == count
