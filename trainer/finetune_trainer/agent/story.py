"""What node 0's agent adds to the story of a run in the log: data, failures, the outcome. Its sentences are pure."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from finetune_contract.progress import DataSummary, Failure, Outcome, Straggler
from finetune_trainer.logs import Event, tell
from finetune_trainer.publish.figures import format_count, format_reason

logger = logging.getLogger(__name__)


def tell_data(summary: DataSummary) -> None:
    """What preparation made, or found."""
    figures = {
        "rows": {name: part.rows for name, part in summary.parts.items()},
        "tokens": sum(part.tokens for part in summary.parts.values()),
        "dropped": sum(sum(part.dropped.values()) for part in summary.parts.values()),
        "truncated": sum(part.truncated for part in summary.parts.values()),
        "reused": summary.reused,
    }
    logger.info("%s", describe_data(summary), extra=tell(Event.DATA_PREPARED, **figures))


def describe_data(summary: DataSummary) -> str:
    """The parts, what was left out of them, and what was cut."""
    parts = ", ".join(f"{format_count(part.rows)} {name}" for name, part in summary.parts.items())
    found = "was prepared before" if summary.reused else "is prepared"
    return "; ".join([f"the data {found}: {parts} rows", *_list_losses(summary)])


def _list_losses(summary: DataSummary) -> Iterator[str]:
    for name, part in summary.parts.items():
        if part.dropped:
            why = ", ".join(f"{format_count(rows)} {format_reason(reason)}" for reason, rows in part.dropped.items())
            yield f"left out of {name}: {why}"
        if part.truncated:
            yield f"{format_count(part.truncated)} {name} rows are cut to {summary.max_length} tokens"


def tell_stragglers(stragglers: Sequence[Straggler], known: frozenset[int]) -> frozenset[int]:
    """Name the ranks that hold up the others and did not before (`known`); returns those that do now."""
    for straggler in stragglers:
        if straggler.rank not in known:
            logger.warning(
                "rank %d holds up the others: its own part of a step takes %.1f times the median's",
                straggler.rank,
                straggler.ratio,
                extra=tell(Event.STRAGGLING, slow_rank=straggler.rank, ratio=straggler.ratio),
            )
    return frozenset(straggler.rank for straggler in stragglers)


def tell_failure(what: str, failure: Failure) -> None:
    """Why it failed; the message has the remedy in it, and the last words of who failed stand beside it."""
    figures = failure.model_dump(mode="json", include={"reason", "step", "phase", "exit_code"})
    if failure.rank is not None:
        figures["failed_rank"] = failure.rank
    if failure.last_lines:
        figures["last_lines"] = list(failure.last_lines)
    logger.error("%s failed: %s", what, failure.message, extra=tell(Event.ATTEMPT_FAILED, **figures))


def tell_outcome(outcome: Outcome) -> None:
    """Where the model lies, and how the job ended."""
    if outcome.published is not None:
        published = tell(Event.PUBLISHED, uri=outcome.published.uri, digest=outcome.published.digest)
        logger.info("published to %s (%s)", outcome.published.uri, outcome.published.digest, extra=published)
    ended = tell(Event.FINISHED, reason=outcome.reason, step=outcome.step, report=outcome.report)
    level = logging.INFO if outcome.succeeded else logging.ERROR
    report = f"; the report is {outcome.report}" if outcome.report else ""
    logger.log(level, "%s%s", outcome.message.rstrip("."), report, extra=ended)
