"""Nothing that people rely on by name appears, changes or vanishes by accident."""

from __future__ import annotations

from tests.contract.surface import list_surface, read_surface


def test_nothing_that_was_promised_is_gone() -> None:
    now = set(list_surface())
    assert [line for line in read_surface() if line not in now] == []


def test_every_addition_is_written_down() -> None:
    """After a deliberate addition: python -m tests.contract.surface --update."""
    frozen = set(read_surface())
    assert [line for line in list_surface() if line not in frozen] == []


def test_no_name_is_listed_twice() -> None:
    surface = list_surface()
    assert len(set(surface)) == len(surface)
