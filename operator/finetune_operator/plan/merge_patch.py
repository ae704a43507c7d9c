"""JSON merge patches (RFC 7386)."""

from __future__ import annotations

from typing import Any


def make_merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The patch that turns `before` into `after`: what vanished is null, lists are replaced as a whole."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            inner = make_merge_patch(old, value)
            patch |= {key: inner} if inner else {}
        elif key not in before or value != old:
            patch[key] = value
    return patch
