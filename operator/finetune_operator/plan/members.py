"""The members of the attempt under way: their pods, what their agents say of it, and which of them are lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from finetune_contract import names
from finetune_contract.exits import FailureClass
from finetune_contract.names import Reason
from finetune_contract.progress import Failure, Progress
from finetune_contract.status import AttemptStatus
from finetune_operator.snapshot import Answer, Pod, Snapshot

LEAVING_SILENCE_SECONDS: Final = 10.0
"""An agent that was asked to go and says nothing for so long is gone, whatever its node still claims."""
SILENCE_SECONDS: Final = 60.0
"""An agent that says nothing for so long, and of which something else is wrong too, is gone."""
OUT_OF_MEMORY_WORD: Final = "OOMKilled"
"""Kubernetes' own word for a container that the kernel ended for its memory."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the attempt under way."""

    index: int
    name: str
    """Name of its pod."""
    pod: Pod | None
    """None: it is no longer there."""
    answer: Answer | None
    """What its agent said last, if that was about this attempt."""

    @property
    def failure(self) -> Failure | None:
        """What its agent told of this attempt's failure, with the node where it was."""
        failure = self.answer.progress.failure if self.answer else None
        if failure is None or failure.host is not None or self.pod is None or not self.pod.host:
            return failure
        return failure.model_copy(update={"host": self.pod.host})

    @property
    def has_stopped(self) -> bool:
        """Its workers ended as they were asked to."""
        return self.answer is not None and self.answer.progress.phase == "Stopped"


def list_members(snapshot: Snapshot, attempt: AttemptStatus) -> tuple[Member, ...]:
    """By node index; the first one's agent keeps the ledger."""
    pods = {pod.key.name: pod for pod in snapshot.trainers}
    members = []
    for index, name in sorted((int(index), name) for index, name in attempt.members.items()):
        answer = snapshot.answers.get(name)
        heard = answer if answer is not None and answer.progress.attempt == attempt.number else None
        members.append(Member(index, name, pods.get(name), heard))
    return tuple(members)


def hear_members(snapshot: Snapshot, attempt: AttemptStatus | None) -> list[Progress]:
    """What the agents of the attempt under way say of it, by node index."""
    members = list_members(snapshot, attempt) if attempt else ()
    return [member.answer.progress for member in members if member.answer is not None]


def find_last_word(snapshot: Snapshot, pod: Pod) -> float:
    """When the pod's agent answered last; before we listened, or before there was a pod, silence means nothing."""
    answer = snapshot.answers.get(pod.key.name)
    return max(answer.heard if answer else 0.0, snapshot.listening_since, pod.created)


def find_loss(snapshot: Snapshot, member: Member, now: float, *, others_fail: bool) -> Failure | None:
    """Why this member can no longer take part; None while it can."""
    pod = member.pod
    if pod is None:
        return describe_missing_pod(member.name, member.index, now)
    if pod.has_ended:
        return describe_ended_pod(pod, now)
    silence = now - find_last_word(snapshot, pod)
    if pod.deleting and silence >= LEAVING_SILENCE_SECONDS:
        return _describe_loss(pod, f"pod {pod.key.name} was asked to go, and its agent is silent", now)
    if silence >= SILENCE_SECONDS and (not pod.ready or others_fail):
        return _describe_loss(pod, f"the agent of pod {pod.key.name} has been silent for {silence:.0f} s", now)
    return None


def list_silences(snapshot: Snapshot, members: tuple[Member, ...]) -> list[float]:
    """Moments at which a member's silence may come to mean its loss."""
    pods = [member.pod for member in members if member.pod is not None and not member.pod.has_ended]
    return [find_last_word(snapshot, pod) + _choose_patience(pod) for pod in pods]


def describe_ended_pod(pod: Pod, now: float) -> Failure:
    """The failure of a pod that ended although its job still needed it; the words are the cluster's."""
    said = ": ".join(word for word in (pod.reason, pod.message) if word)
    if pod.reason == OUT_OF_MEMORY_WORD:
        return Failure(
            failure_class=FailureClass.OUT_OF_MEMORY,
            reason=Reason.OUT_OF_MEMORY,
            message=f"pod {pod.key.name} ran out of memory: raise spec.resources.memory or lower"
            " spec.training.microBatchSize",
            node=pod.node_index,
            exit_code=pod.exit_code,
            host=pod.host or None,
            at=now,
        )
    return _describe_loss(pod, f"pod {pod.key.name} ended before the job did{f' ({said})' if said else ''}", now)


def describe_missing_pod(name: str, node_index: int, now: float) -> Failure:
    """The failure of a pod that is no longer there."""
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE,
        reason=Reason.POD_LOST,
        message=f"pod {name} was deleted while the job needed it; another takes its place",
        node=node_index,
        at=now,
    )


def _describe_loss(pod: Pod, what: str, now: float) -> Failure:
    role = "data preparation" if pod.role == names.ROLE_PREPARE else f"node {pod.node_index}"
    return Failure(
        failure_class=FailureClass.INFRASTRUCTURE,
        reason=Reason.POD_LOST,
        message=f"{what[:3900]}; another pod takes over {role}",
        node=pod.node_index,
        exit_code=pod.exit_code,
        host=pod.host or None,
        at=now,
    )


def _choose_patience(pod: Pod) -> float:
    return LEAVING_SILENCE_SECONDS if pod.deleting else SILENCE_SECONDS
