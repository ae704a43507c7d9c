"""The attempt: one set of members training together, handed to every agent by the same annotation; and its stop.

The protocol around it stands in docs/architecture.md.
"""

from typing import Annotated

from pydantic import Field

from finetune_contract.document import Document
from finetune_contract.text import ShortText


class Endpoint(Document):
    """Where rank 0 listens for the rendezvous."""

    host: ShortText
    port: Annotated[int, Field(ge=1, le=65535)]


class Attempt(Document):
    """Annotation finetune.dev/attempt: value is this document as JSON."""

    number: Annotated[int, Field(ge=1)]
    """Attempts count up from 1 over the job's whole life."""
    members: Annotated[dict[ShortText, ShortText], Field(min_length=1, max_length=1024)]
    """Node index (as text) -> IP address of its pod."""
    master: Endpoint
    """Rendezvous of the workers."""
    checkpoints: Annotated[dict[ShortText, ShortText], Field(max_length=2000)] = {}
    """Checkpoint folder -> manifest digest, from the job's status: only these are trusted on resume.
    Empty in the first attempt."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows that one worker computes at a time in this attempt; absent: what the RunConfig says. Smaller after
    memory ran out; the global batch stays."""
    skip_steps: Annotated[tuple[int, ...], Field(max_length=1000)] = ()
    """Optimizer steps whose rows are passed over: no update is made from them (failurePolicy.numeric: rollback)."""

    @property
    def node_indexes(self) -> tuple[int, ...]:
        """Members in the order of their node index; a node's position here gives its ranks."""
        return tuple(sorted(int(index) for index in self.members))


class StopRequest(Document):
    """Annotation finetune.dev/stop: value is this document as JSON.

    It ends the attempts up to `attempt`, with a checkpoint; a later attempt on the same pod is not touched by it.
    """

    attempt: Annotated[int, Field(ge=0)]
    """Number of the attempt that shall stop; 0: whatever a pod without attempt does (data preparation)."""
    reason: ShortText
    """names.Reason: why."""
