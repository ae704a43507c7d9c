"""Settings of the operator, read once from the environment. Must not be read anywhere else."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from finetune_contract import names
from finetune_operator.errors import SettingsError
from finetune_operator.plan.objects.defaults import NetworkAccess, TrainerDefaults

PREFIX: Final = "FINETUNE_OPERATOR_"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator was installed with."""

    trainer: TrainerDefaults = field(default_factory=TrainerDefaults)
    watch_namespaces: tuple[str, ...] = ()
    """Empty: the whole cluster."""
    namespace: str = "default"
    """Where the Lease lies."""
    identity: str = "finetune-operator"
    """Name of this replica."""
    log_level: str = "INFO"
    workers: int = 32
    """Jobs that are reconciled at a time."""
    agent_port: int = names.AGENT_PORT
    """Where agents are asked; another one only behind a port forward."""
    metrics_port: int = 8080
    probe_port: int = 8081

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """Namespaces to list and watch; None stands for all of them."""
        return self.watch_namespaces or (None,)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings of an environment (the process's own by default); SettingsError names the variable that is wrong."""
    read = os.environ if environment is None else environment
    image = read.get(f"{PREFIX}TRAINER_IMAGE")
    trainer = TrainerDefaults(
        **({"image": image} if image else {}),
        image_pull_policy=read.get(f"{PREFIX}TRAINER_IMAGE_PULL_POLICY") or None,
        service_account=read.get(f"{PREFIX}TRAINER_SERVICE_ACCOUNT") or None,
        network=_read_network(read),
    )
    namespaces = read.get(f"{PREFIX}WATCH_NAMESPACES", "").split(",")
    return Settings(
        trainer=trainer,
        watch_namespaces=tuple(dict.fromkeys(name.strip() for name in namespaces if name.strip())),
        namespace=read.get("POD_NAMESPACE") or "default",
        identity=read.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        log_level=_read_level(read),
        workers=_read_number(read, "WORKERS", 32),
        agent_port=_read_number(read, "AGENT_PORT", names.AGENT_PORT),
        metrics_port=_read_number(read, "METRICS_PORT", 8080),
        probe_port=_read_number(read, "PROBE_PORT", 8081),
    )


def _read_network(read: Mapping[str, str]) -> NetworkAccess | None:
    if not _read_switch(read, "NETWORK_POLICY"):
        return None
    labels = _read_json(read, "POD_LABELS", "{}")
    if not isinstance(labels, dict) or not labels:
        raise SettingsError(
            f"{PREFIX}POD_LABELS is {labels}: write the labels of the operator's pods as a JSON object, since"
            f" {PREFIX}NETWORK_POLICY is true"
        )
    peers = _read_json(read, "NETWORK_POLICY_PEERS", "[]")
    if not isinstance(peers, list) or not all(isinstance(peer, dict) for peer in peers):
        raise SettingsError(f"{PREFIX}NETWORK_POLICY_PEERS is {peers}: write a JSON list of NetworkPolicyPeers")
    return NetworkAccess(read.get("POD_NAMESPACE") or "default", labels, tuple(peers))


def _read_switch(read: Mapping[str, str], name: str) -> bool:
    text = (read.get(f"{PREFIX}{name}") or "false").lower()
    if text not in ("true", "false"):
        raise SettingsError(f"{PREFIX}{name} is {text}: write true or false")
    return text == "true"


def _read_json(read: Mapping[str, str], name: str, default: str) -> Any:
    text = read.get(f"{PREFIX}{name}") or default
    try:
        return json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{name} is no JSON ({error}): {text}") from error


def _read_level(read: Mapping[str, str]) -> str:
    level = read.get(f"{PREFIX}LOG_LEVEL", "INFO").upper()
    if level not in LEVELS:
        raise SettingsError(f"{PREFIX}LOG_LEVEL is {level}: choose one of {', '.join(LEVELS)}")
    return level


def _read_number(read: Mapping[str, str], name: str, default: int) -> int:
    text = read.get(f"{PREFIX}{name}") or str(default)
    if not text.isdecimal():
        raise SettingsError(f"{PREFIX}{name} is {text}: write a whole number")
    return int(text)
