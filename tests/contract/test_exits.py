"""Exit codes of a worker and the class of failure that each of them means."""

from __future__ import annotations

import pytest

from finetune_contract.exits import FailureClass, WorkerExit, classify_exit


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (0, None),
        (3, None),
        (10, FailureClass.USER),
        (11, FailureClass.OUT_OF_MEMORY),
        (12, FailureClass.NUMERIC),
        (13, FailureClass.PEER_LOST),
        (14, FailureClass.STORAGE),
        (15, FailureClass.HANG),
        (1, FailureClass.CODE),
        (-9, FailureClass.CODE),
        (137, FailureClass.CODE),
    ],
)
def test_every_code_has_a_class(code: int, meaning: FailureClass | None) -> None:
    assert classify_exit(code) is meaning


def test_every_code_of_a_worker_is_in_the_table() -> None:
    assert [code for code in WorkerExit if classify_exit(code) is FailureClass.CODE] == []
