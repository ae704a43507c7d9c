"""A cluster that the user brings: ``KUBECONFIG`` points at kind, k3d or a real one, and the tests run there."""

from __future__ import annotations

import os
from pathlib import Path

from tests.ground.cache import REPOSITORY


def foreign_kubeconfig() -> Path | None:
    """Return the user's own kubeconfig, or None where ``KUBECONFIG`` is unset or names this clone's cluster."""
    value = os.environ.get("KUBECONFIG", "")
    if not value or Path(value).resolve().is_relative_to(REPOSITORY / ".cluster"):
        return None
    return Path(value)
