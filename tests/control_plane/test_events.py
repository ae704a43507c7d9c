"""Every event is documented, and every reason has its place on that page.

What jobs really say is tried by test_machine.
"""

from __future__ import annotations

from finetune_contract import names
from finetune_contract.names import Reason
from finetune_contract.progress import Straggler
from finetune_contract.status import FineTuneJobStatus
from finetune_operator.plan import events
from tests.contract.make import make_condition
from tests.control_plane.event_table import list_documented_events, list_silent_reasons
from tests.control_plane.make import make_closed, make_record


def test_every_reason_stands_on_the_page_once() -> None:
    reasons = sorted(value for name, value in vars(Reason).items() if name.isupper())
    documented = [reason for _, reason in list_documented_events()]
    assert sorted([*documented, *list_silent_reasons()]) == reasons


def test_events_are_of_the_documented_type() -> None:
    attempt = make_closed(micro_batch_size=2)
    said = [
        events.pods_created(names.ROLE_TRAINER, 2),
        events.attempt_began(attempt),
        events.attempt_resumed(attempt),
        events.attempt_failed(attempt),
        events.attempt_stopped(attempt),
        events.micro_batch_reduced(attempt),
        events.steps_skipped(3),
        events.node_avoided("node-a"),
        events.straggler_detected(1, Straggler(rank=1, ratio=2.0)),
        events.checkpoint_verified(make_record()),
        events.job_resumed(make_condition(names.CONDITION_SUSPENDED, "False", Reason.RESUMED)),
        events.became_true(make_condition(names.CONDITION_DATA_READY, "True", Reason.PREPARED)),
        events.attempt_runs(2, make_condition(names.CONDITION_RUNNING, "True", Reason.TRAINING)),
        events.failed(make_condition(names.CONDITION_FAILED, "True", Reason.GATE_FAILED)),
    ]
    assert {(event.type, event.reason) for event in said} <= list_documented_events()


def test_each_attempt_says_that_it_trains() -> None:
    running = make_condition(names.CONDITION_RUNNING, "True", Reason.TRAINING)
    before = FineTuneJobStatus(attempts=(make_closed(2, end_time=None, failure=None, result="Running"),))
    after = before.model_copy(update={"conditions": (running,)})
    (event,) = events.derive_events(before, after)
    assert (event.reason, event.note) == ("Training", f"Attempt 2: {running.message}")


def test_job_that_ends_while_it_is_held_says_only_that() -> None:
    held = FineTuneJobStatus(conditions=(make_condition(names.CONDITION_SUSPENDED, "True", Reason.SUSPENDED),))
    over = FineTuneJobStatus(
        conditions=(
            make_condition(names.CONDITION_SUSPENDED, "False", Reason.INVALID_SPEC),
            make_condition(names.CONDITION_FAILED, "True", Reason.INVALID_SPEC),
        )
    )
    assert [(each.type, each.action) for each in events.derive_events(held, over)] == [("Warning", "Failed")]


def test_every_event_speaks_in_a_sentence_and_one_word_of_what_was_done() -> None:
    event = events.attempt_failed(make_closed())
    assert event.note.endswith(".")
    assert event.action.isalpha()
