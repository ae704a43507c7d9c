"""The ConfigMap that tells the trainers their task."""

from __future__ import annotations

from typing import Any

from finetune_contract import names
from finetune_contract.run import RunConfig
from finetune_contract.spec import FineTuneJob
from finetune_operator.plan.objects.meta import make_labels, make_owner


def make_config_map(job: FineTuneJob, run: RunConfig) -> dict[str, Any]:
    """Written once and immutable: neither an edit of the job nor a new operator changes a run under way."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.config_map_name(job.metadata.name, job.metadata.uid),
            "namespace": job.metadata.namespace,
            "labels": make_labels(job),
            "ownerReferences": [make_owner(job)],
        },
        "immutable": True,
        "data": {names.RUN_CONFIG_FILE: run.to_json(indent=2)},
    }
