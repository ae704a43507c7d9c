"""`spec.evaluation`: how the model is judged, when, and what it must reach to be published."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule

MetricName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_./@-]*$")]


Bound = Annotated[float, Field(allow_inf_nan=False)]
"""Not bounded itself: loss and perplexity have no upper end, and a gate nobody can pass is a way to try a job."""


class GateSpec(Document):
    """One condition for publishing."""

    metric: MetricName
    """Name of the metric, e.g. accuracy, f1 (macro), f1_weighted, loss, perplexity."""
    split: Literal["validation", "test"] = "test"
    """The rows on which it is measured."""
    min: Bound | None = None
    """The metric must be at least this."""
    max: Bound | None = None
    """The metric must be at most this."""

    rules = (
        Rule(
            cel="has(self.min) || has(self.max)",
            message="evaluation.gate: a gate needs a bound; set min or max",
            holds=lambda gate: gate.min is not None or gate.max is not None,
        ),
        Rule(
            cel="!has(self.min) || !has(self.max) || self.min <= self.max",
            message="evaluation.gate: min is above max, so no model could pass; swap them",
            holds=lambda gate: gate.min is None or gate.max is None or gate.min <= gate.max,
            field="min",
        ),
    )


class EarlyStoppingSpec(Document):
    """End of training when the metric no longer improves."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Evaluations without improvement before training ends."""
    min_delta: Annotated[float, Field(ge=0.0, le=1_000_000.0)] = 0.0
    """What counts as an improvement."""


class EvaluationSpec(Document):
    """How the model is judged."""

    metric: MetricName | None = None
    """The metric that chooses the best checkpoint; f1 (macro) for classification, loss for generation when absent."""
    every_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Evaluate every so many optimizer steps."""
    every_epochs: Annotated[float, Field(gt=0.0, le=10_000.0)] | None = None
    """Evaluate every so many epochs; 1 when neither everySteps nor everyEpochs is set."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Rows that one GPU evaluates at a time; twice the micro-batch when absent."""
    early_stopping: EarlyStoppingSpec | None = None
    """End training when the metric no longer improves."""
    gate: Annotated[tuple[GateSpec, ...], Field(max_length=16)] = ()
    """What the model must reach on the named rows; a model that misses one of them is not published."""

    rules = (
        Rule(
            cel="!(has(self.everySteps) && has(self.everyEpochs))",
            message="evaluation: everySteps and everyEpochs exclude each other; remove one",
            holds=lambda evaluation: evaluation.every_steps is None or evaluation.every_epochs is None,
            field="everyEpochs",
        ),
    )
