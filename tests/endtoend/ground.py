"""What the whole line stands on: images, chart, a team's namespace, a bucket with model and data."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.data import chat, models, spam
from tests.endtoend.bucket import Bucket
from tests.endtoend.kubectl import Kubectl
from tests.endtoend.make import BUCKET, SECRET
from tests.ground import objectstore
from tests.ground.install import install

REPOSITORY = Path(__file__).parents[2]
SYSTEM_NAMESPACE = "finetune-system"
TEAM_NAMESPACE = "team-a"
TEST_ROWS_OF_CHAT = 48


@dataclass(frozen=True)
class Ground:
    """What a test of the whole line stands on."""

    kubectl: Kubectl
    """In the namespace of the user's team."""
    system: Kubectl
    """In the operator's namespace."""
    bucket: Bucket
    spam: Path
    """Folder with train.jsonl and test.jsonl as they lie in the bucket."""
    chat: Path


def prepare_ground(kubeconfig: Path, environment: dict[str, str], folder: Path) -> Ground:
    """Install the chart, make the team's namespace, fill the bucket; what was done before costs little."""
    system, team = Kubectl(kubeconfig, SYSTEM_NAMESPACE), Kubectl(kubeconfig, TEAM_NAMESPACE)
    install(SYSTEM_NAMESPACE)
    if not os.environ.get("AWS_ENDPOINT_URL"):
        objectstore.start().make_bucket(BUCKET)
    _make_namespace(team, environment)
    bucket = Bucket(BUCKET, environment)
    return Ground(team, system, bucket, _upload_spam(bucket, folder), _upload_chat(bucket, folder))


def _make_namespace(team: Kubectl, environment: dict[str, str]) -> None:
    """A namespace that enforces the restricted pod standard: a pod that breaks it is refused by the API server."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    team.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team.namespace, "labels": restricted}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": environment},
    )


def _upload_spam(bucket: Bucket, folder: Path) -> Path:
    made = folder / "spam"
    spam.write_spam(made)
    bucket.put_folder(made, "spam")
    bucket.put_folder(models.minilm(), "models/minilm")
    return made


def _upload_chat(bucket: Bucket, folder: Path) -> Path:
    made = folder / "chat"
    chat.write_chat(made)
    _shorten(made / "test.jsonl", TEST_ROWS_OF_CHAT)
    bucket.put_folder(made, "chat")
    bucket.put_folder(models.smollm_cut(), "models/smollm2")
    return made


def _shorten(path: Path, rows: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:rows]), encoding="utf-8")
