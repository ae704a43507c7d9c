"""What this version cannot do yet is refused in a sentence, before anything starts."""

from __future__ import annotations

import pytest

from finetune_contract.names import LABEL_QUEUE
from finetune_contract.spec.strategy import SUPPORTED_METHODS
from finetune_contract.spec.task import SUPPORTED_TASKS
from finetune_contract.support import check_support
from tests.contract.make import Data, make_job

UNSUPPORTED: dict[str, Data] = {
    "spec.task": {"task": "translation"},
    "spec.strategy.method": {"strategy": {"method": "ia3"}},
    "spec.training.packing": {"task": "text-generation", "training": {"packing": True}},
    "spec.data.deduplicate.method": {"data": {"deduplicate": {"method": "near"}}},
}


@pytest.mark.parametrize(("field", "spec"), UNSUPPORTED.items(), ids=UNSUPPORTED)
def test_the_field_is_named_with_what_to_do(field: str, spec: Data) -> None:
    sentence = check_support(make_job(spec))
    assert sentence is not None
    assert sentence.startswith(field)
    assert "remove" in sentence or "choose" in sentence


def test_a_queue_label_is_refused_by_its_name() -> None:
    sentence = check_support(make_job(labels={LABEL_QUEUE: "research"}))
    assert sentence == f"metadata.labels[{LABEL_QUEUE}]: queues are not supported yet; remove the label"


def test_what_a_job_did_not_ask_for_is_not_refused() -> None:
    assert check_support(make_job({"lifecycle": {"backoffLimit": 3}, "failurePolicy": {"numeric": "skip"}})) is None
    assert check_support(make_job({"suspend": True, "budget": {"maxGpuHours": 1}})) is None


@pytest.mark.parametrize("task", SUPPORTED_TASKS)
@pytest.mark.parametrize("method", SUPPORTED_METHODS)
def test_what_has_landed_is_accepted(task: str, method: str) -> None:
    assert check_support(make_job({"task": task, "strategy": {"method": method}})) is None
