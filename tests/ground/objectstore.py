"""An S3 server for tests: versitygw over a folder, with conditional writes and multipart uploads.

Where this clone's cluster is up, it listens on the bridge, reachable from pods and from this machine under one
address; otherwise on 127.0.0.1. ``python3 -m tests.ground.objectstore start`` prints the variables that clients read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.ground import binaries, processes
from tests.ground.cache import REPOSITORY
from tests.ground.cluster import is_up
from tests.ground.controlplane import free_ports
from tests.ground.layout import Layout, current_layout
from tests.ground.network import enter

ACCESS_KEY = "finetune-test"
SECRET_KEY = "finetune-test-secret"
REGION = "us-east-1"
CLUSTER_PORT = 7070
NAME = "versitygw"
STATE = REPOSITORY / ".cluster" / "objectstore"


@dataclass(frozen=True)
class ObjectStore:
    """Where a store listens and keeps its buckets."""

    folder: Path
    address: str
    port: int
    prefix: tuple[str, ...] = ()

    @property
    def data(self) -> Path:
        """The folder whose folders are the buckets: the same one with a cluster and without."""
        return STATE / "data"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients (obstore, the AWS tools) reach the store."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self.address}:{self.port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_ALLOW_HTTP": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket unless it is there, and return its name."""
        (self.data / name).mkdir(parents=True, exist_ok=True)
        return name


def start() -> ObjectStore:
    """Start the store unless it runs."""
    store = _described() or _described_anew()
    store.data.mkdir(parents=True, exist_ok=True)
    program = binaries.find("versitygw", binaries.OBJECT_STORE)
    keys = ("--access", ACCESS_KEY, "--secret", SECRET_KEY, "--region", REGION)
    listen = ("--port", f"{store.address}:{store.port}")
    command = [*store.prefix, str(program), *keys, *listen, "--quiet", "posix", str(store.data)]
    processes.start(store.folder, NAME, command)
    processes.wait_until(lambda: _listens(store), "the object store listens", store.folder, NAME)
    return store


def stop() -> None:
    """Stop the store and drop what it holds."""
    for folder in STATE.glob("*/"):
        processes.stop(folder, NAME)
    shutil.rmtree(STATE, ignore_errors=True)


def _described() -> ObjectStore | None:
    """Return the store that runs where it is needed now (a cluster may have come or gone since another was started)."""
    folder = STATE / ("cluster" if _cluster() else "local")
    if not processes.is_running(folder, NAME):
        return None
    place = json.loads((folder / "place.json").read_text())
    return ObjectStore(folder, place["address"], place["port"], tuple(place["prefix"]))


def _described_anew() -> ObjectStore:
    layout = _cluster()
    if layout is not None:
        store = ObjectStore(STATE / "cluster", str(layout.gateway), CLUSTER_PORT, enter(layout))
    else:
        store = ObjectStore(STATE / "local", "127.0.0.1", free_ports(1)[0])
    store.folder.mkdir(parents=True, exist_ok=True)
    place = {"address": store.address, "port": store.port, "prefix": store.prefix}
    (store.folder / "place.json").write_text(json.dumps(place))
    return store


def _cluster() -> Layout | None:
    layout = current_layout()
    return layout if layout is not None and is_up(layout) else None


def _listens(store: ObjectStore) -> bool:
    try:
        socket.create_connection((store.address, store.port), timeout=1).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Start the store and print its variables, or stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("start", "stop"))
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket too")
    arguments = parser.parse_args()
    if arguments.command == "stop":
        stop()
        return
    try:
        store = start()
    except (binaries.MissingToolError, processes.StartError) as error:
        sys.exit(str(error))
    for bucket in arguments.bucket:
        store.make_bucket(bucket)
    for key, value in store.environment.items():
        print(f"export {key}={value}")


if __name__ == "__main__":
    main()
