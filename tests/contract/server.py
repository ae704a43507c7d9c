"""The real API server as a test asks it: one request, its code and what it says."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from finetune_contract.names import GROUP, PLURAL, VERSION
from finetune_contract.schema import CRD_FILE

REPOSITORY = Path(__file__).parents[2]
JOBS = f"/apis/{GROUP}/{VERSION}/namespaces/default/{PLURAL}"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_STRICT = "fieldValidation=Strict"


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    code: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether it took the object."""
        return self.code < 300

    @property
    def message(self) -> str:
        """Its words, when it refused."""
        return str(self.body.get("message", ""))


@dataclass(frozen=True)
class Server:
    """An API server, a user that may do everything, and one connection that stays open."""

    kubeconfig: Path
    connection: http.client.HTTPSConnection
    token: str

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Answer:
        """One request; a body that is text is sent as it is."""
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind, "Accept": "application/json"}
        arguments = (method, path, text.encode() if body is not None else None, headers)
        try:
            return self._ask(*arguments)
        except (http.client.RemoteDisconnected, ssl.SSLEOFError, BrokenPipeError):
            # The server closes a connection that was idle for long.
            return self._ask(*arguments)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return Answer(answer.status, json.load(answer))
        except (OSError, http.client.HTTPException):
            self.connection.close()  # the next request opens it anew
            raise

    def try_create(self, job: dict[str, Any] | str) -> Answer:
        """Ask whether a job, as data or as YAML text, would be created; nothing is kept."""
        kind = "application/yaml" if isinstance(job, str) else "application/json"
        return self.request("POST", f"{JOBS}?dryRun=All&{_STRICT}", job, kind)

    def create(self, job: dict[str, Any]) -> Answer:
        """Create a job."""
        return self.request("POST", f"{JOBS}?{_STRICT}", job)

    def patch(self, name: str, change: dict[str, Any], subresource: str = "") -> Answer:
        """Merge a change into a job, or with subresource "status" into its status."""
        path = f"{JOBS}/{name}{'/' if subresource else ''}{subresource}?{_STRICT}"
        return self.request("PATCH", path, change, "application/merge-patch+json")

    def install_crd(self) -> Answer:
        """Apply the checked-in CRD and return it."""
        name = f"{PLURAL}.{GROUP}"
        text = (REPOSITORY / CRD_FILE).read_text(encoding="utf-8")
        query = f"?fieldManager=test&force=true&{_STRICT}"
        return self.request("PATCH", f"{_CRDS}/{name}{query}", text, "application/apply-patch+yaml")

    def read_crd(self) -> dict[str, Any]:
        """The CRD as the server holds it."""
        return self.request("GET", f"{_CRDS}/{PLURAL}.{GROUP}").body


def connect(kubeconfig: Path) -> Server:
    """Read a kubeconfig that holds a token and the authority's certificate."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    connection = http.client.HTTPSConnection(urlsplit(cluster["server"]).netloc, context=context, timeout=120)
    return Server(kubeconfig, connection, user["token"])


def is_established(crd: dict[str, Any]) -> bool:
    """Whether the server serves the CRD's objects."""
    conditions = crd["status"]["conditions"] or []
    return {"Established": "True"}.items() <= {entry["type"]: entry["status"] for entry in conditions}.items()
