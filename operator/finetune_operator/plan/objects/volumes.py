"""Volumes of a trainer pod and where they appear: ours, the user's, and the claims that the job's URIs name."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from finetune_contract import names
from finetune_contract.spec import FineTuneJob, FineTuneJobSpec

_ANNOTATION_FILES: Final = {
    names.FILE_ATTEMPT: names.ANNOTATION_ATTEMPT,
    names.FILE_STOP: names.ANNOTATION_STOP,
    names.FILE_FINISH: names.ANNOTATION_FINISH,
}
_CLAIM_SCHEME: Final = "pvc://"


class Mounted(NamedTuple):
    """A volume and its mount."""

    volume: dict[str, Any]
    mount: dict[str, Any]


def make_volumes(job: FineTuneJob, shared_memory_bytes: int) -> list[Mounted]:
    """Our own volumes, and one for each claim that a pvc:// URI names."""
    run = {"name": names.config_map_name(job.metadata.name, job.metadata.uid)}
    files = [
        {"path": path, "fieldRef": {"fieldPath": f"metadata.annotations['{annotation}']"}}
        for path, annotation in _ANNOTATION_FILES.items()
    ]
    shared = {"medium": "Memory", "sizeLimit": str(shared_memory_bytes)}
    return [
        _mount("finetune-run", {"configMap": run}, names.RUN_CONFIG_DIR, read_only=True),
        _mount("finetune-annotations", {"downwardAPI": {"items": files}}, names.ANNOTATIONS_DIR, read_only=True),
        _mount("finetune-work", {"emptyDir": {}}, names.WORK_DIR),
        _mount("finetune-tmp", {"emptyDir": {}}, "/tmp"),
        _mount("finetune-shm", {"emptyDir": shared}, "/dev/shm"),
        *_make_claims(job.spec),
    ]


def _make_claims(spec: FineTuneJobSpec) -> list[Mounted]:
    destination = _claim_of(spec.output.destination)
    parts = [spec.data.train, spec.data.validation, spec.data.test]
    sources = [_claim_of(spec.model.source), *(_claim_of(part.source) for part in parts if part is not None)]
    return [
        _mount(
            f"finetune-claim-{number}",
            {"persistentVolumeClaim": {"claimName": claim}},
            f"{names.PVC_DIR}/{claim}",
            read_only=claim != destination,
        )
        for number, claim in enumerate(sorted({claim for claim in (destination, *sources) if claim}))
    ]


def _claim_of(uri: str) -> str | None:
    if not uri.startswith(_CLAIM_SCHEME):
        return None
    return uri.removeprefix(_CLAIM_SCHEME).split("/", 1)[0]


def _mount(name: str, source: dict[str, Any], path: str, *, read_only: bool = False) -> Mounted:
    mount: dict[str, Any] = {"name": name, "mountPath": path}
    return Mounted({"name": name, **source}, mount | {"readOnly": True} if read_only else mount)
