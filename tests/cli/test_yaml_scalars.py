"""YAML scalars mean what they mean to kubectl: the table below holds on the real API server and in our reader."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.yaml_scalars import resolve_scalar

TABLE: dict[str, Any] = {
    "2e-5": 2e-5,
    "2.0e-5": 2e-5,
    "1e6": 1000000,
    "1E6": 1000000,
    "1e+3": 1000,
    "1e": "1e",
    "1e400": "1e400",
    "2.0": 2,
    "2.50": 2.5,
    "1.": 1,
    ".5": 0.5,
    "+.5": 0.5,
    "-.5": -0.5,
    "._5": "._5",
    ".": ".",
    "+1": 1,
    "-1": -1,
    "-0": 0,
    "-0.0": 0,
    "0": 0,
    "00": 0,
    "010": 8,
    "08": 8,
    "0777": 511,
    "0o10": 8,
    "0O7": 7,
    "0o8": "0o8",
    "0x1f": 31,
    "0X1F": 31,
    "-0x1f": -31,
    "0x": "0x",
    "0b11": 3,
    "-0b1": -1,
    "0b-1": -1,
    "0b12": "0b12",
    "1_000": 1000,
    "1__0": 10,
    "1_": 1,
    "_1": "_1",
    "0x_1f": 31,
    "1._5": 1.5,
    "12:30:00": "12:30:00",
    "1:30": "1:30",
    "2026-01-31": "2026-01-31",
    "2026-01-31T10:00:00Z": "2026-01-31T10:00:00Z",
    "1.2.3": "1.2.3",
    "64Gi": "64Gi",
    "9007199254740993": 9007199254740993,
    "9223372036854775807": 9223372036854775807,
    "9223372036854775808": 9223372036854775808.0,
    "18446744073709551615": 18446744073709551615.0,
    "99999999999999999999": 1e20,
    "0x1ffffffffffffffffff": "0x1ffffffffffffffffff",
    "1e21": 1e21,
    "true": True,
    "True": True,
    "TRUE": True,
    "tRUE": "tRUE",
    "yes": True,
    "Yes": True,
    "y": True,
    "Y": True,
    "on": True,
    "On": True,
    "no": False,
    "n": False,
    "off": False,
    "OFF": False,
    "false": False,
    "null": None,
    "Null": None,
    "~": None,
    "nil": "nil",
    "none": "none",
    "text": "text",
    "hf://owner/name": "hf://owner/name",
}


@pytest.mark.parametrize(("text", "value"), TABLE.items())
def test_a_scalar_means_what_it_means_to_kubectl(text: str, value: Any) -> None:
    found = resolve_scalar(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.inf", "+.Inf"])
def test_what_json_cannot_hold_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="no number"):
        resolve_scalar(text)


def test_the_api_server_receives_the_same_scalars(control_plane: Path) -> None:
    group = f"scalars-{uuid.uuid4().hex[:8]}.example.com"
    kubectl(control_plane, "apply", "-f", "-", stdin=json.dumps(make_open_crd(group)))
    kubectl(control_plane, "wait", "--for=condition=Established", f"crd/things.{group}", "--timeout=30s")
    lines = "".join(f"  - {text}\n" for text in TABLE)
    thing = f"apiVersion: {group}/v1\nkind: Thing\nmetadata: {{name: scalars}}\nvalues:\n{lines}"
    kubectl(control_plane, "apply", "-f", "-", stdin=thing)
    stored = json.loads(kubectl(control_plane, "get", f"things.{group}", "scalars", "-o", "json"))["values"]
    # kubectl prints a large float with all its digits, which Python reads as an integer of equal value.
    shown = [float(value) if isinstance(value, int) and abs(value) >= 2**63 else value for value in stored]
    assert dict(zip(TABLE, shown, strict=True)) == TABLE
    assert [type(value) for value in shown] == [type(value) for value in TABLE.values()]


def make_open_crd(group: str) -> dict[str, Any]:
    """A kind that keeps whatever it is given."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Cluster",
            "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None) -> str:
    command = ["kubectl", f"--kubeconfig={kubeconfig}", *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
