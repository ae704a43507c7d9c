from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from tests.ground import layout as layouts
from tests.ground.layout import BLOCKS, MAX_NODES, SLOTS, Layout, claim_slot, current_layout, preferred_slot


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(layouts, "RUN_FOLDER", tmp_path / "run")
    return tmp_path


def test_blocks_of_two_slots_share_no_address() -> None:
    blocks = [Layout(slot).block for slot in range(SLOTS)]
    assert all(block.subnet_of(BLOCKS) for block in blocks)
    assert not any(one.overlaps(other) for one, other in combinations(blocks, 2))


def test_parts_of_a_block_share_no_address() -> None:
    layout = Layout(7)
    assert layout.pods.subnet_of(layout.block)
    assert layout.services.subnet_of(layout.block)
    assert not layout.pods.overlaps(layout.services)
    assert layout.host_end not in layout.services
    assert layout.host_end not in layout.pods


def test_nodes_hand_out_disjoint_pod_addresses_within_the_network() -> None:
    layout = Layout(SLOTS - 1)
    ranges = [layout.pod_range(node) for node in range(1, MAX_NODES + 1)]
    assert layout.gateway < ranges[0][0]
    assert all(ranges[i][1] < ranges[i + 1][0] for i in range(MAX_NODES - 1))
    assert ranges[-1][1] < layout.pods.broadcast_address


def test_a_clone_keeps_its_slot_and_another_one_gets_the_next(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "preferred_slot", lambda folder: 5)
    clones = [run_folder / "one", run_folder / "two"]
    for clone in clones:
        clone.mkdir()
    assert [claim_slot(clone).slot for clone in (*clones, *clones)] == [5, 6, 5, 6]
    assert current_layout(clones[1]) == Layout(6, clones[1])


def test_the_slot_of_a_clone_that_was_deleted_is_free(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "preferred_slot", lambda folder: 5)
    claim_slot(run_folder / "deleted")
    (run_folder / "other").mkdir()
    assert claim_slot(run_folder / "other").slot == 5


def test_the_preferred_slot_depends_on_the_folder_alone() -> None:
    assert preferred_slot(Path("/a")) == preferred_slot(Path("/a")) != preferred_slot(Path("/b"))
