"""The user's job as it runs on this machine: one node, its own processes, folders instead of claims.

Pure: a job in, a job out. What changes here is where the job runs and how its folders are named, never what it trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path
from typing import Any, Final

from finetune_cli.errors import InvalidError
from finetune_contract.spec import FineTuneJob

_FILE: Final = "file://"
_CLAIM: Final = "pvc://"


@dataclass(frozen=True)
class Machine:
    """What a local run has: processes, GPUs, the folders that stand for claims, the folder that ./ means (here)."""

    processes: int
    gpus: int
    claims: Mapping[str, Path]
    here: Path


def localize(job: FineTuneJob, machine: Machine) -> FineTuneJob:
    """The job for this machine: nodes x processes becomes one node with `machine.processes` processes.

    Raises InvalidError for a claim without a folder, more processes than GPUs, or fp16 without a GPU.
    """
    _check_devices(job, machine)
    data = job.to_data()
    data["metadata"] = {"name": job.metadata.name, "namespace": job.metadata.namespace}
    data.pop("status", None)
    spec = data["spec"]
    spec["resources"] = _local_resources(machine)
    spec["data"]["prepare"] = "inline"
    spec["suspend"] = False
    _rewrite_uris(spec, machine)
    return FineTuneJob.from_data(data)


def find_folder(uri: str, claims: Mapping[str, Path], here: Path) -> Path | None:
    """Folder or file of this machine that a URI means; None for buckets, the Hub and claims without a folder."""
    if uri.startswith(_FILE):
        return Path(normpath(here / uri.removeprefix(_FILE)))
    claim, _, path = uri.removeprefix(_CLAIM).partition("/")
    if uri.startswith(_CLAIM) and claim in claims:
        return claims[claim] / path
    return None


def _rewrite_uris(spec: dict[str, Any], machine: Machine) -> None:
    """Name folders by absolute file:// addresses, which mean the same to every process."""
    holders = {"spec.model.source": (spec["model"], "source")}
    for part in ("train", "validation", "test"):
        if part in spec["data"]:
            holders[f"spec.data.{part}.source"] = (spec["data"][part], "source")
    holders["spec.output.destination"] = (spec["output"], "destination")
    for field, (holder, name) in holders.items():
        holder[name] = _make_absolute(holder[name], field, machine)


def _make_absolute(uri: str, field: str, machine: Machine) -> str:
    if uri.startswith(_CLAIM) and uri.removeprefix(_CLAIM).partition("/")[0] not in machine.claims:
        claim = uri.removeprefix(_CLAIM).partition("/")[0]
        raise InvalidError(
            f"{field}: {uri} lies in the claim {claim}, which is not mounted on this machine",
            f"say which folder stands for it: --map {claim}=/path/to/folder",
        )
    path = uri.removeprefix(_FILE)
    if uri.startswith(_FILE) and not path.startswith(("/", "./", "../")):
        raise InvalidError(
            f"{field}: {uri} names a host, not a folder",
            f"write {_FILE}/{path} for an absolute path or {_FILE}./{path} for one in the current folder",
        )
    folder = find_folder(uri, machine.claims, machine.here)
    return uri if folder is None else _FILE + str(folder)


def _local_resources(machine: Machine) -> dict[str, int]:
    if machine.gpus > 0:
        return {"nodes": 1, "gpusPerNode": machine.processes}
    return {"nodes": 1, "processesPerNode": machine.processes}


def _check_devices(job: FineTuneJob, machine: Machine) -> None:
    if machine.gpus and machine.processes > machine.gpus:
        raise InvalidError(
            f"--processes {machine.processes}: this machine has {_count(machine.gpus, 'GPU')}, one for each process",
            f"use at most --processes {machine.gpus}, or CUDA_VISIBLE_DEVICES= to train on CPUs",
        )
    if not machine.gpus and job.spec.training.precision == "fp16":
        raise InvalidError(
            "spec.training.precision: fp16 needs a GPU, and this machine has none",
            "set precision: fp32 or bf16, or remove it",
        )
    if not machine.gpus and job.spec.strategy.method == "qlora":
        raise InvalidError(
            "spec.strategy.method: qlora needs a GPU, and this machine has none", "set method: lora for this machine"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def parse_claims(options: list[str]) -> dict[str, Path]:
    """--map claim=path options as a table. Raises InvalidError where one has another shape or no folder."""
    claims: dict[str, Path] = {}
    for option in options:
        claim, separator, path = option.partition("=")
        if not separator or not claim or not path:
            raise InvalidError(f"--map {option} is not of the form claim=path", "write --map models=/data/models, say")
        if not Path(path).is_dir():
            raise InvalidError(f"--map {option}: there is no folder {path}", "create it or name another one")
        claims[claim] = Path(path).absolute()
    return claims
