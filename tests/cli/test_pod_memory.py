"""What a pod has to have room for, and what is said where it has not."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_cli.pod_memory import RESERVED_BYTES, PodMemory, check_pod_memory, format_quantity

GIB = 1024**3


def make_pod(**fields: Any) -> PodMemory:
    """A pod in which everything fits exactly."""
    defaults = {
        "snapshot_bytes": GIB,
        "workers": 2,
        "process_bytes": 3 * GIB,
        "shared_bytes": 2 * GIB + 2 * RESERVED_BYTES,
        "limit_bytes": 8 * GIB,
    }
    return PodMemory(**{**defaults, **fields})


@pytest.mark.parametrize("fields", [{}, {"limit_bytes": None}, {"snapshot_bytes": 0, "shared_bytes": 0}])
def test_nothing_is_said_where_everything_fits(fields: dict[str, Any]) -> None:
    assert check_pod_memory(make_pod(**fields)) == []


def test_shared_memory_that_is_too_small_is_named_with_what_to_set() -> None:
    assert check_pod_memory(make_pod(shared_bytes=2 * GIB)) == [
        "two checkpoints of 1.0 GiB do not fit into 2.0 GiB of shared memory, so that every save goes to disk and"
        " training waits for it; set pod.sharedMemory: 2176Mi"
    ]


def test_snapshots_count_against_the_memory_of_the_pod() -> None:
    assert check_pod_memory(make_pod(limit_bytes=7 * GIB)) == [
        "processes and checkpoints need 8.0 GiB, and resources.memory is 7.0 GiB; set resources.memory: 8192Mi or more"
    ]


@pytest.mark.parametrize(("size", "text"), [(1, "1Mi"), (GIB, "1024Mi"), (10 * GIB + 1, "11Gi")])
def test_a_quantity_is_rounded_up(size: int, text: str) -> None:
    assert format_quantity(size) == text
