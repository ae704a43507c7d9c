"""The termination message: outcome, class, step and URI in the pod's status, for people who look at a dead pod."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from finetune_contract.progress import Progress

logger = logging.getLogger(__name__)

MOST_BYTES = 4096
"""What Kubernetes keeps."""
MESSAGE_CHARACTERS = 700
"""At most 4 bytes each, so that the whole stays below MOST_BYTES."""


def describe_end(progress: Progress) -> str:
    """The message, at most 4 KiB of JSON. Pure."""
    message: dict[str, Any] = {"phase": progress.phase, "attempt": progress.attempt, "step": progress.step.step}
    if progress.outcome is not None:
        message |= {"succeeded": progress.outcome.succeeded, "reason": progress.outcome.reason}
        message["message"] = progress.outcome.message[:MESSAGE_CHARACTERS]
        if progress.outcome.published is not None:
            message["uri"] = progress.outcome.published.uri[:256]
    elif progress.failure is not None:
        message |= {"class": progress.failure.failure_class, "reason": progress.failure.reason}
        message["message"] = progress.failure.message[:MESSAGE_CHARACTERS]
    return json.dumps(message, ensure_ascii=False)


def write_end(path: Path | None, progress: Progress) -> None:
    """Write the message where Kubernetes looks for it; a pod that cannot be told about is no reason to fail."""
    if path is None:
        return
    try:
        path.write_text(describe_end(progress))
    except OSError as error:
        logger.warning("the termination message could not be written to %s: %s", path, error.strerror)
