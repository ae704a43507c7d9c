"""Metadata that all objects of a job share: labels that find them, the owner that collects them."""

from __future__ import annotations

from typing import Any

from finetune_contract import names
from finetune_contract.spec import FineTuneJob


def make_labels(job: FineTuneJob) -> dict[str, str]:
    """Labels of every object of the job."""
    return {
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_JOB: job.metadata.name,
        names.LABEL_JOB_UID: job.metadata.uid,
    }


def make_owner(job: FineTuneJob) -> dict[str, Any]:
    """The owner reference by which the cluster deletes the object with the job."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": job.metadata.name,
        "uid": job.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
