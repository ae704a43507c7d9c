from __future__ import annotations

from finetune_contract import names
from finetune_contract.progress import Progress
from tests.scale.words import HOLD, MOVE, PREPARE, RUN, SAVE_SECONDS, Course, Identity, speak

FIRST, SECOND = Identity("0a1b", 0, names.ROLE_TRAINER), Identity("0a1b", 1, names.ROLE_TRAINER)


def make_course(script: str, words: int = 2) -> Course:
    """A course whose first agent was heard so many times."""
    course = Course(script)
    course.begin(1, 100.0)
    for _ in range(words):
        course.hear(100.0)
    return course


def read(who: Identity, course: Course, now: float = 100.0) -> Progress:
    return Progress.from_json(speak(who, course, now))


def test_run_says_its_words_in_order_and_ends_with_the_outcome() -> None:
    course = make_course(RUN, words=0)
    phases = [read(FIRST, course).phase]
    while course.hear(100.0):
        phases.append(read(FIRST, course).phase)
    assert phases == [
        *("Preparing", "Starting", "Training", "Training", "Training"),
        *("Finalizing", "Publishing", "Finished"),
    ]
    last = read(FIRST, course)
    assert last.news
    assert last.outcome is not None
    assert last.outcome.succeeded


def test_run_has_the_second_agent_repeat_what_the_first_was_heard_saying() -> None:
    course = make_course(RUN, words=2)
    assert (read(FIRST, course).phase, read(SECOND, course).phase) == ("Training", "Starting")


def test_hold_says_the_same_bytes_for_ever() -> None:
    course = make_course(HOLD)
    assert read(FIRST, course).phase == "Training"
    assert speak(FIRST, course, 200.0) == speak(FIRST, course, 300.0)


def test_move_does_a_step_every_second() -> None:
    course = make_course(MOVE)
    assert [read(FIRST, course, now).step.step for now in (100.0, 101.5, 110.0)] == [1, 2, 11]


def test_job_that_moves_knows_when_it_saves_next() -> None:
    course = make_course(MOVE)
    assert (read(FIRST, course).quiet_until, read(SECOND, course).quiet_until) == (100.0 + SAVE_SECONDS, None)
    course.saves_at, course.misjudged = 120.0, 1.1
    assert read(FIRST, course, 110.0).quiet_until == 121.0
    course.add_checkpoint(120.0)
    assert read(FIRST, course, 120.0).quiet_until == 120.0 + SAVE_SECONDS


def test_outcome_that_is_told_on_demand_is_the_last_word() -> None:
    course = make_course(MOVE)
    course.finished = True
    assert not course.hear(101.0)
    assert [read(who, course).phase for who in (FIRST, SECOND)] == ["Finished", "Finalizing"]


def test_failure_is_one_agents_news_until_the_next_attempt_resumes_from_the_newest_checkpoint() -> None:
    course = make_course(MOVE)
    step = course.add_checkpoint(105.0)
    course.failed_node = 1
    assert (read(SECOND, course).news, read(FIRST, course).news) == (True, False)
    course.begin(2, 110.0)
    course.hear(110.0)
    assert (read(SECOND, course, 110.0).news, read(FIRST, course, 110.0).resumed_from) == (False, step)


def test_attempt_that_is_asked_to_stop_tells_that_it_has_stopped() -> None:
    course = make_course(HOLD)
    course.stopped = 1
    assert [read(who, course).phase for who in (FIRST, SECOND)] == ["Stopped", "Stopped"]


def test_prepare_pod_tells_of_its_data_once_it_was_heard_preparing() -> None:
    course, who = Course(PREPARE, attempt=1), Identity("0a1b", 0, names.ROLE_PREPARE)
    assert (read(who, course).phase, read(who, course).data) == ("Preparing", None)
    assert course.hear(100.0)
    assert read(who, course).phase == "Finished"
    assert read(who, course).data is not None
    assert not course.hear(101.0)
