"""The status as it is written to the API server."""

from __future__ import annotations

import json

from finetune_contract.progress import EvaluationResult
from finetune_contract.status import BestCheckpoint, FineTuneJobStatus, ProgressStatus, UsageStatus
from tests.contract.make import make_status

INFINITE, NOT_A_NUMBER = float("inf"), float("nan")


def test_figures_that_json_cannot_write_are_absent() -> None:
    status = make_status(
        progress=ProgressStatus(step=1, loss=NOT_A_NUMBER, metrics={"loss": 2.5, "perplexity": INFINITE}),
        evaluation=EvaluationResult(test={"perplexity": INFINITE}),
        best_checkpoint=BestCheckpoint(step=1, uri="s3://a/b", metric="loss", value=NOT_A_NUMBER),
        usage=UsageStatus(goodput=NOT_A_NUMBER),
    )
    data = status.to_data()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert "loss" not in data["progress"]
    assert data["progress"]["metrics"] == {"loss": 2.5}
    assert data["evaluation"]["test"] == {}
    assert "bestCheckpoint" not in data
    assert FineTuneJobStatus.from_data(data).to_data() == data


def test_a_whole_status_is_written_as_it_is() -> None:
    status = make_status()
    assert FineTuneJobStatus.from_data(status.to_data()) == status
