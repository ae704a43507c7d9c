"""The certificates and tokens of a control plane: one authority, one server certificate, bearer tokens for clients."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tests.ground.binaries import MissingToolError

DAYS = "3650"


@dataclass(frozen=True)
class Credentials:
    """The folder with a control plane's keys and certificates."""

    folder: Path

    def path(self, name: str) -> str:
        """Return the path of one file."""
        return str(self.folder / name)

    def token(self, user: str) -> str:
        """Return a user's bearer token."""
        rows = (line.split(",") for line in (self.folder / "tokens.csv").read_text().splitlines())
        return next(row[0] for row in rows if row[1] == user)


def make_credentials(folder: Path, addresses: Iterable[IPv4Address], users: dict[str, str]) -> Credentials:
    """Make what is missing in ``folder``; ``users`` maps each user to its group."""
    credentials = Credentials(folder)
    if (folder / "tokens.csv").exists():
        return credentials
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", DAYS,
        "-subj", "/CN=finetune-ground", "-keyout", credentials.path("ca.key"), "-out", credentials.path("ca.crt"),
    )  # fmt: skip
    names = ["DNS:localhost", *(f"DNS:kubernetes{tail}" for tail in ("", ".default", ".default.svc"))]
    names += ["DNS:kubernetes.default.svc.cluster.local", *(f"IP:{address}" for address in addresses)]
    _sign(credentials, "apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(names)}")
    _sign(credentials, "kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client", "")
    _openssl("genpkey", "-algorithm", "RSA", "-out", credentials.path("service-account.key"))
    rows = [f"{secrets.token_hex(16)},{user},{user}{f',{group}' if group else ''}\n" for user, group in users.items()]
    (folder / "tokens.csv").write_text("".join(rows))
    return credentials


def write_kubeconfig(path: Path, server: str, credentials: Credentials, user: str) -> None:
    """Write a kubeconfig (JSON is YAML) for one user."""
    authority = base64.b64encode((credentials.folder / "ca.crt").read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "ground", "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": credentials.token(user)}}],
        "contexts": [{"name": "ground", "context": {"cluster": "ground", "user": user}}],
        "current-context": "ground",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(config, indent=1) + "\n")


def _sign(credentials: Credentials, name: str, subject: str, extension: str) -> None:
    request, extensions = credentials.folder / f"{name}.csr", credentials.folder / f"{name}.ext"
    extensions.write_text(extension + "\nextendedKeyUsage=serverAuth,clientAuth\n")
    _openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", subject, "-keyout", credentials.path(f"{name}.key"), "-out", str(request),
    )  # fmt: skip
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", credentials.path("ca.crt"), "-CAkey", credentials.path("ca.key"),
        "-CAcreateserial", "-days", DAYS, "-extfile", str(extensions), "-out", credentials.path(f"{name}.crt"),
    )  # fmt: skip


def _openssl(*arguments: str) -> None:
    if shutil.which("openssl") is None:
        raise MissingToolError("openssl makes the test cluster's certificates, and is not on PATH: install it.")
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
