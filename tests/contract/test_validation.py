"""The API server and Python refuse the same jobs, with messages that name the field and the remedy."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from finetune_contract.problems import Problem, list_problems
from finetune_contract.spec import FineTuneJob
from tests.contract.bad_jobs import BAD_JOBS, BadJob
from tests.contract.good_jobs import COMPLETE, GOOD_JOBS
from tests.contract.make import Data, make_data
from tests.contract.server import Server


@pytest.mark.parametrize("bad", BAD_JOBS, ids=lambda bad: bad.name)
def test_the_api_server_refuses_and_names_field_and_reason(server: Server, bad: BadJob) -> None:
    answer = server.try_create(bad.data)
    assert not answer.accepted
    assert bad.field in answer.message
    assert bad.server in answer.message


@pytest.mark.parametrize("bad", BAD_JOBS, ids=lambda bad: bad.name)
def test_python_refuses_and_names_field_and_remedy(bad: BadJob) -> None:
    blamed = [problem for problem in _problems(bad.data) if problem.field.startswith(bad.field)]
    assert len(blamed) == 1
    assert bad.remedy in blamed[0].message


@pytest.mark.parametrize("job", GOOD_JOBS.values(), ids=GOOD_JOBS)
def test_both_accept(server: Server, job: Data) -> None:
    assert server.try_create(job).message == ""
    FineTuneJob.from_data(job)


def test_the_table_is_long_enough_to_mean_something() -> None:
    assert len(BAD_JOBS) >= 45
    assert len({bad.name for bad in BAD_JOBS}) == len(BAD_JOBS)


def test_the_complete_job_writes_every_field() -> None:
    job = FineTuneJob.from_data(make_data(COMPLETE))
    written = job.spec.model_fields_set
    assert written == set(type(job.spec).model_fields)


def test_a_written_job_survives_a_round_trip() -> None:
    job = FineTuneJob.from_data(make_data(COMPLETE))
    assert FineTuneJob.from_data(job.to_data()) == job
    assert FineTuneJob.from_json(job.to_json()) == job


def _problems(data: Data) -> tuple[Problem, ...]:
    with pytest.raises(ValidationError) as raised:
        FineTuneJob.from_data(data)
    return list_problems(raised.value)
