"""What the agent is told by its environment: its run, its annotations, its work dir, its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_contract import names
from finetune_contract.run import RunConfig
from finetune_trainer.errors import UserError

Role = Literal["trainer", "prepare"]


@dataclass(frozen=True)
class Settings:
    """One agent's place in the job."""

    run: RunConfig
    run_path: Path
    annotations: Path
    """Folder of the files attempt, stop and finish."""
    work_dir: Path
    """Scratch space of this node."""
    node: int
    """Node index."""
    role: Role
    host: str
    """Address that the HTTP server binds."""
    port: int
    termination_log: Path | None
    """Where Kubernetes looks for the termination message; None in local runs."""
    machine: str | None = None
    """Kubernetes node; None in local runs."""

    def attempt_dir(self, attempt: int) -> Path:
        """Scratch of one attempt: snapshots, export, logs."""
        return self.work_dir / f"attempt-{attempt}"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings; the defaults are a pod's. Raises UserError that names the variable or the file."""
    run_path = Path(environment.get(names.ENV_RUN_CONFIG) or f"{names.RUN_CONFIG_DIR}/{names.RUN_CONFIG_FILE}")
    role = environment.get(names.ENV_ROLE) or names.ROLE_TRAINER
    if role not in {names.ROLE_TRAINER, names.ROLE_PREPARE}:
        raise UserError(f"{names.ENV_ROLE} is {role!r}; it must be {names.ROLE_TRAINER} or {names.ROLE_PREPARE}")
    termination_log = environment.get(names.ENV_TERMINATION_LOG)
    return Settings(
        run=_read_run(run_path),
        run_path=run_path,
        annotations=Path(environment.get(names.ENV_ANNOTATIONS_DIR) or names.ANNOTATIONS_DIR),
        work_dir=Path(environment.get(names.ENV_WORK_DIR) or names.WORK_DIR).absolute(),
        node=_read_number(environment, names.ENV_NODE_INDEX, 0),
        role=names.ROLE_PREPARE if role == names.ROLE_PREPARE else names.ROLE_TRAINER,
        host="" if environment.get(names.ENV_POD_IP) else "127.0.0.1",
        port=_read_number(environment, names.ENV_PORT, names.AGENT_PORT),
        machine=environment.get(names.ENV_NODE_NAME) or None,
        termination_log=Path(termination_log) if termination_log else None,
    )


def _read_run(path: Path) -> RunConfig:
    try:
        return RunConfig.from_json(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{names.ENV_RUN_CONFIG}: {path} cannot be read ({error.strerror}); mount the run's file"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{path}: this is not the RunConfig of this version ({error}); use one version's images"
        ) from error


def _read_number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
