"""Names of objects and folders: bounded, unique, and never those of a job's past."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from finetune_contract import names
from finetune_contract.attempt import Attempt, Endpoint

UID = "0123456789ab-cdef"


@pytest.mark.parametrize("job", ["spam", "a" * 63, "a" * 54 + "-" + "b" * 8])
def test_object_names_are_valid_and_hold_the_uid(job: str) -> None:
    made = [
        names.pod_name(job, UID, names.ROLE_TRAINER, 1023, 99),
        names.pod_name(job, UID, names.ROLE_PREPARE, 0, 3),
        names.config_map_name(job, UID),
    ]
    for name in made:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 63
        assert "-01234-" in name
    assert len(set(made)) == len(made)


def test_names_read_well() -> None:
    assert names.pod_name("spam", UID, names.ROLE_TRAINER, 1, 2) == "spam-01234-1-2"
    assert names.pod_name("spam", UID, names.ROLE_PREPARE, 0, 1) == "spam-01234-prepare-1"
    assert names.config_map_name("spam", UID) == "spam-01234-run"
    assert names.job_folder("spam", UID) == "spam-01234567"
    assert names.job_folder("spam", "") == "spam"
    assert names.checkpoint_folder(100, 3) == "step-00000100-a3"


def test_the_rendezvous_port_moves_with_the_attempt_and_stays_in_its_range() -> None:
    ports = [names.master_port(attempt) for attempt in range(1, 130)]
    assert all(before != after for before, after in pairwise(ports))
    assert (min(ports), max(ports)) == (29500, 29563)


def test_members_of_an_attempt_are_ordered_by_number_and_not_by_text() -> None:
    members = {str(index): f"10.0.0.{index}" for index in (10, 2, 0)}
    attempt = Attempt(number=1, members=members, master=Endpoint(host="10.0.0.0", port=29501))
    assert attempt.node_indexes == (0, 2, 10)
    assert Attempt.from_json(attempt.to_json()) == attempt
