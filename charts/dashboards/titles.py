"""Which dashboards there are. Imports nothing of Grafana's, so that tests may ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

BOARDS: Final[Mapping[str, str]] = {
    "finetune-jobs": "FineTune / Jobs",
    "finetune-job": "FineTune / Job",
    "finetune-fleet": "FineTune / Fleet",
    "finetune-operator": "FineTune / Operator",
}
"""Titles by uid, in the order of the links. A uid is part of links and bookmarks: it never changes."""
