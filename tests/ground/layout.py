"""Where one clone's cluster lives: its addresses, its folders and its names.

Every clone has a *slot*, derived from the hash of its folder, and everything that a machine has only one of (an
address block, a network namespace, a cgroup) carries the slot: two clones on one machine do not meet.
The addresses come from 198.18.0.0/15, which is set aside for tests and never routed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from tests.ground.cache import REPOSITORY

SLOTS = 128
MAX_NODES = 4
POD_ADDRESSES_PER_NODE = 120
RUN_FOLDER = Path("/run/finetune-ground")
BLOCKS = IPv4Network("198.18.0.0/15")


def preferred_slot(folder: Path) -> int:
    """Return the slot that a clone in ``folder`` tries first."""
    return int.from_bytes(hashlib.sha256(str(folder).encode()).digest()[:4], "big") % SLOTS


@dataclass(frozen=True)
class Layout:
    """The addresses and paths of the cluster in one slot."""

    slot: int
    repository: Path = REPOSITORY

    @property
    def state(self) -> Path:
        """The folder inside the clone that holds all state, the kubeconfig and the logs."""
        return self.repository / ".cluster"

    @property
    def run(self) -> Path:
        """The same folder under a short path: a Unix socket's path may not be longer than 107 bytes."""
        return RUN_FOLDER / str(self.slot)

    @property
    def owner_file(self) -> Path:
        """Says which clone holds the slot."""
        return RUN_FOLDER / f"{self.slot}.owner"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def namespace(self) -> str:
        """The network namespace that everything runs in: deleting it deletes bridge, routes and firewall rules."""
        return f"finetune-{self.slot}"

    @property
    def bridge(self) -> str:
        """The bridge that all nodes' pods hang on, inside the namespace."""
        return "pods"

    @property
    def block(self) -> IPv4Network:
        """All addresses of this slot: a /22."""
        return list(BLOCKS.subnets(new_prefix=22))[self.slot]

    @property
    def pods(self) -> IPv4Network:
        """The pods' network, the lower half of the block."""
        return next(self.block.subnets(prefixlen_diff=1))

    @property
    def services(self) -> IPv4Network:
        """The Services' addresses."""
        return list(self.block.subnets(new_prefix=24))[2]

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's address: API server, kubelets, DNS and object store listen on it."""
        return self.pods[1]

    @property
    def kubernetes_service(self) -> IPv4Address:
        """The address of the Service ``kubernetes``."""
        return self.services[1]

    @property
    def host_end(self) -> IPv4Address:
        """The machine's own end of the link into the namespace: what runs outside is reached here."""
        return list(self.block.subnets(new_prefix=24))[3][1]

    @property
    def inner_end(self) -> IPv4Address:
        """The namespace's end of the link."""
        return self.host_end + 1

    def pod_range(self, node: int) -> tuple[IPv4Address, IPv4Address]:
        """Return the first and last pod address of node 1, 2, ...: disjoint, so that IPAM folders may be separate."""
        first = self.pods[16 + POD_ADDRESSES_PER_NODE * (node - 1)]
        return first, first + POD_ADDRESSES_PER_NODE - 1

    def cgroup(self, node: int) -> str:
        """Return the cgroup that holds a node's pods; two kubelets in one kill each other's."""
        return f"finetune-{self.slot}-node{node}"

    def node(self, node: int) -> Path:
        """Return a node's state folder, by its short path."""
        return self.run / f"node{node}"


def claim_slot(repository: Path = REPOSITORY) -> Layout:
    """Return this clone's layout, taking the next free slot when another clone holds the preferred one."""
    start = preferred_slot(repository)
    layouts = [Layout((start + step) % SLOTS, repository) for step in range(SLOTS)]
    RUN_FOLDER.mkdir(parents=True, exist_ok=True)
    held = [layout for layout in layouts if _owner(layout) == str(repository)]
    layout = next(iter(held), None) or next(layout for layout in layouts if not Path(_owner(layout) or "/-").exists())
    layout.owner_file.write_text(str(repository))
    return layout


def current_layout(repository: Path = REPOSITORY) -> Layout | None:
    """Return the layout of this clone's cluster, or None when it holds no slot."""
    for owner in RUN_FOLDER.glob("*.owner"):
        if owner.read_text() == str(repository):
            return Layout(int(owner.stem), repository)
    return None


def _owner(layout: Layout) -> str:
    return layout.owner_file.read_text() if layout.owner_file.exists() else ""
