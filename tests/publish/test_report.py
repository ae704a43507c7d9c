"""The Report is a pure function of the run's documents."""

from __future__ import annotations

import json
import math

from finetune_contract.progress import EvaluationResult, GateResult
from finetune_contract.report import CurvePoint, Report, evaluation_of
from finetune_trainer.publish.report import MAX_POINTS, build_report, describe_verdict, shorten_spec, thin_curve
from tests.publish.make import (
    PUBLISHED,
    make_checkpoints,
    make_curves,
    make_data,
    make_evaluation,
    make_failed_evaluation,
    make_final,
    make_inputs,
    make_report,
    make_run,
    make_spec,
)


def test_a_run_that_passed_its_gates_becomes_this_report() -> None:
    run, final, evaluation = make_run(), make_final(), make_evaluation()
    report = build_report(make_inputs(run=run, final=final), PUBLISHED)
    assert report == Report(
        task="text-classification",
        job=run.job,
        model="hf://sentence-transformers/all-MiniLM-L6-v2",
        model_revision="8b3219a92973c328a8e22fadcfa821b5dc75636a",
        succeeded=True,
        reason="Published",
        message="Published: F1 (macro) on test is 0.9713 (at least 0.9500 was asked for); "
        "Accuracy on test is 0.9745 (at least 0.9400 was asked for).",
        metrics={
            "validation": evaluation.validation,
            "test": evaluation.test,
            "baseline": evaluation.baseline,
        },
        gate=evaluation.gate,
        published=PUBLISHED,
        best_step=160,
        total_steps=207,
        attempt=1,
        resolved=run.resolved,
        spec=make_spec(
            evaluation={"everySteps": 20, "gate": [{"metric": "f1", "min": 0.95}, {"metric": "accuracy", "min": 0.94}]}
        ),
        config_digest=report.config_digest,
        data=make_data(),
        checkpoints=(
            make_checkpoints()[0].model_copy(update={"state": "Promoted"}),
            *make_checkpoints()[1:],
        ),
        curves=make_curves(),
        confusion=final.confusion,
        worst_examples=final.worst_examples,
        parameters_total=22_713_986,
        parameters_trained=22_713_986,
        seconds=843.2,
        program="0.1.0",
        versions={"finetune-operator": "0.1.0"} | final.versions,
    )
    assert evaluation_of(report) == evaluation


def test_a_missed_gate_leaves_nothing_published() -> None:
    report = build_report(make_inputs(final=make_final(evaluation=make_failed_evaluation())), PUBLISHED)
    assert (report.succeeded, report.reason, report.published, report.message) == (
        False,
        "GateFailed",
        None,
        "Not published: F1 (macro) on test is 0.9713, below the minimum 0.9900.",
    )


def test_the_judged_checkpoint_is_rejected_where_a_gate_was_missed() -> None:
    report = build_report(make_inputs(final=make_final(evaluation=make_failed_evaluation())), None)
    assert [record.state for record in report.checkpoints] == ["Rejected", "Evaluated", "Evaluated"]


def test_every_kind_of_gate_has_its_words() -> None:
    def say(**gate: float | bool | None) -> str:
        return describe_verdict([GateResult(metric="loss", split="validation", **{"value": None, **gate})])  # type: ignore[arg-type]

    assert [
        say(value=0.5, max=0.4, passed=False),
        say(value=math.nan, min=0.4, passed=False),
        say(max=0.4, passed=False),
        say(value=0.5, min=0.4, max=0.6, passed=True),
    ] == [
        "Not published: Loss on validation is 0.5000, above the maximum 0.4000.",
        "Not published: Loss on validation is not a number, below the minimum 0.4000.",
        "Not published: Loss on validation was not measured.",
        "Published: Loss on validation is 0.5000 (at least 0.4000 and at most 0.6000 was asked for).",
    ]
    assert describe_verdict([]) == "Published; no gate was set."


def test_the_report_is_json_for_everybody_even_after_a_diverged_run() -> None:
    evaluation = EvaluationResult(
        test={"loss": math.inf, "accuracy": 0.5},
        gate=(GateResult(metric="loss", split="test", value=math.nan, max=1.0, passed=False),),
    )
    curves = {"train/loss": (CurvePoint(step=1, value=2.0), CurvePoint(step=2, value=math.nan))}
    report = make_report(make_inputs(final=make_final(evaluation=evaluation, curves=curves)))
    json.loads(report.to_json(), parse_constant=lambda constant: (_ for _ in ()).throw(AssertionError(constant)))
    assert (report.metrics, report.curves) == (
        {"test": {"accuracy": 0.5}},
        {"train/loss": (CurvePoint(step=1, value=2.0),)},
    )


def test_the_spec_is_shown_as_written_without_what_may_be_secret() -> None:
    spec = make_spec(
        data={"train": {"source": "https://me:key@host/rows.csv?signature=abc"}},
        pod={"env": [{"name": "HF_TOKEN", "value": "hf_abc"}]},
    )
    assert shorten_spec(make_run(spec)) == spec | {
        "data": {"train": {"source": "https://host/rows.csv"}},
        "pod": {"env": [{"name": "HF_TOKEN"}]},
    }


def test_the_spec_is_short_although_the_run_config_went_through_a_file() -> None:
    run = make_run()
    assert shorten_spec(type(run).from_json(run.to_json())) == shorten_spec(run)


def test_long_curves_are_thinned_without_losing_spikes_ends_and_the_best_step() -> None:
    points = [CurvePoint(step=step, value=1.0 + step % 7 / 100) for step in range(1, 20_001)]
    points[12_344] = CurvePoint(step=12_345, value=99.0)
    kept = thin_curve(points, best_step=777)
    steps = {point.step for point in kept}
    assert len(kept) <= MAX_POINTS
    assert {1, 777, 12_345, 20_000} <= steps
    assert [point.step for point in kept] == sorted(steps)


def test_the_config_digest_moves_with_the_config_only() -> None:
    digests = {build_report(make_inputs(attempt=attempt), None).config_digest for attempt in (1, 2)}
    other = build_report(make_inputs(run=make_run(learning_rate=2e-4)), None).config_digest
    assert len(digests) == 1
    assert other not in digests
