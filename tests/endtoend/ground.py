"""What the whole line stands on: images, chart, a team's namespace, a bucket with model and data."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.data import chat, models, spam
from tests.endtoend.bucket import Bucket
from tests.endtoend.kubectl import Kubectl
from tests.endtoend.make import SECRET
from tests.ground import binaries, images

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
    """Load images, install the chart, fill the bucket; what was done before costs little."""
    images.bring()
    system, team = Kubectl(kubeconfig, SYSTEM_NAMESPACE), Kubectl(kubeconfig, TEAM_NAMESPACE)
    _install_chart(kubeconfig)
    _make_namespace(team, environment)
    bucket = Bucket("ml", environment)
    return Ground(team, system, bucket, _upload_spam(bucket, folder), _upload_chat(bucket, folder))


def _install_chart(kubeconfig: Path) -> None:
    helm = binaries.find("helm", binaries.HELM)
    command = [str(helm), "--kubeconfig", str(kubeconfig), "upgrade", "--install", "finetune-operator"]
    command += [str(REPOSITORY / "charts" / "finetune-operator"), "--namespace", SYSTEM_NAMESPACE, "--create-namespace"]
    command += ["--wait", "--timeout", "180s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _make_namespace(team: Kubectl, environment: dict[str, str]) -> None:
    """A namespace that enforces the restricted pod standard: a pod that breaks it is refused by the API server."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    team.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team.namespace, "labels": restricted}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "stringData": environment},
    )


def _upload_spam(bucket: Bucket, folder: Path) -> Path:
    made = spam.make(folder / "spam")
    bucket.put_folder(made, "spam")
    bucket.put_folder(models.minilm(), "models/minilm")
    return made


def _upload_chat(bucket: Bucket, folder: Path) -> Path:
    made = chat.make(folder / "chat")
    _shorten(made / "test.jsonl", TEST_ROWS_OF_CHAT)
    bucket.put_folder(made, "chat")
    bucket.put_folder(models.smollm2_cut(), "models/smollm2")
    return made


def _shorten(path: Path, rows: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:rows]), encoding="utf-8")
