"""`finetune render`: the Kubernetes objects that the operator makes of a job, for reading and for review.

The constructors are the operator's own; the uid, which the cluster gives, is a placeholder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

from finetune_cli.job_file import read_one_job
from finetune_cli.output import OutputFormat, print_json, talk
from finetune_cli.yaml_scalars import resolve_scalar
from finetune_contract.exits import CommandExit
from finetune_contract.names import ROLE_PREPARE
from finetune_contract.spec import FineTuneJob

PLACEHOLDER_UID: Final = "00000000-0000-0000-0000-000000000000"


def print_objects(file: Path, output: OutputFormat) -> CommandExit:
    """Print the objects of a file's job. Raises InvalidError."""
    objects = make_objects(read_one_job(file))
    talk().print(f"{len(objects)} objects; the cluster gives the uid {PLACEHOLDER_UID} a value")
    if output is OutputFormat.JSON:
        print_json({"apiVersion": "v1", "kind": "List", "items": objects})
    else:
        sys.stdout.write(dump_yaml(objects))
    return CommandExit.DONE


def make_objects(job: FineTuneJob) -> list[dict[str, Any]]:
    """ConfigMap, the prepare pod where there is one, and the trainer pods of all nodes."""
    from finetune_operator.plan.objects.config import make_config_map
    from finetune_operator.plan.objects.defaults import TrainerDefaults
    from finetune_operator.plan.objects.pod import make_pod
    from finetune_operator.plan.resolve import build_run_config

    job = job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": PLACEHOLDER_UID})})
    run, defaults = build_run_config(job), TrainerDefaults()
    prepare = [make_pod(job, run.resolved, defaults, role=ROLE_PREPARE)] if run.resolved.prepare == "pod" else []
    trainers = [make_pod(job, run.resolved, defaults, node_index=index) for index in range(run.resolved.nodes)]
    return [make_config_map(job, run), *prepare, *trainers]


def dump_yaml(documents: list[dict[str, Any]]) -> str:
    """YAML that kubectl reads as exactly these values."""
    return yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000, explicit_start=True
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what kubectl would take for a number or boolean, and writes long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if not _stays_text(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _stays_text(text: str) -> bool:
    try:
        return isinstance(resolve_scalar(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _represent_text)
