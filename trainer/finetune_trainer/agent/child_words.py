"""What a child says of itself: JSON lines {"progress": ...} and {"failure": ...} on its stdout, and its exit code."""

from __future__ import annotations

import json
import logging
from typing import Final

from finetune_contract.exits import FailureClass, classify_exit
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, PreparationProgress
from finetune_trainer.agent.children import ChildEnd
from finetune_trainer.agent.progress import Board
from finetune_trainer.logs import Event, tell

logger = logging.getLogger(__name__)

_REASONS: Final = {
    FailureClass.USER: Reason.USER_ERROR,
    FailureClass.STORAGE: Reason.STORAGE_ERROR,
    FailureClass.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
}
_WORDS: Final = ("progress", "failure", "pointer")


class Listener:
    """Understands the lines of one child; the first failure stands."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._stage = ""
        self.failure: Failure | None = None

    def hear(self, line: str) -> bool:
        """Take a line; False when it is not one of ours."""
        if not line.startswith("{"):
            return False
        try:
            said = json.loads(line)
            if "failure" in said:
                self.failure = self.failure or Failure.from_data(said["failure"])
            elif "progress" in said:
                self._follow(PreparationProgress.from_data(said["progress"]))
        except ValueError as error:
            logger.warning("a line that looks like a message is none (%s): %s", error, line[:200])
            return False
        return any(word in said for word in _WORDS)

    def _follow(self, progress: PreparationProgress) -> None:
        self._board.set_preparation(progress)
        if progress.stage != self._stage:
            self._stage = progress.stage
            words = f"{progress.stage} ({progress.total:,} rows)" if progress.total else progress.stage
            logger.info("preparing the data: %s", words, extra=tell(Event.PREPARING, stage=progress.stage))


def describe_end(end: ChildEnd, node: int, step: str) -> Failure:
    """The failure of a child that did not say why it ended. Pure."""
    killed = end.exit_code == -9
    failure_class = FailureClass.OUT_OF_MEMORY if killed else classify_exit(end.exit_code) or FailureClass.CODE
    ended = f"was ended by signal {-end.exit_code}" if end.exit_code < 0 else f"ended with exit code {end.exit_code}"
    remedy = "raise resources.memory" if killed else "its last lines say why"
    return Failure(
        failure_class=failure_class,
        reason=_REASONS.get(failure_class, Reason.CODE_CRASH),
        message=f"{step} on node {node} {ended}; {remedy}",
        node=node,
        exit_code=end.exit_code,
        last_lines=end.last_lines,
    )
