"""The ground of the parts that need the real cluster: brought up when it is not there, and left up."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from tests.endtoend.ground import Ground, prepare_ground
from tests.ground import cluster, images, objectstore


@cache
def stand() -> Ground:
    """Cluster, chart, bucket."""
    kubeconfig = cluster.up()
    images.bring()
    store = objectstore.start()
    return prepare_ground(kubeconfig, store.environment, Path(tempfile.mkdtemp(prefix="finetune-bench-")))
