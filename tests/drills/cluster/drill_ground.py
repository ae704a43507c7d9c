"""What the drills on the real cluster stand on: the chart, a namespace of their own, and a bucket behind the proxy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.data import models, spam
from tests.drills.cluster.make import make_namespace_objects
from tests.drills.s3_proxy import S3Proxy
from tests.endtoend.bucket import Bucket
from tests.endtoend.ground import SYSTEM_NAMESPACE
from tests.endtoend.kubectl import Kubectl
from tests.endtoend.make import BUCKET
from tests.ground import binaries, objectstore
from tests.ground.install import install
from tests.ground.layout import Layout, current_layout
from tests.waiting import wait_for

NAMESPACE = "drills"
GONE_SECONDS = 180


@dataclass(frozen=True)
class DrillGround:
    """The ready ground."""

    layout: Layout
    kubectl: Kubectl
    """In the drills' namespace."""
    system: Kubectl
    """In the operator's namespace."""
    bucket: Bucket
    """By the direct way, which no fault closes."""
    proxy: S3Proxy
    """The way that the pods take."""
    spam: Path

    def operator_pod(self) -> dict[str, object]:
        """Metadata of the operator's pod that is not about to go."""
        pods = self.system.list("pods", "app.kubernetes.io/name=finetune-operator")
        found: dict[str, object] = next(pod["metadata"] for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return found

    def clear(self) -> None:
        """Remove every job, also those of a session that was killed, and wait until no pod is left."""
        self.kubectl("delete", "ftj", "--all", "--wait=true", timeout=GONE_SECONDS)
        wait_for(self.is_empty, "no pod is left", seconds=GONE_SECONDS)

    def is_empty(self) -> bool:
        """No pod of any job is there."""
        return not self.kubectl.list("pods", "finetune.dev/job")


@contextmanager
def prepare_drill_ground(kubeconfig: Path, folder: Path) -> Iterator[DrillGround]:
    """Install the chart, make the namespace, fill the bucket, open the proxy."""
    layout = current_layout()
    assert layout is not None, "the drills strike processes and networks: they need the cluster of this clone"
    program = "kubectl" if shutil.which("kubectl") else str(binaries.find("kubectl", binaries.KUBERNETES))
    install(SYSTEM_NAMESPACE)
    store = objectstore.start()
    store.make_bucket(BUCKET)
    bucket = Bucket(BUCKET, store.environment)
    spam.write_spam(folder)
    bucket.put_folder(folder, "spam")
    bucket.put_folder(models.minilm(), "models/minilm")
    with S3Proxy(store.environment["AWS_ENDPOINT_URL"], str(layout.host_end)) as proxy:
        team, system = (Kubectl(kubeconfig, name, program) for name in (NAMESPACE, SYSTEM_NAMESPACE))
        team.apply(*make_namespace_objects(NAMESPACE, {**store.environment, "AWS_ENDPOINT_URL": proxy.address}))
        ground = DrillGround(layout, team, system, bucket, proxy, folder)
        ground.clear()
        try:
            yield ground
        finally:
            ground.clear()
