"""What the audit log says of who wrote when."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

from tests.contract.server import connect
from tests.ground.audit import Write, find_overlaps, read_writes


def make_write(agent: str, begun: float, ended: float, **facts: Any) -> Write:
    return Write(
        **{
            "begun": begun,
            "ended": ended,
            "agent": agent,
            "user": "admin",
            "verb": "patch",
            "resource": "pods",
            "namespace": "ml",
            "name": "spam",
            "code": 200,
            **facts,
        }
    )


def make_line(agent: str, second: int) -> str:
    event = {
        "verb": "patch",
        "user": {"username": "operator", "extra": {"authentication.kubernetes.io/pod-name": ["operator-1"]}},
        "userAgent": agent,
        "objectRef": {"resource": "finetunejobs", "subresource": "status", "namespace": "ml", "name": "spam"},
        "responseStatus": {"code": 409},
        "requestReceivedTimestamp": f"2027-01-15T08:00:{second:02}.000000Z",
        "stageTimestamp": f"2027-01-15T08:00:{second:02}.500000Z",
    }
    return json.dumps(event) + "\n"


def test_writes_of_all_files_are_read_in_order_and_a_half_written_line_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "audit-2027.log").write_text(make_line("one", 1))
    (tmp_path / "audit.log").write_text(make_line("two", 3) + make_line("one", 2) + '{"verb": "pa')
    moment = 1_800_000_000.0
    facts: dict[str, Any] = {"user": "operator", "resource": "finetunejobs/status", "code": 409, "pod": "operator-1"}
    assert read_writes(tmp_path, agent="one") == [
        make_write("one", moment + 1, moment + 1.5, **facts),
        make_write("one", moment + 2, moment + 2.5, **facts),
    ]
    assert [write.agent for write in read_writes(tmp_path, since=moment + 2)] == ["one", "two"]


def test_clients_that_follow_each_other_do_not_overlap() -> None:
    assert find_overlaps([make_write("two", 4, 5), make_write("one", 1, 2), make_write("one", 2, 4)]) == []


def test_client_that_writes_once_more_after_another_began_is_found() -> None:
    late, first = make_write("one", 5, 6), make_write("two", 4, 9)
    assert find_overlaps([make_write("one", 1, 2), first, late]) == [(late, first)]


def test_leases_are_how_turns_are_found_and_do_not_count() -> None:
    assert find_overlaps([make_write("one", 1, 2), make_write("two", 1, 2, resource="leases")]) == []


def test_api_server_logs_who_wrote_and_no_question(control_plane: Path) -> None:
    server = connect(control_plane)
    before = time.time()
    name = f"audited-{uuid.uuid4().hex[:8]}"
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {}}
    server.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    assert server.request("POST", "/api/v1/namespaces/default/configmaps", config).accepted
    server.request("GET", f"/api/v1/namespaces/default/configmaps/{name}")
    server.request("DELETE", f"/api/v1/namespaces/default/configmaps/{name}")
    found = [each for each in read_writes(control_plane.parent, since=before - 0.001) if each.user == "admin"]
    ours = [each for each in found if each.resource != "configmaps" or each.name in ("", name)]
    assert [(each.verb, each.resource, each.code) for each in ours] == [
        ("create", "configmaps", 201),
        ("delete", "configmaps", 200),
    ]
