"""Which metric chooses the best checkpoint, and which direction is better."""

from typing import Final

_CLASSIFICATION: Final = ("text-classification", "token-classification", "image-classification")
_LOWER_IS_BETTER: Final = frozenset(
    {"loss", "perplexity", "mae", "mse", "rmse", "wer", "cer", "ter", "hamming_distance"}
)


def choose_metric(task: str) -> str:
    """The metric of a task when the user names none: macro F1 where there are classes, else the loss."""
    return "f1" if task in _CLASSIFICATION else "loss"


def is_greater_better(metric: str) -> bool:
    """True where a higher figure is a better model; errors and losses are the other way round.

    A prefix before a slash or a suffix after an underscore names a variant of the metric and does not turn it round.
    """
    name = metric.rsplit("/", 1)[-1]
    return name not in _LOWER_IS_BETTER and name.split("_", 1)[0] not in _LOWER_IS_BETTER
