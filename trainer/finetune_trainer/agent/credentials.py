"""Keeps storage and hub credentials from the workers: out of the environment, and out of a sibling's reach.

A process of the same user could read /proc/PID/environ of the agent; a process that is not dumpable refuses that.
With workload identity a worker could still obtain credentials by itself.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import MutableMapping

PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
NAMES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN")
_PR_SET_DUMPABLE = 4


def forbid_inspection() -> None:
    """Make this process's memory and environment unreadable for others of its user (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def take_credentials(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the credentials from an environment and return them."""
    taken = {name: value for name, value in environment.items() if name.startswith(PREFIXES) or name in NAMES}
    for name in taken:
        del environment[name]
    return taken
