"""Why pods do not run yet, in the cluster's own words."""

from __future__ import annotations

from typing import Final

from finetune_operator.plan.membership import is_silent
from finetune_operator.snapshot import Pod, Snapshot

PATIENCE_SECONDS: Final = 30.0
"""Pods that are merely starting are no news; those that still wait after this are."""
_IMAGE_REASONS: Final = ("ErrImagePull", "ImagePullBackOff")
_SENTENCE: Final = "The pods are starting."


def explain_waiting(snapshot: Snapshot, now: float) -> str:
    """One sentence about pods that do not run: the first that waits too long, with the cluster's reason."""
    if snapshot.rejection is not None:
        return f"The API server refused {snapshot.rejection.what}: {snapshot.rejection.message}"
    late = [pod for pod in _list_pending(snapshot) if pod.reason and now >= _patience_ends(pod)]
    if late:
        return _explain(late[0])
    silent = [pod for pod in snapshot.trainers if pod.is_running and not pod.deleting and is_silent(snapshot, pod, now)]
    if silent:
        return f"The agent of pod {silent[0].key.name} does not answer: the next attempt waits for it."
    return _SENTENCE


def next_news(snapshot: Snapshot, now: float) -> float | None:
    """Seconds until a waiting pod becomes news; None where none will."""
    ends = [_patience_ends(pod) - now for pod in _list_pending(snapshot)]
    return min((seconds for seconds in ends if seconds > 0), default=None)


def _list_pending(snapshot: Snapshot) -> list[Pod]:
    return [pod for pod in snapshot.pods if pod.phase == "Pending" and not pod.deleting]


def _patience_ends(pod: Pod) -> float:
    return pod.created + PATIENCE_SECONDS


def _explain(pod: Pod) -> str:
    if pod.reason in _IMAGE_REASONS:
        # The kubelet alternates between the two reasons; the words behind the last "ErrImagePull: " stay the same.
        words = pod.message.rsplit("ErrImagePull: ", 1)[-1]
        return (
            f"Pod {pod.key.name} waits for its image {pod.image} (ErrImagePull): {words};"
            " check spec.pod.image and spec.pod.imagePullSecrets"
        )
    return f"Pod {pod.key.name} waits ({pod.reason}): {pod.message}"
