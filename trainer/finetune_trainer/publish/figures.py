"""How figures are written: the one formatter of the model card and of report.html, so that they say the same.

Text only, and pure: it must not know any document.
"""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit, urlunsplit

LOWER_IS_BETTER = frozenset({"loss", "perplexity", "mae", "mse", "rmse", "wer", "cer", "ter"})
"""Metrics that improve by falling; every other one improves by rising."""

METRIC_TITLES = {"f1": "F1 (macro)", "precision": "Precision (macro)", "recall": "Recall (macro)"}
"""Metrics whose name alone does not say how classes are averaged."""

ABBREVIATIONS = {"f1": "F1", "mae": "MAE", "mse": "MSE", "rmse": "RMSE", "bleu": "BLEU", "wer": "WER", "auroc": "AUROC"}

BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def format_number(value: float) -> str:
    """A measured value with four digits: 0.9732, 12,345.7, 2.000e-05."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else f"{'-' if value < 0 else ''}infinite"
    magnitude = abs(value)
    if magnitude >= 1000:
        return f"{value:,.1f}"
    return f"{value:.4f}" if magnitude >= 0.001 or value == 0 else f"{value:.3e}"


def format_count(value: int) -> str:
    """A number of things: 12,345."""
    return f"{value:,}"


def format_share(part: float, whole: float) -> str:
    """A share in per cent with one digit; nothing has no share."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def format_change(before: float, after: float) -> str:
    """The step from one measured value to another, with its sign: +0.4423, −12.3000."""
    difference = after - before
    return f"{'−' if difference < 0 else '+'}{format_number(abs(difference))}"


def format_duration(seconds: float) -> str:
    """A time in its two largest units: 12.3 s, 1 min 35 s, 1 h 2 min, 2 d 3 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, smaller_unit, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {smaller_unit}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def format_bytes(size: float) -> str:
    """A size in binary units: 86.7 MiB."""
    exponent = min(int(math.log(size, 1024)), len(BYTE_UNITS) - 1) if size >= 1 else 0
    return f"{size / 1024**exponent:.{1 if exponent else 0}f} {BYTE_UNITS[exponent]}"


def format_parameters(count: int) -> str:
    """A number of weights as people say it: 22.7 M, 1.24 B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def format_setting(value: object) -> str:
    """A setting as a user writes it in YAML: 2e-05, true, [query, value]."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(format_setting(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {format_setting(item)}" for key, item in value.items())
    return str(value)


def format_reason(reason: str) -> str:
    """Why rows were left out, in words: in_validation_or_test."""
    return reason.replace("_", " ")


def format_digest(digest: str) -> str:
    """The first twelve characters of a digest, enough to tell two apart by eye."""
    algorithm, _, value = digest.rpartition(":")
    return f"{algorithm}:{value[:12]}" if algorithm else value[:12]


def hide_secrets(uri: str) -> str:
    """A URI without user, password and query, which may hold a signature."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def title_metric(name: str) -> str:
    """A metric's name for people: F1 (macro), Token accuracy, F1 weighted, F1 of spam."""
    metric, slash, label = name.partition("/")
    if slash:
        return f"{title_metric(metric).removesuffix(' (macro)')} of {label}"
    if name in METRIC_TITLES:
        return METRIC_TITLES[name]
    words = [ABBREVIATIONS.get(word, word) for word in re.split(r"[_ ]", name) if word]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]]) if words else name


def phrase_metric(name: str) -> str:
    """A metric's name inside a sentence: accuracy, F1 (macro)."""
    title = title_metric(name)
    return title if title[1:2].isupper() or title[1:2].isdigit() else title[:1].lower() + title[1:]


def lower_is_better(metric: str) -> bool:
    """Whether a metric improves by falling."""
    return metric.partition("/")[0] in LOWER_IS_BETTER


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """95 % interval of a share measured on so many rows (Wilson 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)
    return round(max(0.0, centre - half), 9), round(min(1.0, centre + half), 9)
