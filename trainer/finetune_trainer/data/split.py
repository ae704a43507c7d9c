"""Splitting parts off the training rows: seeded, by class or by group. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

TRAIN = "train"


def split_rows(
    count: int,
    shares: Mapping[str, float],
    seed: int,
    *,
    classes: Sequence[Hashable] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, list[int]]:
    """Positions of each part in ascending order, `train` holding the rest; every row is in one part.

    Each part with a share gets at least one row where there are rows enough. With `groups` rows of one group stay
    together and classes are not looked at; with `classes` every part has each class's share, and a class's last row
    stays in training.
    """
    rng = np.random.default_rng(seed)
    wanted = {part: max(1, round(share * count)) for part, share in shares.items() if share > 0}
    if groups is not None:
        parts = _split_groups(groups, wanted, rng)
    else:
        parts = _split_classes(classes if classes is not None else [None] * count, wanted, count, rng)
    taken = {position for positions in parts.values() for position in positions}
    rest = [position for position in range(count) if position not in taken]
    return {TRAIN: rest, **{part: sorted(positions) for part, positions in parts.items()}}


def _split_groups(
    groups: Sequence[Hashable], wanted: Mapping[str, int], rng: np.random.Generator
) -> dict[str, list[int]]:
    members = _collect(groups)
    order = [list(members)[index] for index in rng.permutation(len(members))]
    parts: dict[str, list[int]] = {part: [] for part in wanted}
    left = len(order)
    for group in order:
        # The last group stays in training.
        open_part = next((part for part, size in wanted.items() if len(parts[part]) < size), None)
        if open_part is None or left <= 1:
            break
        parts[open_part] += members[group]
        left -= 1
    return parts


def _split_classes(
    classes: Sequence[Hashable], wanted: Mapping[str, int], count: int, rng: np.random.Generator
) -> dict[str, list[int]]:
    members = _collect(classes)
    shuffled = {name: [rows[index] for index in rng.permutation(len(rows))] for name, rows in members.items()}
    parts: dict[str, list[int]] = {}
    for part, size in wanted.items():
        parts[part] = []
        available = {name: len(rows) - 1 for name, rows in shuffled.items()}
        ideal = {name: min(size * len(members[name]) / count, available[name]) for name in members}
        quota = _round_to(ideal, size, available)
        for name, number in quota.items():
            parts[part] += [shuffled[name].pop() for _ in range(number)]
    return parts


def _round_to(ideal: Mapping[Hashable, float], size: int, available: Mapping[Hashable, int]) -> dict[Hashable, int]:
    """Whole numbers near the ideal ones whose sum is `size` as far as there are rows (largest remainder)."""
    quota = {name: int(share) for name, share in ideal.items()}
    by_remainder = sorted(ideal, key=lambda name: (quota[name] - ideal[name], str(name)))
    for name in by_remainder:
        if sum(quota.values()) >= size:
            break
        if quota[name] < available[name]:
            quota[name] += 1
    return quota


def _collect(names: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        members[name].append(position)
    return members
