"""Data preparation as the agent's child: its result, its progress, the user's mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_trainer.agent.child_words import Listener, describe_end
from finetune_trainer.agent.children import ChildEnd
from finetune_trainer.agent.progress import Board
from finetune_trainer.errors import DataError
from finetune_trainer.results import PreparedPointer
from finetune_trainer.store.store import Store
from tests.agent.make import AgentProcess, make_attempt, make_run


def _make_listener() -> tuple[Listener, Board]:
    board = Board("uid", 0, "trainer")
    return Listener(board), board


def _make_spec(tmp_path: Path, minilm: Path) -> dict[str, Any]:
    rows = [{"text": f"mail number {number}", "label": ("ham", "spam")[number % 2]} for number in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "model": {"source": f"file://{minilm}"},
        "data": {"train": {"source": f"file://{tmp_path}/train.jsonl"}},
    }


def test_a_prepare_pod_prepares_tells_and_leaves_on_finish(tmp_path: Path, minilm: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", uid="0a1b2c3d-4e5f", **_make_spec(tmp_path, minilm))
    columns = {"text": "text", "label": "label"}
    run = run.model_copy(update={"resolved": run.resolved.model_copy(update={"columns": columns})})
    with AgentProcess(tmp_path / "prepare", run, role=names.ROLE_PREPARE, module="finetune_trainer.agent") as agent:
        progress = agent.wait_for_news(attempt=0)
        assert (progress.phase, progress.failure) == ("Finished", None)
        pointer = Store.open(run.job_uri).get_document(names.FILE_PREPARED, PreparedPointer)
        assert pointer is not None
        assert progress.data == pointer.summary
        assert sum(part.rows for part in pointer.summary.parts.values()) > 0
        assert agent.finish() == 0


def test_a_missing_column_is_the_users_and_named(tmp_path: Path, minilm: Path) -> None:
    run = make_run(f"file://{tmp_path}/store", uid="0a1b2c3d-4e5f", **_make_spec(tmp_path, minilm))
    with AgentProcess(tmp_path / "node-0", run) as agent:
        agent.annotate(make_attempt())
        failure = agent.wait_for_news().failure
        assert failure is not None
        assert (failure.failure_class, failure.node) == (FailureClass.USER, 0)
        assert "body" in failure.message
        assert agent.finish() == 0
        assert agent.end["class"] == FailureClass.USER


def test_progress_lines_are_heard_and_not_logged() -> None:
    listener, board = _make_listener()
    assert listener.hear('{"progress": {"stage": "tokenize", "done": 3, "total": 9}}')
    preparation = board.snapshot().preparation
    assert preparation is not None
    assert (preparation.stage, preparation.done, preparation.total) == ("tokenize", 3, 9)


def test_the_first_failure_line_counts() -> None:
    listener, _ = _make_listener()
    first = DataError("row 7 has no label").to_failure()
    second = DataError("row 8 has no label").to_failure()
    for failure in (first, second):
        assert listener.hear(json.dumps({"failure": failure.to_data()}))
    assert listener.failure == first


def test_other_lines_are_not_ours() -> None:
    listener, _ = _make_listener()
    assert [listener.hear(line) for line in ("Loading", "{broken", '{"rows": 3}', '{"failure": 3}')] == [False] * 4


def test_a_child_without_words_is_described_by_its_exit_code() -> None:
    killed = describe_end(ChildEnd(-9, ("reading",)), node=1, step="data preparation")
    assert (killed.failure_class, killed.last_lines) == (FailureClass.OUT_OF_MEMORY, ("reading",))
    assert killed.message == "data preparation on node 1 was ended by signal 9; raise resources.memory"
    storage = describe_end(ChildEnd(14, ()), node=0, step="data preparation")
    assert storage.failure_class == FailureClass.STORAGE
