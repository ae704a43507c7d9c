"""`status.display`: the words of `kubectl get ftj`, whose columns print a value as it is.

For people only: rounded, derived from the rest of the status whenever it is written, read by no program.
"""

from finetune_contract.document import Document
from finetune_contract.text import ShortText


class DisplayStatus(Document):
    """What `kubectl get` prints of the job."""

    step: ShortText | None = None
    """Optimizer steps done, of all."""
    progress: ShortText | None = None
    """Share of the steps that are done."""
    eta: ShortText | None = None
    """Time to the last step, estimated from this attempt's steps."""
    loss: ShortText | None = None
    """Training loss."""
    best: ShortText | None = None
    """Metric and value of the best checkpoint."""
    goodput: ShortText | None = None
    """Share of the held time that went into steps that counted."""
    reason: ShortText | None = None
    """Reason of the condition that explains the phase."""


def describe_steps(step: int, total: int) -> str:
    """Write 120/600; without a total, which only the trainer learns, the steps alone."""
    return f"{step}/{total}" if total else str(step)


def describe_percent(percent: float) -> str:
    """Write 42%, rounded down: 100% is said when all is done."""
    return f"{int(percent)}%"


def describe_number(value: float) -> str:
    """Write four significant digits."""
    return f"{value:.4g}"


def describe_duration(seconds: float) -> str:
    """Write a duration as kubectl writes ages: 45s, 3m20s, 2h5m, 3d4h."""
    rest = max(0, round(seconds))
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or (parts and len(parts) < 2):
            parts.append(f"{count}{unit}" if count else "")
    return "".join(parts[:2]) or "0s"
